"""What the executor's tests share: an engine, a runner over a store in memory, and a host over a plain buffer."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from quorate.protocol.spec import JobSpec, Limits
from quorate.storage.memory import MemoryStore
from quorate_node.executor.base import Executed, ExecutionTask, LocalFailure
from quorate_node.executor.cache import ModuleCache
from quorate_node.executor.runner import TaskRunner
from quorate_node.executor.wasi.descriptors import Stream
from quorate_node.executor.wasi.host import Host, Preopen, RandomStream
from quorate_node.executor.wasi.memory import GuestMemory
from quorate_node.executor.wasi.tree import Directory, File, Usage
from quorate_node.executor.wasm import TICK_SECONDS, Runtime, build_engine

Outcome = Executed | LocalFailure


class Bench:
    """Runs modules written as text, or bytes, over a store in memory."""

    def __init__(self, cache_dir: Path, engine: wasmtime.Engine, target: str | None = None) -> None:
        self.store = MemoryStore()
        self.runtime = Runtime(engine, target)
        self.cache = ModuleCache(engine, cache_dir, b"s" * 32, target=target)
        self.runner = TaskRunner(self.store, self.cache, self.runtime)

    def spec(self, module: str | bytes, limits: dict[str, int] | None = None, **fields: Any) -> JobSpec:
        """A spec for a module; `limits` change the defaults."""
        wasm = bytes(wasmtime.wat2wasm(module)) if isinstance(module, str) else module
        return JobSpec(
            str(self.store.add_bytes(wasm)), limits=replace(Limits(fuel=100_000_000), **(limits or {})), **fields
        )

    def run(self, module: str | bytes, *, timeout_s: float = 60, task: int = 0, **fields: Any) -> Outcome:
        """Run it as a task."""
        return self.runner.run(ExecutionTask(self.spec(module, **fields), task), timeout_s)

    def finish(self, module: str | bytes, **fields: Any) -> Executed:
        """Run it as a task that must have a result."""
        outcome = self.run(module, **fields)
        assert isinstance(outcome, Executed), outcome
        return outcome

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Time passes for time-outs, as in a worker."""
        stop = threading.Event()

        def tick() -> None:
            while not stop.wait(TICK_SECONDS):
                self.runtime.tick()

        ticker = threading.Thread(target=tick)
        ticker.start()
        try:
            yield
        finally:
            stop.set()
            ticker.join()

    def stdout(self, executed: Executed) -> bytes:
        """What it wrote to standard output."""
        from quorate.storage.cid import Cid

        return self.store.read(Cid.parse(executed.result.stdout_cid))

    def outputs(self, executed: Executed) -> dict[str, bytes]:
        """Its output files."""
        from quorate.storage.cid import Cid

        root = Cid.parse(executed.result.outputs_cid)
        return {path: self.store.read(entry.cid) for path, entry in self.store.walk(root) if entry.kind == "file"}


@pytest.fixture(scope="session")
def engine() -> wasmtime.Engine:
    return build_engine()


@pytest.fixture
def bench(tmp_path: Path, engine: wasmtime.Engine) -> Bench:
    return Bench(tmp_path / "cache", engine)


class Guest:
    """A host with 64 KiB of guest memory and no module: calls are made on it directly."""

    def __init__(self, max_bytes: int = 1 << 20, max_files: int = 100) -> None:
        usage = Usage(max_bytes, max_files)
        inputs = Directory(usage, lambda: {b"in.txt": File(usage, _Constant(b"hello"))})
        self.spent = 0
        self.host = Host(
            args=[b"main.wasm", b"x"],
            env=[b"A=1"],
            preopens=[
                Preopen(b"/inputs", inputs),
                Preopen(b"/outputs", Directory(usage)),
                Preopen(b"/tmp", Directory(usage)),
            ],
            usage=usage,
            random=RandomStream(bytes(32)),
            stdout=Stream(1000, is_strict=True),
            stderr=Stream(1000, is_strict=False),
            max_open=32,
            spend=self._spend,
        )
        self.buffer = ctypes.create_string_buffer(b"\xa5" * (65536 + 4096))
        self.host.memory = GuestMemory(lambda: 65536, lambda: ctypes.addressof(self.buffer))

    def is_guard_intact(self) -> bool:
        """Whether nothing was written behind the guest's memory."""
        return self.buffer.raw[65536 : 65536 + 4096] == b"\xa5" * 4096

    def _spend(self, fuel: int) -> None:
        self.spent += fuel

    def put(self, data: bytes, at: int = 1024) -> tuple[int, int]:
        """Data in guest memory as (pointer, length)."""
        self.host.memory.write(at, data)
        return at, len(data)

    def iovec(self, data: bytes) -> tuple[int, int]:
        """One iovec on `data` as (pointer, count)."""
        self.put(data, 4096)
        self.put((4096).to_bytes(4, "little") + len(data).to_bytes(4, "little"), 2048)
        return 2048, 1

    def number(self, at: int = 0, size: int = 4) -> int:
        """An unsigned number in guest memory."""
        return int.from_bytes(self.host.memory.read(at, size), "little")


class _Constant:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def size(self) -> int:
        return len(self._data)

    def load(self) -> bytes:
        return self._data


@pytest.fixture
def guest() -> Guest:
    return Guest()


@pytest.fixture(scope="session")
def make_guest() -> Callable[..., Guest]:
    return Guest
