"""What is here of a piece that is coming: `.NAME.part` beside its destination, and a note of what is being paid for it.

The file holds chunks from the piece's beginning, each of which was verified before it was written. It is not synced
until it is whole: what a power cut takes is fetched again, and a provider serves what was paid for once more. So
whoever opens it checks what is there. One process has it at a time.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from quorate.chain.types import write_atomically
from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.piecetree import CHUNK_BYTES, ChunkVerifier, count_chunks
from quorate.protocol.errors import Busy, ConfigurationError, DataError


@dataclass(frozen=True, slots=True)
class Note:
    """A payment under way: `offer` is what it was begun under, as PAYMENT-REQUIRED; `reservation` pays for chunks from
    `first`.

    `header` is the voucher of chunk `chunk` that was signed and not answered: shown again, it is paid no second time.
    """

    provider: str
    offer: str
    reservation: str
    first: int
    rail_id: int
    header: str = ""
    chunk: int = -1


class PartFile:
    """The part of `piece` that is here, on its way to `dest`. A context manager, which keeps the part."""

    def __init__(self, dest: Path, piece: PieceCid) -> None:
        """Raises Busy when another process has it, ConfigurationError when nothing can be written there, DataError when
        another user made what is there."""
        self.dest, self.piece = dest, piece
        self._path = dest.with_name(f".{dest.name}.part")
        self._note_path = self._path.with_name(self._path.name + ".json")
        try:
            dest.parent.mkdir(parents=True, exist_ok=True)
            self._file = _open_own(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise ConfigurationError(f"cannot write to {dest}: {error.strerror}; choose another place") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise Busy(f"another process is fetching {dest}: wait for it, or give another path") from None
        size = min(os.fstat(self._file).st_size, piece.size_bytes)
        self.count = count_chunks(piece.size_bytes) if size == piece.size_bytes else size // CHUNK_BYTES
        """Chunks that are here."""

    @property
    def is_whole(self) -> bool:
        return self.count == count_chunks(self.piece.size_bytes)

    def check(self, verifier: ChunkVerifier) -> None:
        """Keep of what is here what is right: from the first chunk that is not, all comes anew."""
        for index in range(self.count):
            try:
                verifier.verify(index, self.read(index))
            except DataError:
                self.count = index
                return

    def read(self, index: int) -> bytes:
        """A chunk that is here."""
        return os.pread(self._file, CHUNK_BYTES, index * CHUNK_BYTES)

    def append(self, chunk: memoryview | bytes) -> None:
        """The next chunk, verified. Raises ConfigurationError when the disk is full."""
        at, view = self.count * CHUNK_BYTES, memoryview(chunk)
        try:
            while view:
                written = os.pwrite(self._file, view, at)
                at, view = at + written, view[written:]
        except OSError as error:
            raise ConfigurationError(
                f"cannot write to {self._path}: {error.strerror}; make room and repeat it: what is here is kept, and "
                "what was paid for is not paid again"
            ) from error
        self.count += 1

    def note(self, note: Note) -> None:
        """Remember a payment, durably."""
        write_atomically(self._note_path, json.dumps({"piece": str(self.piece.v2)} | asdict(note)) + "\n", 0o600)

    def read_note(self) -> Note | None:
        """The payment that was under way; None where there is none that can be read. Raises DataError for another
        user's, who may have written any price and account into it."""
        try:
            with os.fdopen(_open_own(self._note_path, os.O_RDONLY)) as file:
                values = json.load(file)
            if values.pop("piece") != str(self.piece.v2):
                return None
            return Note(**values)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def forget_note(self) -> None:
        """No payment is under way."""
        self._note_path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Put the whole piece at its place: it is there at once and durably, or not at all."""
        assert self.is_whole, "chunks are missing"
        os.ftruncate(self._file, self.piece.size_bytes)
        os.fsync(self._file)
        self._path.replace(self.dest)
        self.forget_note()
        folder = os.open(self.dest.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let others have it."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _open_own(path: Path, flags: int) -> int:
    """A descriptor of a file of our own: in a folder like /tmp others may have put one there, or a link."""
    try:
        found = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise DataError(f"{path} is a link: remove it, or give another place") from None
    if (owner := os.fstat(found).st_uid) != os.geteuid():
        os.close(found)
        raise DataError(f"{path} belongs to the user of number {owner}: give a place where only you write")
    return found
