"""The pool of worker processes: the node's executor of the WASM profile.

Workers are started afresh (never forked from this threaded process), kept, and given one task at a time. One that
dies or hangs takes down its own task and is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from quorate.protocol.errors import Busy, ConfigurationError, DataError
from quorate.protocol.spec import CEILINGS, GIB
from quorate_node.executor.base import (
    COMPILE_WALL_FACTOR,
    Executed,
    ExecutionTask,
    FailureReason,
    LocalFailure,
    WorkerCrashed,
)
from quorate_node.executor.cache import load_secret
from quorate_node.executor.messages import LENGTH_BYTES, decode_outcome, encode_task, frame_length, pack, unpack

START_SECONDS = 60.0
GRACE_SECONDS = 10.0  # past the time-out, for storing outputs; then the worker is killed
CLOSE_SECONDS = 2.0
MAX_COMPILE_SECONDS = float(CEILINGS["compile_seconds"][1])
# Of the environment only this reaches a worker: a node's passwords have no business there.
PASSED_VARIABLES = ("PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "TMPDIR")


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker is told.

    `compile_s` seconds of processor time a compilation may take whatever a spec says, `address_space` bytes a worker
    may map.
    """

    store_dir: Path
    cache_dir: Path
    secret: bytes
    compile_s: float = MAX_COMPILE_SECONDS
    address_space: int = 16 * GIB

    def to_message(self) -> dict[str, Any]:
        """The first frame."""
        return {
            "store_dir": str(self.store_dir),
            "cache_dir": str(self.cache_dir),
            "secret": self.secret.hex(),
            "compile_s": self.compile_s,
            "address_space": self.address_space,
        }


class Worker:
    """One worker process and the pipes to it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._in, self._out = process, process.stdin, process.stdout
        self.is_fit = True  # until it dies, hangs or says something odd

    @classmethod
    async def start(cls, config: WorkerConfig) -> Worker:
        """Start and wait until it is ready; WorkerCrashed if it never is."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "quorate_node.executor.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ} | {"LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )  # fmt: skip
        worker = cls(process)
        try:
            async with asyncio.timeout(START_SECONDS):
                if "ready" not in await worker.ask(config.to_message()):
                    raise DataError("it did not say that it is ready")
        except BaseException as error:
            code = await worker.kill()
            if isinstance(error, OSError | EOFError | DataError | TimeoutError):
                raise WorkerCrashed(
                    f"a worker could not be started (exit {code}: {error}); its reason is on standard error"
                ) from error
            raise
        return worker

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a message and wait for the answer; OSError or EOFError if the worker is gone."""
        self._in.write(pack(message))
        await self._in.drain()
        size = frame_length(await self._out.readexactly(LENGTH_BYTES))
        return unpack(await self._out.readexactly(size))

    async def kill(self) -> int:
        """End it at once; its exit status, negative for a signal."""
        self.is_fit = False
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return await self._process.wait()

    async def reap(self) -> int:
        """Exit status of a worker that has closed its pipe."""
        self.is_fit = False
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                return await self._process.wait()
        except TimeoutError:
            return await self.kill()

    async def close(self) -> None:
        """Let it end by itself, or end it."""
        if self.is_fit:
            self._in.close()
            await self.reap()


def find_host_fault() -> str | None:
    """Why memory that a job's limits allow may be refused on this host alone: that would be a wrong vote."""
    most, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if most != resource.RLIM_INFINITY:
        return f"ulimit -d allows {most} bytes of data, so that jobs could end otherwise here: set it to unlimited"
    try:
        is_strict = Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2"
    except OSError:  # another system
        return None
    return "vm.overcommit_memory is 2, so that jobs could end otherwise here: set it to 0 or 1" if is_strict else None


class WorkerPool:
    """An `Executor` over `count` worker processes. Use as an async context manager.

    `secret` authenticates cached machine code; by default it is kept beside the cache, which guards against a spoilt
    file. Pass one from the node's own keystore to guard against whoever may write to the cache, too.
    """

    def __init__(
        self,
        count: int,
        store_dir: Path,
        cache_dir: Path,
        *,
        secret: bytes | None = None,
        compile_s: float = MAX_COMPILE_SECONDS,
    ) -> None:
        secret = load_secret(cache_dir / "secret") if secret is None else secret
        self._config = WorkerConfig(store_dir, cache_dir, secret, compile_s)
        self._count = count
        self._slots: asyncio.Queue[asyncio.Task[Worker]] = asyncio.Queue()
        self._starting: set[asyncio.Task[Worker]] = set()
        self._busy: set[Worker] = set()
        self._is_started = False
        self._closed = asyncio.Event()
        self.restarts = 0

    async def start(self) -> None:
        """Start the workers; WorkerCrashed if one cannot be, ConfigurationError where results could differ here."""
        if (fault := find_host_fault()) is not None:
            raise ConfigurationError(fault)
        self._is_started = True
        for _ in range(self._count):
            self._launch()
        await asyncio.gather(*self._starting)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _launch(self) -> None:
        """Begin to start a worker; whoever takes its slot waits for it."""
        task = asyncio.create_task(Worker.start(self._config))
        self._starting.add(task)
        task.add_done_callback(self._started)
        self._slots.put_nowait(task)

    def _started(self, task: asyncio.Task[Worker]) -> None:
        self._starting.discard(task)
        if not task.cancelled():
            task.exception()  # whoever takes the slot sees it; this only marks it as seen

    async def execute(self, task: ExecutionTask, *, timeout_s: float) -> Executed | LocalFailure:
        """Run a task on the next free worker.

        Raises WorkerCrashed if workers cannot be started any more, Busy once the pool is closing.
        """
        slot = await self._slots.get()
        if self._closed.is_set():
            self._slots.put_nowait(slot)  # for the next who waits
            raise Busy("the executor is closing; run the task after the node has started again")
        worker: Worker | None = None
        try:
            worker = await asyncio.shield(slot)
            return await self._run(worker, task, timeout_s)
        finally:
            if self._closed.is_set() or (worker is not None and worker.is_fit):
                self._slots.put_nowait(slot)
            else:
                self.restarts += 1
                self._launch()

    async def _run(self, worker: Worker, task: ExecutionTask, timeout_s: float) -> Executed | LocalFailure:
        compile_s = min(task.spec.limits.compile_seconds, self._config.compile_s)
        limit = timeout_s + compile_s * COMPILE_WALL_FACTOR + GRACE_SECONDS
        self._busy.add(worker)
        try:
            async with asyncio.timeout(limit):
                outcome = decode_outcome(await worker.ask(encode_task(task, timeout_s)))
        except (OSError, EOFError) as error:
            status = await (worker.kill() if isinstance(error, TimeoutError) else worker.reap())
            if isinstance(error, TimeoutError):
                return LocalFailure(FailureReason.TIMEOUT, f"the worker did not answer in {limit:.0f} s and was killed")
            return _judge_death(status, compile_s)
        except DataError as error:
            await worker.kill()
            return LocalFailure(FailureReason.WORKER_DIED, str(error))
        except BaseException:  # cancelled: the worker is in the middle of a task that nobody wants any more
            await worker.kill()
            raise
        finally:
            self._busy.discard(worker)
        if isinstance(outcome, LocalFailure) and outcome.reason is FailureReason.INTERNAL:
            await worker.kill()
        return outcome

    async def close(self) -> None:
        """End all workers; tasks that still run fail."""
        self._closed.set()
        for worker in list(self._busy):
            await worker.kill()
        slots = [await self._slots.get() for _ in range(self._count if self._is_started else 0)]
        for slot in slots:
            with contextlib.suppress(WorkerCrashed):
                await (await slot).close()
        for slot in slots[:1]:
            self._slots.put_nowait(slot)  # wakes whoever still waits


def _judge_death(status: int, compile_s: float) -> LocalFailure:
    if status in (-signal.SIGPROF, -signal.SIGALRM):
        text = f"compiling the module takes over {compile_s:g} s of processor time (compile_seconds)"
        return LocalFailure(FailureReason.COMPILE_TIMEOUT, text)
    cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return LocalFailure(FailureReason.WORKER_DIED, f"the worker died in mid-task ({cause})")
