"""How results lie on a disk, and in one directory's CID."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from quorate.chain.types import write_atomically
from quorate.protocol.errors import DataError, ValidationError
from quorate.protocol.result import TaskResult
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.tasks import TaskList

MARK = ".quorate-job"
"""Names the job that a folder is of, so that no other is written over."""
_LINE = re.compile(r"\d+ [0-9a-f]{64}")
_SILENT = str(Cid.of(b""))
"""What a task says that says nothing."""
TASKS_NAME = "tasks.json"


def write_result(store: BlobStore, result: TaskResult, folder: Path) -> None:
    """Lay a result out: outputs/, stdout, result.json. Raises DataError when `folder` exists."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise DataError(f"{folder} exists: choose another folder") from error
    (folder / "result.json").write_bytes(result.to_bytes())
    store.export(Cid.parse(result.stdout_cid), folder / "stdout")
    store.export(Cid.parse(result.outputs_cid), folder / "outputs")


def check_mirror(folder: Path, job_id: bytes) -> list[str]:
    """What an earlier fetch of the same job noted in `folder`, line by line; nothing where it is not there yet.

    Raises ValidationError for any other folder.
    """
    if not folder.exists():
        return []
    mark = folder / MARK
    found, *lines = mark.read_text().splitlines() if mark.is_file() else [""]
    if found != job_id.hex():
        raise ValidationError(f"{folder} exists, and is not of this job: choose another folder")
    return lines


class Mirror:
    """A folder in which results lie as their input does, each at the path of its task's first file.

    They may come part by part, while others run. What is there already was written whole, and stays, unless another
    vote had been accepted then: a challenge may have undone that. Raises ValidationError for another job's folder.
    """

    def __init__(self, store: BlobStore, tasks: TaskList, folder: Path, job_id: bytes) -> None:
        lines = check_mirror(folder, job_id)
        # By a bundle's first task. Nothing was written yet of that which a line is about that was cut off.
        self._votes = dict(line.split() for line in lines if _LINE.fullmatch(line))
        self._store, self._tasks, self._folder, self._mark = store, tasks, folder, folder / MARK
        known = (f"{first} {vote}" for first, vote in self._votes.items())
        write_atomically(self._mark, "".join(f"{line}\n" for line in (job_id.hex(), *known)))

    def add(self, bundle: range, vote: bytes, results: Sequence[TaskResult]) -> None:
        """Write what some of a bundle's tasks left, by the vote that was accepted for it."""
        first, known = str(bundle.start), self._votes.get(str(bundle.start))
        if known is not None and known != vote.hex():
            self.remove(bundle)
        if known != vote.hex():
            with self._mark.open("a") as mark:
                mark.write(f"{first} {vote.hex()}\n")
            self._votes[first] = vote.hex()
        with tempfile.TemporaryDirectory(prefix=".quorate-export-", dir=self._folder) as work:
            for name, cid in _list_places(self._tasks, results):
                dest = self._folder / name
                if not dest.exists():
                    self._store.export(cid, dest, work=Path(work))

    def remove(self, bundle: range) -> None:
        """Take away what a bundle's tasks left."""
        for path in (self._tasks.tasks[task].paths[0] for task in bundle):
            for dest in (self._folder / "outputs" / path, self._folder / "stdout" / path):
                if dest.is_dir():
                    shutil.rmtree(dest)
                else:
                    dest.unlink(missing_ok=True)

    def finish(self, results: Sequence[TaskResult]) -> None:
        """Tell of all that were added."""
        write_atomically(self._folder / TASKS_NAME, describe_tasks(self._tasks, results))


def add_mirror(store: BlobStore, tasks: TaskList, results: Sequence[TaskResult]) -> Cid:
    """One directory of all results, as `Mirror` lays them out: of CIDs, without reading what they name."""
    entries: dict[str, bytes | Path | Cid] = dict(_list_places(tasks, results))
    return store.add_tree(entries | {TASKS_NAME: describe_tasks(tasks, results).encode()})


def _list_places(tasks: TaskList, results: Sequence[TaskResult]) -> Iterator[tuple[str, Cid]]:
    for result in results:
        path = tasks.tasks[result.task_index].paths[0]
        yield f"outputs/{path}", Cid.parse(result.outputs_cid)
        if result.stdout_cid != _SILENT:
            yield f"stdout/{path}", Cid.parse(result.stdout_cid)


def describe_tasks(tasks: TaskList, results: Sequence[TaskResult]) -> str:
    """JSON: an array with a line for each task."""
    lines = ",\n".join(json.dumps(describe_task(result, tasks), ensure_ascii=False) for result in results)
    return f"[\n{lines}\n]\n"


def describe_task(result: TaskResult, tasks: TaskList | None) -> dict[str, Any]:
    """How one task ended; `paths` only where the job is divided over files."""
    told = {
        "task": result.task_index,
        "status": result.status.value,
        "exit_code": result.exit_code,
        "outputs": result.outputs_cid,
        "stdout": result.stdout_cid,
        "result": result.cid,
    }
    return told if tasks is None else told | {"paths": list(tasks.tasks[result.task_index].paths)}
