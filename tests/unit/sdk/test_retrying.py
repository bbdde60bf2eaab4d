"""Jobs of what failed in others: its files, the same program, other limits, and when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.node.simulation import Network0

from quorate.jobs import JobRecord
from quorate.protocol.errors import ValidationError
from quorate.protocol.result import EXIT_OUT_OF_FUEL, TaskResult, TaskStatus
from quorate.protocol.spec import Limits, Partition
from quorate.protocol.types import JobId
from quorate.retrying import prepare_retry
from quorate.spec import PreparedSpec, find_tasks, prepare_spec
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.memory import MemoryStore

FILES = {f"{folder}/{number}.tif": b"%d" % number * 9 for folder in "ab" for number in range(4)}


def make_job(store: BlobStore, tmp_path: Path, batch_size: int = 1) -> tuple[JobRecord, PreparedSpec]:
    module = tmp_path / "program.wasm"
    module.write_bytes(b"\0asm program")
    root = store.add_tree(FILES)
    prepared = prepare_spec(
        store, str(module), str(root), args=["-v"], limits=Limits(fuel=5), partition=Partition("*.tif", batch_size)
    )
    order = Network0().order()
    spec = prepared.spec.to_bytes().decode()
    return JobRecord(JobId(bytes(32)), order.order, order.signature, spec, 1, order.order.requester, 0, 0.0), prepared


def end(store: BlobStore, prepared: PreparedSpec, failed: set[int]) -> list[TaskResult]:
    empty = str(store.add_tree({}))
    ok, bad = (TaskStatus.OK, 0), (TaskStatus.OUT_OF_FUEL, EXIT_OUT_OF_FUEL)
    count = range(prepared.task_count)
    return [TaskResult(prepared.spec.cid, n, *(bad if n in failed else ok), empty, empty) for n in count]


def test_only_files_of_failed_tasks_are_in_it(tmp_path: Path) -> None:
    store = MemoryStore()
    record, first = make_job(store, tmp_path, batch_size=3)
    tasks, results = find_tasks(store, first.spec), end(store, first, {0, 2})
    again = prepare_retry(store, record, tasks, results, 70, ["memory_bytes=131072"], ())
    assert again.task_count == 2
    found = find_tasks(store, again.spec)
    assert found is not None
    assert [task.paths for task in found.tasks] == [("a/0.tif", "a/1.tif", "a/2.tif"), ("b/2.tif", "b/3.tif")]
    assert store.is_complete(Cid.parse(again.spec.input or ""))
    assert again.spec.limits == Limits(fuel=70, memory_bytes=131072)
    assert (again.spec.args, again.spec.contents[0]) == (("-v",), first.spec.contents[0])
    assert again.input_bytes is not None
    assert first.input_bytes is not None
    assert 0 < again.input_bytes < first.input_bytes


def test_there_is_none_where_nothing_failed_or_nothing_was_divided(tmp_path: Path) -> None:
    store = MemoryStore()
    record, first = make_job(store, tmp_path)
    tasks = find_tasks(store, first.spec)
    with pytest.raises(ValidationError, match="nothing to run again"):
        prepare_retry(store, record, tasks, end(store, first, set()), None, (), ())
    with pytest.raises(ValidationError, match="not divided over files"):
        prepare_retry(store, record, None, end(store, first, {1}), None, (), ())
    with pytest.raises(ValidationError, match="NAME=NUMBER"):
        prepare_retry(store, record, tasks, end(store, first, {1}), None, ["fuel=3"], ())
