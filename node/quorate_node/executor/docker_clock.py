"""How long a task on a daemon may go on, whatever part of it takes the time: an image, an input, the container."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


class TaskOver(Exception):
    """A task's time is up, or nobody wants it any more; its text says which."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """Until when (of the monotonic clock) a task may go on, and whether it was given up meanwhile."""

    until: float
    cancelled: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, seconds: float) -> Allowance:
        """From now on."""
        return cls(time.monotonic() + seconds)

    def renew(self, seconds: float) -> Allowance:
        """From now on, given up with this one."""
        return Allowance(time.monotonic() + seconds, self.cancelled)

    def left(self) -> float:
        """Seconds, more than 0. Raises TaskOver."""
        seconds = self.until - time.monotonic()
        if self.cancelled.is_set():
            raise TaskOver("the task was given up")
        if seconds <= 0:
            raise TaskOver("its time was up before its container ran: the image or the input takes too long here")
        return seconds


class PacedFile(io.FileIO):
    """A file that can be read while there is time. Reading raises TaskOver afterwards."""

    def __init__(self, path: Path, allowance: Allowance) -> None:
        super().__init__(path)
        self._allowance = allowance

    def readinto(self, buffer: object) -> int | None:
        """As of any file."""
        self._allowance.left()
        return super().readinto(buffer)  # type: ignore[arg-type]  # any writable buffer

    def readall(self) -> bytes:
        """As of any file."""
        self._allowance.left()
        return super().readall()


def open_paced(path: Path, allowance: Allowance) -> io.BufferedReader:
    """A PacedFile with a buffer, whose length HTTP clients find out as that of any file."""
    return io.BufferedReader(PacedFile(path, allowance), 1 << 20)


def write_paced(pieces: Iterator[bytes], path: Path, allowance: Allowance) -> None:
    """A new file of these pieces. Raises TaskOver, and FileExistsError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for piece in pieces:
            allowance.left()
            file.write(piece)
