"""Who uses a store: those who keep content share it; whoever throws content away has it alone.

By locks of the operating system on a file in the store's directory, so that a killed process leaves none behind.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from quorate.protocol.errors import Busy

_POLL_S = 0.05


class Activity:
    """The locks of one store, for all threads of this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._count = 0
        self._file = -1
        self._owner = os.getpid()

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """While it lasts nobody throws anything away; waits for one who does."""
        with self._lock:
            if self._owner != os.getpid():  # a fork shares its parent's lock, which is not its own to give back
                self._owner, self._count, self._file = os.getpid(), 0, -1
            if self._file < 0:
                self._file = _open(self._path)
            if self._count == 0:
                fcntl.flock(self._file, fcntl.LOCK_SH)
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                if self._count == 0:
                    fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the file back; nobody may be keeping any more."""
        with self._lock:
            if self._file >= 0 and self._owner == os.getpid():
                os.close(self._file)
            self._file = -1

    @contextmanager
    def alone(self, wait_s: float) -> Iterator[None]:
        """While it lasts nobody keeps anything; Busy when somebody does so for longer than `wait_s`."""
        file, deadline = _open(self._path), time.monotonic() + wait_s
        try:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Busy(
                            f"others have been adding to {self._path.parent} for {wait_s:g} s without a pause; "
                            "try again when they are done"
                        ) from None
                    time.sleep(_POLL_S)
            yield
        finally:
            os.close(file)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
