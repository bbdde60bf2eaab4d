"""Processes of a devnet: each leads its own group and logs to a file, and is ended exactly."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from quorate.devnet import guard
from quorate.devnet.guard import is_alive, read_start, stop_groups
from quorate.protocol.errors import ConfigurationError

LOG_TAIL_BYTES = 2_000


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process for good: numbers are given again, pairs of number and start are not."""

    pid: int
    start: str

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return is_alive(self.pid, self.start)


@dataclass(frozen=True, slots=True)
class Running:
    """A process that was started, its name and its log."""

    name: str
    id: ProcessId
    log: Path
    popen: subprocess.Popen[bytes]

    def exit_reason(self) -> str | None:
        """None while it runs; else how it ended, with the end of its log."""
        code = self.popen.poll()
        if code is None:
            return None
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}; the end of {self.log}:\n{read_tail(self.log)}"


def read_tail(path: Path) -> str:
    """The end of a log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").strip()
    except OSError as error:
        return f"({error.strerror})"


class ProcessGroup:
    """Everything that one devnet has started.

    A guard ends the processes when we are gone, even by SIGKILL, unless they were released.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[Running] = []
        self._lock = threading.Lock()
        self._guard: subprocess.Popen[bytes] | None = self._start_guard()

    @staticmethod
    def _start_guard() -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-I", "-S", guard.__file__]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True, close_fds=True
        )

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Running:
        """Start a program. Raises ConfigurationError when there is no such program."""
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{name}.log"
        try:
            with log.open("ab") as output:
                popen = subprocess.Popen(
                    list(argv), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    env={**os.environ, **(env or {})}, start_new_session=True, close_fds=True,
                )  # fmt: skip
        except OSError as error:
            raise ConfigurationError(f"cannot start {name} ({argv[0]}): {error.strerror}; run scripts/setup") from error
        running = Running(name, ProcessId(popen.pid, read_start(popen.pid)), log, popen)
        with self._lock:
            self._running.append(running)
            self._tell_guard(f"{running.id.pid} {running.id.start}\n" if running.id.start else "")
        return running

    @property
    def running(self) -> tuple[Running, ...]:
        """What was started, in order."""
        return tuple(self._running)

    def stop(self, grace_s: float = guard.GRACE_S) -> None:
        """End all of them; may be called again."""
        with self._lock:
            stop_groups([(r.id.pid, r.id.start) for r in self._running], grace_s)
            for running in self._running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.popen.wait(timeout=1)
            self._running.clear()
            self._dismiss_guard()

    def release(self) -> None:
        """Let the processes outlive us (`quorate devnet up`); they can still be stopped."""
        with self._lock:
            self._dismiss_guard()

    def _dismiss_guard(self) -> None:
        self._tell_guard("done\n")
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait(timeout=guard.GRACE_S + 1)
            self._guard = None

    def kill(self, running: Running) -> None:
        """SIGKILL one process and its children, as a crash would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.id.pid, signal.SIGKILL)
        running.popen.wait(timeout=5)

    def _tell_guard(self, line: str) -> None:
        if self._guard is None or self._guard.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.write(line.encode())
            self._guard.stdin.flush()

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
