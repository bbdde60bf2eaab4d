"""A worker process as the pool sees it: started, asked and ended over pipes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.protocol.errors import DataError
from quorate.protocol.spec import CEILINGS, GIB
from quorate_node.executor.base import FailureReason, LocalFailure, WorkerCrashed
from quorate_node.executor.messages import LENGTH_BYTES, frame_length, pack, unpack

START_SECONDS = 60.0
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
        [answer] = await self.ask_for(1, message)
        return answer

    async def ask_for(self, count: int, message: dict[str, Any]) -> list[dict[str, Any]]:
        """As `ask`, of a message that has so many answers."""
        self._in.write(pack(message))
        await self._in.drain()
        return [await self._receive() for _ in range(count)]

    async def _receive(self) -> dict[str, Any]:
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


def judge_death(status: int, compile_s: float) -> LocalFailure:
    """Why a task has no result whose worker ended in its midst, by its exit status."""
    if status in (-signal.SIGPROF, -signal.SIGALRM):
        text = f"compiling the module takes over {compile_s:g} s of processor time (compile_seconds)"
        return LocalFailure(FailureReason.COMPILE_TIMEOUT, text)
    cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return LocalFailure(FailureReason.WORKER_DIED, f"the worker died in mid-task ({cause})")
