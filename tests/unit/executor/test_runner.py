"""From a spec in the store to a result in the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from quorate.protocol.errors import Busy, DataError
from quorate.protocol.result import EXIT_OVER_LIMIT, TaskResult, TaskStatus
from quorate.protocol.spec import JobSpec
from quorate.storage.base import Entry
from quorate.storage.cid import Cid
from quorate_node.executor import runner
from quorate_node.executor.base import Executed, ExecutionTask, FailureReason, LocalFailure
from quorate_node.executor.messages import (
    decode_outcome,
    decode_tasks,
    encode_outcome,
    encode_tasks,
    frame_length,
    pack,
    unpack,
)
from quorate_node.executor.wasi.linking import SIGNATURES
from quorate_node.executor.world import JobWorld

TYPES = {"i": "i32", "I": "i64"}


def imports(*wanted: str) -> str:
    found = []
    for name in wanted:
        parameters, results = SIGNATURES[name]
        shape = "".join(f"(param {TYPES[p]})" for p in parameters) + "".join(f"(result {TYPES[r]})" for r in results)
        found.append(f'(import "wasi_snapshot_preview1" "{name}" (func ${name} {shape}))')
    return "".join(found)


def must(call: str) -> str:
    """The call, or exit with its errno plus 100."""
    return (
        f"(local.set $e {call}) (if (local.get $e) (then (call $proc_exit (i32.add (local.get $e) (i32.const 100)))))"
    )


def program(*steps: str, data: str = "") -> str:
    used = imports(
        "proc_exit", "path_open", "fd_read", "fd_write", "fd_readdir", "path_create_directory", "path_symlink",
        "path_link", "random_get", "clock_time_get", "path_filestat_get",
    )  # fmt: skip
    body = " ".join(steps)
    return f'(module {used} (memory (export "memory") 2) {data} (func (export "_start") (local $e i32) {body}))'


def text(at: int, value: str) -> str:
    return f'(data (i32.const {at}) "{value}")'


def opened(path_at: int, length: int, fd: int, oflags: int = 0, rights: int = 2) -> str:
    """path_open; the new descriptor's number goes to address 0."""
    return must(
        f"(call $path_open (i32.const {fd}) (i32.const 1) (i32.const {path_at}) (i32.const {length})"
        f" (i32.const {oflags}) (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 0))"
    )


def iovec(pointer: int, length: int) -> str:
    """An iovec at address 8."""
    return f"(i32.store (i32.const 8) (i32.const {pointer})) (i32.store (i32.const 12) (i32.const {length}))"


READ_OPENED = must("(call $fd_read (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 4))")
WRITE_OPENED = must("(call $fd_write (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 4))")
PRINT = must("(call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 4))")
SHOW_READ = "(i32.store (i32.const 12) (i32.load (i32.const 4)))" + PRINT  # as many bytes as were read
CREATE, BOTH = 1, 66

CAT = program(opened(1000, 5, 3), iovec(4096, 60000), READ_OPENED, SHOW_READ, data=text(1000, "input"))
WRITER = program(
    must("(call $path_create_directory (i32.const 4) (i32.const 1000) (i32.const 1))"),
    opened(1000, 3, 4, CREATE, BOTH),
    iovec(1000, 3),
    WRITE_OPENED,
    must("(call $path_create_directory (i32.const 4) (i32.const 1010) (i32.const 5))"),
    data=text(1000, "d/f") + text(1010, "empty"),
)


def test_an_input_file_appears_under_its_name(bench: Any) -> None:
    executed = bench.finish(CAT, input=str(bench.store.add_bytes(b"some bytes")))
    assert bench.stdout(executed) == b"some bytes"
    assert executed.result.status is TaskStatus.OK


def test_an_input_file_of_many_blocks_is_read_whole(bench: Any) -> None:
    data = bytes(range(256)) * 8192  # 2 MiB: not one block
    executed = bench.finish(CAT, input=str(bench.store.add_bytes(data)))
    assert bench.stdout(executed) == data[:60000]


def test_an_input_directory_appears_as_it_is(bench: Any) -> None:
    tree = bench.store.add_tree({"input": b"inside", "sub/x": b"y"})
    assert bench.stdout(bench.finish(CAT, input=str(tree))) == b"inside"
    listing = program(
        must("(call $fd_readdir (i32.const 3) (i32.const 4096) (i32.const 60000) (i64.const 0) (i32.const 4))"),
        iovec(4096, 0),
        SHOW_READ,
    )
    shown = bench.stdout(bench.finish(listing, input=str(tree)))
    assert b"input" in shown
    assert b"sub" in shown


def test_no_input_is_an_empty_directory(bench: Any) -> None:
    assert bench.finish(CAT).result.exit_code == 100 + 44  # NOENT


def test_outputs_are_a_directory_with_empty_ones_kept(bench: Any) -> None:
    executed = bench.finish(WRITER)
    assert executed.result.exit_code == 0, executed.result
    assert bench.outputs(executed) == {"d/f": b"d/f"}
    root = Cid.parse(executed.result.outputs_cid)
    assert [(entry.name, entry.kind) for entry in bench.store.list(root)] == [
        ("d", "directory"),
        ("empty", "directory"),
    ]


def test_a_failing_program_keeps_its_outputs(bench: Any) -> None:
    failing = WRITER[:-2] + "(call $proc_exit (i32.const 10))))"
    executed = bench.finish(failing)
    assert executed.result.status is TaskStatus.FAILED
    assert bench.outputs(executed) == {"d/f": b"d/f"}


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (
            must("(call $path_symlink (i32.const 1000) (i32.const 1) (i32.const 4) (i32.const 1001) (i32.const 1))"),
            "link",
        ),
        (
            opened(1000, 1, 4, CREATE, BOTH)
            + iovec(0, 60000)
            + WRITE_OPENED
            + must(
                "(call $path_link (i32.const 4) (i32.const 0) (i32.const 1000) (i32.const 1)"
                " (i32.const 4) (i32.const 1001) (i32.const 1))"
            ),
            "output_bytes",
        ),
    ],
)
def test_outputs_that_are_not_plain_or_too_large_fail_the_task(bench: Any, steps: str, reason: str) -> None:
    executed = bench.finish(program(steps, data=text(1000, "ab")), limits={"output_bytes": 100_000})
    assert executed.result.exit_code == EXIT_OVER_LIMIT
    assert reason in executed.detail
    assert bench.outputs(executed) == {}


def test_directories_nest_only_so_deep(bench: Any) -> None:
    steps = "(local.set $e (i32.const 0))" + "".join(
        must(f"(call $path_create_directory (i32.const 4) (i32.const 1000) (i32.const {2 * depth}))")
        for depth in range(1, 100)
    )
    executed = bench.finish(program(steps, data=text(1000, "a/" * 100)))
    assert executed.result.exit_code == EXIT_OVER_LIMIT
    assert "deeper" in executed.detail


NOISE = program(
    must("(call $random_get (i32.const 4096) (i32.const 64))"),
    must("(call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 4160))"),
    must("(call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 4168))"),
    opened(1000, 1, 4, CREATE, BOTH),
    must("(call $path_filestat_get (i32.const 4) (i32.const 1) (i32.const 1000) (i32.const 1) (i32.const 4176))"),
    iovec(4096, 144),
    PRINT,
    data=text(1000, "f"),
)


def test_chance_and_time_are_the_tasks_own(bench: Any) -> None:
    runs = [bench.finish(NOISE) for _ in range(3)]
    assert runs[0].result.status is TaskStatus.OK
    assert len({run.result.leaf for run in runs}) == 1
    assert len({run.fuel_used for run in runs}) == 1
    assert bench.stdout(bench.finish(NOISE, task=1)) != bench.stdout(runs[0])
    assert bench.stdout(bench.finish(NOISE, args=("x",))) != bench.stdout(runs[0])


def test_the_result_is_a_block_in_the_store(bench: Any) -> None:
    result = bench.finish(WRITER).result
    assert TaskResult.from_bytes(bench.store.get(Cid.parse(result.cid))) == result


def test_missing_content_is_a_local_failure(bench: Any) -> None:
    elsewhere = type(bench.store)()
    whole = elsewhere.add_tree({"input": b"x" * 100, "other": b"y"})
    bench.store.put(whole, elsewhere.get(whole))  # the directory without its files
    gone = str(Cid.of(b"not here"))
    for fields in ({"input": gone}, {"input": str(whole)}):
        outcome = bench.run(CAT, **fields)
        assert isinstance(outcome, LocalFailure)
        assert outcome.reason is FailureReason.DATA_UNAVAILABLE
    spec = replace(bench.spec(CAT), module=gone)
    outcome = bench.runner.run(ExecutionTask(spec), 10)
    assert isinstance(outcome, LocalFailure)
    assert outcome.reason is FailureReason.DATA_UNAVAILABLE


def test_entries_that_no_program_could_name_are_hidden(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = bench.store.add_tree({"input": b"inside"})
    file = bench.store.add_bytes(b"x")
    hostile = ["..", "", ".", "a/b", "nul\0", "x" * 300, "\udcff"]
    entries = [Entry(name, file, 1, "file") for name in hostile] + [Entry("input", file, 1, "symlink")]
    monkeypatch.setattr(bench.store, "list", lambda cid: entries)
    assert bench.finish(CAT, input=str(tree)).result.exit_code == 100 + 44
    listing = program(
        must("(call $fd_readdir (i32.const 3) (i32.const 4096) (i32.const 60000) (i64.const 0) (i32.const 4))"),
        "(call $proc_exit (i32.load (i32.const 4)))",
    )
    assert bench.finish(listing, input=str(tree)).result.exit_code == 24 + 1 + 24 + 2


def test_what_several_tasks_leave_is_stored_together_or_fails_together(bench: Any, monkeypatch: Any) -> None:
    spec = bench.spec(WRITER)
    tasks = [ExecutionTask(spec, index) for index in range(3)]
    opened, adding = [], bench.store.adding

    @contextmanager
    def count(**options: Any) -> Iterator[Any]:
        opened.append(options)
        with adding(**options) as additions:
            yield additions

    monkeypatch.setattr(bench.store, "adding", count)
    outcomes = bench.runner.run_all(tasks, 60)
    assert [outcome.result.task_index for outcome in outcomes] == [0, 1, 2]
    assert len(opened) == 1
    assert all(bench.store.has(Cid.parse(outcome.result.cid)) for outcome in outcomes)

    @contextmanager
    def refuse(**options: Any) -> Iterator[Any]:
        with adding(**options) as additions:
            yield additions
        raise Busy("no room")

    monkeypatch.setattr(bench.store, "adding", refuse)
    gone = ExecutionTask(JobSpec(str(Cid.of(b"nobody has this"))))
    kinds = [outcome.reason for outcome in bench.runner.run_all([*tasks, gone], 60)]
    assert kinds == [FailureReason.HOST_DISK] * 3 + [FailureReason.DATA_UNAVAILABLE]


def test_what_is_much_is_stored_before_the_next_task_runs(bench: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(runner, "STORE_BYTES", 0)
    spec = bench.spec(WRITER)
    first = bench.runner.run(ExecutionTask(spec), 60).result
    events, adding, mount = [], bench.store.adding, JobWorld.mount
    monkeypatch.setattr(bench.store, "adding", lambda **options: (events.append("store"), adding(**options))[1])
    monkeypatch.setattr(JobWorld, "mount", lambda *a: (events.append("run"), mount(*a))[1])
    outcomes = bench.runner.run_all([ExecutionTask(spec), ExecutionTask(spec, 1)], 60)
    assert outcomes[0].result == first
    assert events == ["run", "store", "run", "store"]


def test_messages_survive_the_pipe(bench: Any) -> None:
    spec = bench.spec(CAT, args=("ü",), env={"A": "1"})
    tasks = [ExecutionTask(spec, 3), ExecutionTask(spec, 4, spec.module)]
    frame = pack(encode_tasks(tasks, 1.5))
    assert frame_length(frame[:4]) == len(frame) - 4
    assert decode_tasks(unpack(frame[4:])) == (tasks, 1.5)
    executed = bench.finish(WRITER)
    for outcome in (executed, LocalFailure(FailureReason.TIMEOUT, "late")):
        assert decode_outcome(unpack(pack(encode_outcome(outcome))[4:])) == outcome
    assert isinstance(executed, Executed)


@pytest.mark.parametrize("message", [{}, {"detail": "", "result": "{}"}, {"detail": "", "failure": "BORED"}])
def test_a_worker_that_talks_nonsense_is_not_believed(message: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        decode_outcome(message)


def test_absurd_frames_are_refused() -> None:
    with pytest.raises(DataError):
        frame_length(b"\xff\xff\xff\xff")
    for body in (b"[]", b"{", b"\xff"):
        with pytest.raises(DataError):
            unpack(body)


def test_memory_of_finished_tasks_is_given_back(bench: Any) -> None:
    """Each store reserves 4 GiB of addresses; a leak would soon exhaust them."""

    def mapped() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0])

    bench.finish(CAT)
    before = mapped()
    for _ in range(20):
        bench.finish(CAT)
    assert mapped() - before < 2 * (4 << 30) // 4096


def test_wasmtime_is_the_version_that_the_profile_names() -> None:
    from importlib.metadata import version

    assert version("wasmtime").split(".")[0] == "50"
    assert hasattr(wasmtime, "TrapCode")
