"""How results lie on a disk, and in one directory's CID."""

from __future__ import annotations

import json
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


def check_mirror(folder: Path, job_id: bytes) -> None:
    """ValidationError unless `folder` is not there yet, or one that an earlier fetch of the same job began."""
    if folder.exists():
        mark = folder / MARK
        if not mark.is_file() or mark.read_text() != job_id.hex():
            raise ValidationError(f"{folder} exists, and is not of this job: choose another folder")


class Mirror:
    """A folder in which results lie as their input does, each at the path of its task's first file.

    They may come part by part. What is there already was written whole, and stays. Raises ValidationError for another
    job's folder.
    """

    def __init__(self, store: BlobStore, tasks: TaskList, folder: Path, job_id: bytes) -> None:
        check_mirror(folder, job_id)
        write_atomically(folder / MARK, job_id.hex())
        self._store, self._tasks, self._folder = store, tasks, folder

    def add(self, results: Sequence[TaskResult]) -> None:
        """Write what some tasks left."""
        with tempfile.TemporaryDirectory(prefix=".quorate-export-", dir=self._folder) as work:
            for name, cid in _list_places(self._tasks, results):
                dest = self._folder / name
                if not dest.exists():
                    self._store.export(cid, dest, work=Path(work))

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
