"""Where content waits until all of it has come: on the store's disk, in room that was made for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from threading import Lock

from quorate.protocol.errors import Busy
from quorate.storage.collecting import punch
from quorate_node.room import Room

CHUNK_BYTES = 1 << 20


class Spool:
    """A file without a name, so that a killed node leaves none; its methods block, and any thread may call them.

    The room that it has promised is withdrawn when it is closed: the store counts by then what it has kept.
    """

    def __init__(self, room: Room) -> None:
        self._room, self._lock = room, Lock()
        self._promised = self._written = 0
        self._is_closed = False
        try:
            self._file = tempfile.TemporaryFile(dir=room.directory)  # noqa: SIM115  (closed by `close`)
        except OSError as error:
            raise _describe(error) from error

    def write(self, data: bytes) -> None:
        """Add bytes. Raises StoreFull before any of them is kept, Busy where the disk does not take them."""
        with self._lock:  # who gave up must not leave a promise behind that is made only afterwards
            if self._is_closed:
                raise Busy("this content was given up: send it again")
            self._room.promise(len(data))
            self._promised += len(data)
            try:
                self._file.write(data)
                self._file.flush()
            except OSError as error:
                raise _describe(error) from error
            self._room.note_spooled(len(data))
            self._written += len(data)

    def take_out(self) -> Iterator[bytes]:
        """All of it from the start, once: the disk gets back what was read, so as not to hold it twice."""
        self._file.seek(0)
        at = 0
        while chunk := self._file.read(CHUNK_BYTES):
            punch(self._file.fileno(), at, len(chunk))  # where that is not possible, it goes at the end
            at += len(chunk)
            yield chunk

    def close(self) -> None:
        """Throw it away."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            try:
                self._file.close()
            finally:
                self._room.note_spooled(-self._written)
                self._room.withdraw(self._promised)


def _describe(error: OSError) -> Busy:
    return Busy(f"the content cannot be kept: {error.strerror}; make room on the store's disk")
