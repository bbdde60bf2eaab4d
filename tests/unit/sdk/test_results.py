"""Results that come while a job runs: bundle by bundle, from a seat that serves them over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.unit.sdk.test_delivery import JOB_ID, ORDER, SIGNED

from quorate.bundles import gather_contents, gather_results
from quorate.jobs import JobRecord
from quorate.layout import MARK, TASKS_NAME, Mirror
from quorate.progress import JobProgress, JobStage, TrackedBundle
from quorate.protocol.errors import ContentUnavailable, ValidationError
from quorate.protocol.partition import count_bundles, tasks_of_bundle
from quorate.protocol.result import TaskResult, TaskStatus, compute_merkle_root
from quorate.protocol.spec import JobSpec, Limits, Partition
from quorate.protocol.types import Vote
from quorate.results import ResultFetch
from quorate.spec import find_tasks
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import build_gateway
from quorate.storage.serve import LoopbackServer
from quorate.tasks import TaskList
from quorate.tracking import JobTracker

FILES = 300
FIRST_BUNDLE = 7
"""Numbers count in a batch, which others' jobs share."""


class Job:
    """A job over FILES files, of which a seat has executed everything; the chain says what the test tells it."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self.theirs, self.ours = (EmbeddedStore(folder / name) for name in ("theirs", "ours"))
        self.out = folder / "out"
        module = self.ours.add_bytes(b"a program")
        root = self.ours.add_tree({f"{number:03}.dat": b"%d" % number for number in range(FILES)})
        spec = JobSpec(str(module), str(root), limits=Limits(fuel=1), partition=Partition("*", 1))
        self.spec_cid = spec.cid
        found = find_tasks(self.ours, spec)
        assert found is not None
        self.tasks: TaskList = found
        order = replace(ORDER, task_count=FILES)
        text = spec.to_bytes().decode()
        self.record = JobRecord(JOB_ID, order, SIGNED.signature, text, 31337, ORDER.requester, 0, 0.0)
        self.tracker = JobTracker(self.record.signed)
        self.tracker.bundles = {FIRST_BUNDLE + each: TrackedBundle() for each in range(count_bundles(FILES))}
        self.leaves: dict[str, list[bytes]] = {}
        self.asked: list[str] = []
        routes = [Route("/quorate/v1/leaves/{root}", self._answer), *build_gateway(self.theirs).routes]
        self.url = running.enter_context(LoopbackServer(Starlette(routes=routes))).url

    async def _answer(self, request: Request) -> Response:
        self.asked.append(request.path_params["root"])
        leaves = self.leaves.get(request.path_params["root"])
        return JSONResponse({"leaves": [leaf.hex() for leaf in leaves or ()]}, 200 if leaves else 404)

    def execute(self, bundle: int, text: str) -> Vote:
        """A vote on a bundle whose tasks all put out `text`."""
        results = list[TaskResult]()
        with self.theirs.adding() as adding:
            for task in tasks_of_bundle(FILES, bundle):
                said, left = adding.add_bytes(b"task %d\n" % task), adding.add_tree({"text": text.encode()})
                results.append(TaskResult(self.spec_cid, task, TaskStatus.OK, 0, str(said), str(left)))
                adding.put_raw(results[-1].to_bytes())
        leaves = [result.leaf for result in results]
        for cid, block in (gather_results(leaves), gather_contents(results)):
            self.theirs.put(cid, block)
        vote = Vote(compute_merkle_root(leaves))
        self.leaves[vote.hex()] = leaves
        return vote

    def accept(self, bundle: int, vote: Vote | None) -> None:
        self.tracker.bundles[FIRST_BUNDLE + bundle].vote = vote

    def end(self) -> None:
        self.tracker.history.append(JobProgress(JobStage.ACCEPTED, 0, 1, b""))

    def open(self, **how: Any) -> ResultFetch:
        gateway: Any = SimpleNamespace(endpoints=lambda: {1: self.url})
        return ResultFetch(gateway, self.ours, self.record, lambda: self.tracker, self.out, **how)

    def texts(self) -> dict[str, str]:
        return {path.parent.name: path.read_text() for path in (self.out / "outputs").rglob("text")}


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ExitStack() as running:
        yield Job(tmp_path, running)


def expect(*parts: tuple[range, str]) -> dict[str, str]:
    return {f"{task:03}.dat": text for tasks, text in parts for task in tasks}


def test_a_bundle_is_there_while_another_runs_and_comes_once(job: Job) -> None:
    fetch, seen = job.open(), list[tuple[int, int, int]]()
    fetch.take()
    assert not job.out.exists(), "a job that fails leaves no folder"
    job.accept(1, second := job.execute(1, "second"))
    fetch.take(lambda *how: seen.append(how))
    assert job.texts() == expect((range(256, 300), "second"))
    assert [each[:2] for each in seen] == [(1, 2)]
    assert not (job.out / TASKS_NAME).exists(), "not before all are here"
    with pytest.raises(ValidationError, match="not posted yet"):
        fetch.finish()
    assert len(job.texts()) == FILES - 256

    job.accept(0, first := job.execute(0, "first"))
    job.end()
    fetched = fetch.finish(lambda *how: seen.append(how))
    assert job.texts() == expect((range(256), "first"), (range(256, 300), "second"))
    assert [each[:2] for each in seen] == [(1, 2), (2, 2)]
    assert [result.task_index for result in fetched.results] == list(range(FILES))
    assert [each["task"] for each in json.loads((job.out / TASKS_NAME).read_text())] == list(range(FILES))
    assert job.asked == [second.hex(), first.hex()], "each was asked for once"
    assert fetched.root is not None
    assert job.ours.is_complete(fetched.root)


def test_what_was_accepted_by_another_vote_is_replaced(job: Job) -> None:
    job.accept(0, job.execute(0, "a lie"))
    job.accept(1, job.execute(1, "true"))
    fetch = job.open()
    fetch.take()
    assert job.texts() == expect((range(256), "a lie"), (range(256, 300), "true"))
    kept = (job.out / "outputs" / "299.dat").stat().st_ino

    job.accept(0, None)  # a challenge undid it
    fetch.take()
    assert job.texts() == expect((range(256, 300), "true"))
    job.accept(0, job.execute(0, "true"))
    job.end()
    # By another process, too, which knows no more than the folder says.
    for again in (fetch, job.open()):
        assert len(again.finish().results) == FILES
        assert job.texts() == expect((range(300), "true"))
        assert (job.out / "outputs" / "299.dat").stat().st_ino == kept


def test_an_interrupted_fetch_of_a_lie_is_replaced_by_the_next(job: Job) -> None:
    job.accept(0, job.execute(0, "a lie"))
    job.open().take()
    mark = job.out / MARK
    mark.write_text(mark.read_text() + "256 0123")  # killed while it noted the next
    job.accept(0, job.execute(0, "true"))
    job.accept(1, job.execute(1, "true"))
    job.end()
    job.open().finish()
    assert job.texts() == expect((range(300), "true"))
    assert len(mark.read_text().splitlines()) == 1 + 1 + 1 + 1, "the job, the lie, and a line for each bundle"


def test_a_seat_that_is_away_is_told_of_in_the_end_and_not_asked_meanwhile(job: Job) -> None:
    job.accept(0, vote := job.execute(0, "first"))
    job.accept(1, job.execute(1, "second"))
    leaves = job.leaves.pop(vote.hex())
    fetch = job.open()
    fetch.take()
    asked = len(job.asked)
    fetch.take()
    assert len(job.asked) == asked
    job.end()
    with pytest.raises(ContentUnavailable, match="leaves"):
        fetch.finish()
    job.leaves[vote.hex()] = leaves
    assert len(fetch.finish().results) == FILES


@pytest.mark.parametrize("spoil", [lambda mark: mark.unlink(), lambda mark: mark.write_text("ab" * 32 + "\n")])
def test_a_folder_of_anything_else_is_left_alone(job: Job, spoil: Callable[[Path], object]) -> None:
    job.accept(0, job.execute(0, "first"))
    job.open().take()
    spoil(job.out / MARK)
    before = job.texts()
    with pytest.raises(ValidationError, match="not of this job"):
        Mirror(job.ours, job.tasks, job.out, JOB_ID)
    with pytest.raises(ValidationError, match="not of this job"):
        job.open().take()
    assert job.texts() == before


def test_a_folder_of_an_older_version_goes_on(job: Job) -> None:
    job.out.mkdir()
    (job.out / MARK).write_text(JOB_ID.hex())
    job.accept(0, job.execute(0, "first"))
    job.accept(1, job.execute(1, "second"))
    job.end()
    job.open().finish()
    assert len(job.texts()) == FILES
