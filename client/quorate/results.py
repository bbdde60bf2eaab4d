"""Fetching what a committee agreed on, from seats that nobody trusts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from quorate.chain.gateway import ChainGateway
from quorate.delivery import open_http, read_error
from quorate.jobs import JobRecord
from quorate.progress import JobStage
from quorate.protocol.container import parse_spec
from quorate.protocol.errors import ContentUnavailable, DataError, ValidationError
from quorate.protocol.jsontext import load_json
from quorate.protocol.partition import tasks_of_bundle
from quorate.protocol.result import TaskResult, compute_merkle_root
from quorate.protocol.types import Vote
from quorate.receipts import describe_promise, find_seats
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.fetch import fetch_block, fetch_dag
from quorate.tracking import JobTracker

LEAVES_PATH = "/quorate/v1/leaves/"
MAX_LEAVES_BYTES = 64 * 1024
TIMEOUT_S = 10.0

Refusals = list[tuple[str, str]]
"""Providers that were left, each with the reason."""


@dataclass(frozen=True, slots=True)
class FetchedResult:
    """A job's verified results, in order of their tasks; `refused` names providers that lied or were away."""

    results: tuple[TaskResult, ...]
    path: Path
    bytes_received: int
    refused: tuple[tuple[str, str], ...]


def fetch_leaves(vote: Vote, providers: Sequence[str], refused: Refusals) -> list[bytes]:
    """Leaves under an accepted vote, from the first provider whose leaves hash to it.

    Raises DataError naming the liars when nobody is left and somebody lied, ContentUnavailable when all were away.
    """
    has_lied = False
    for url in providers:
        try:
            leaves = _ask_leaves(url, vote)
            if compute_merkle_root(leaves) != vote:
                raise DataError("sent leaves that are not those of the accepted vote")
            return leaves
        except DataError as error:
            has_lied = True
            refused.append((url, str(error)))
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ContentUnavailable) as error:
            refused.append((url, f"{type(error).__name__}: {error}"))
    reasons = "; ".join(f"{url}: {reason}" for url, reason in refused) or "no seat has announced an endpoint"
    kind = DataError if has_lied else ContentUnavailable
    raise kind(f"nobody served the leaves of vote 0x{vote.hex()} ({reasons}); try again later")


def _ask_leaves(url: str, vote: Vote) -> list[bytes]:
    with open_http(url, TIMEOUT_S) as client:
        answer = client.get(f"{url}{LEAVES_PATH}{vote.hex()}")
    if answer.is_error:
        raise ContentUnavailable(read_error(answer))
    if len(answer.content) > MAX_LEAVES_BYTES:
        raise DataError(f"sent {len(answer.content)} bytes of leaves")
    try:
        leaves = [bytes.fromhex(str(leaf).removeprefix("0x")) for leaf in load_json(answer.content)["leaves"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"sent no list of leaves ({error!r})") from error
    if not leaves or any(len(leaf) != 32 for leaf in leaves):
        raise DataError("sent leaves that are not of 32 bytes")
    return leaves


def fetch_task_result(
    store: BlobStore, leaf: bytes, spec_cid: str, task: int, providers: Sequence[str], refused: Refusals
) -> tuple[TaskResult, int]:
    """A task's result, put into the store without its output, and the bytes received; it is checked by its CID.

    Raises ContentUnavailable when nobody serves it, DataError when the committee agreed on rubbish.
    """
    cid = Cid.from_digest(leaf)
    report = fetch_block(store, cid, providers)
    refused.extend(report.rejected)
    result = TaskResult.from_bytes(store.get(cid))
    if result.spec != spec_cid or result.task_index != task:
        raise DataError(f"{cid} is the result of task {result.task_index} of {result.spec}, not of this job's")
    return result, report.bytes


def fetch_output(store: BlobStore, result: TaskResult, providers: Sequence[str], refused: Refusals) -> int:
    """Bring what a task put out into the store; the bytes received. Raises ContentUnavailable."""
    received = 0
    for root in (result.outputs_cid, result.stdout_cid):
        report = fetch_dag(store, Cid.parse(root), providers)
        refused.extend(report.rejected)
        received += report.bytes
    return received


def write_result(store: BlobStore, result: TaskResult, folder: Path) -> None:
    """Lay a result out: outputs/, stdout, result.json. Raises DataError when `folder` exists."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise DataError(f"{folder} exists: choose another folder") from error
    (folder / "result.json").write_bytes(result.to_bytes())
    store.export(Cid.parse(result.stdout_cid), folder / "stdout")
    store.export(Cid.parse(result.outputs_cid), folder / "outputs")


class ResultReader:
    """An accepted job's results, at the seats that voted for them. Raises ValidationError for a job without one."""

    def __init__(self, gateway: ChainGateway, store: BlobStore, record: JobRecord, tracker: JobTracker) -> None:
        if tracker.stage != JobStage.ACCEPTED:
            stage = tracker.stage.value if tracker.stage else "not posted yet"
            raise ValidationError(f"job 0x{record.job_id.hex()} is {stage}: there is no accepted result to fetch")
        self._gateway, self._store, self._record, self._tracker = gateway, store, record, tracker

    def fetch(self, dest: Path) -> FetchedResult:
        """Results with their output, written to `dest`, which must not exist; several tasks to folders in it."""
        if dest.exists():
            raise ValidationError(f"{dest} exists: choose another folder")
        refused: Refusals = []
        results, received = self._collect(refused, with_output=True)
        for result in results:
            write_result(self._store, result, dest if len(results) == 1 else dest / str(result.task_index))
        return FetchedResult(tuple(results), dest, received, tuple(refused))

    def read(self) -> tuple[TaskResult, ...]:
        """Results without their output: how each task ended."""
        return tuple(self._collect([], with_output=False)[0])

    def find_cid(self) -> Cid:
        """Where the first task's result is, whoever has its bytes."""
        number, vote = self._bundles()[0]
        return Cid.from_digest(fetch_leaves(vote, self._providers_of(number), [])[0])

    def _collect(self, refused: Refusals, *, with_output: bool) -> tuple[list[TaskResult], int]:
        """Results of all tasks, and the bytes received."""
        spec_cid = parse_spec(self._record.spec.encode()).cid
        results, received = list[TaskResult](), 0
        for index, (number, vote) in enumerate(self._bundles()):
            providers, tasks = self._providers_of(number), tasks_of_bundle(self._record.order.task_count, index)
            try:
                leaves = fetch_leaves(vote, providers, refused)
                if len(leaves) != len(tasks):
                    raise ContentUnavailable(f"the vote 0x{vote.hex()} has {len(leaves)} leaves for {len(tasks)} tasks")
                for task, leaf in zip(tasks, leaves, strict=True):
                    result, size = fetch_task_result(self._store, leaf, spec_cid, task, providers, refused)
                    received += size + (fetch_output(self._store, result, providers, refused) if with_output else 0)
                    results.append(result)
            except ContentUnavailable as error:
                promise = describe_promise(self._gateway, self._tracker, number)
                raise ContentUnavailable(f"{error}; {promise}") from error
        return results, received

    def _bundles(self) -> list[tuple[int, Vote]]:
        """Number and vote of each bundle."""
        bundles = sorted(self._tracker.bundles.items())
        return [(number, Vote(bundle.vote)) for number, bundle in bundles if bundle.vote]

    def _providers_of(self, bundle: int) -> list[str]:
        """Endpoints of seats that voted for the accepted result, then of everybody else: the class may have voted."""
        endpoints, vote = self._gateway.endpoints(), self._tracker.bundles[bundle].vote
        voters = [s["operator"] for s in find_seats(self._gateway, self._tracker, bundle) if s["vote"] == vote]
        return list(dict.fromkeys([*(endpoints[id_] for id_ in voters if id_ in endpoints), *endpoints.values()]))
