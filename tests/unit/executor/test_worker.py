"""What runs around a task in a worker: the clock that time-outs go by, and the pages behind a guest's memory."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any

import pytest

from quorate_node.executor import worker
from quorate_node.executor.base import Executed, ExecutionTask
from quorate_node.executor.runner import Echo, TaskRunner

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PAGE_BYTES = 65_536  # of WebAssembly
TEXT_AT = 0x20


def test_the_ticker_rests_between_tasks_and_misses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a task begins, at rest or on the way to it, the epoch advances until the task's end."""
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.002)
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    ticker = worker.Ticker(tick, 0.001)
    ticker.start()
    for round_ in range(200):
        ticker.begin()
        before = ticks
        while ticks < before + 2:  # the test's own time-out ends it if they stop
            time.sleep(0.0001)
        ticker.end()
        time.sleep(0.0001 * (round_ % 60))  # from at once to well into its rest
    rested = -1
    while ticks != rested:
        rested = ticks
        time.sleep(0.05)


def flags_of(address: int) -> list[str]:
    """The kernel's flags of the mapping that holds an address of this process."""
    flags: list[str] = []
    is_here = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head and not head.endswith(":"):
            start, end = (int(part, 16) for part in head.split("-"))
            is_here = start <= address < end
        elif is_here and head == "VmFlags:":
            flags = line.split()[1:]
    return flags


@pytest.mark.skipif(not HUGE_PAGES.exists(), reason="this kernel has no transparent huge pages")
@pytest.mark.parametrize(
    ("start", "growth", "is_advised"), [(1, 1, False), (256, 1, False), (1, 64, True), (256, 64, True)]
)
def test_memories_that_grow_much_may_get_huge_pages(bench: Any, start: int, growth: int, is_advised: bool) -> None:
    """From where the memory first ended, and ahead of its end, too; never what the program started with."""
    seen: list[bool] = []

    def look(chunk: memoryview) -> None:
        address = ctypes.addressof(ctypes.c_char.from_buffer(chunk)) - TEXT_AT
        ends = (start * PAGE_BYTES, (start + growth) * PAGE_BYTES, 1 << 31)
        seen.extend("hg" in flags_of(address + at) for at in (0, *ends))

    runner = TaskRunner(bench.store, bench.cache, bench.runtime, echo=Echo(look, look))
    write = "(drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))"
    spec = bench.spec(f"""(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") {start}) (data (i32.const 8) "\\{TEXT_AT:x}\\00\\00\\00\\01\\00\\00\\00")
        (func (export "_start") {write} (drop (memory.grow (i32.const {growth}))) {write}))""")
    outcome = runner.run(ExecutionTask(spec), 60)
    assert isinstance(outcome, Executed), outcome
    assert seen == [False] * 4 + [False, *[is_advised] * 3], outcome
