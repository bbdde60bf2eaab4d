"""A run of writes into the embedded store: blocks to a segment, rows to the index, in that order and durably.

Beyond a few MiB the writing goes on in a thread, so that disk and hashing work at the same time. The thread takes its
work in order: a commit of rows comes after the writes of the bytes that they name, and waits until those are durable.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import Queue
from threading import Thread

from quorate.protocol.errors import Busy
from quorate.storage.cid import Cid
from quorate.storage.index import File, Index, Row

INLINE_BYTES = 64 * 1024  # smaller blocks live in the index, unless they are a part of a larger file
FLUSH_BYTES = 64 * 1024 * 1024
FLUSH_INLINE_BYTES = 8 * 1024 * 1024
FLUSH_ROWS = 20_000
_THREAD_FROM_BYTES = 4 * 1024 * 1024  # a thread costs more than it saves before
_QUEUED = 12  # blocks of at most 2 MiB

_Task = Callable[[], None]


class EmbeddedSession:
    """Collects rows; appends large blocks to a segment of its own; all is durable once it is closed.

    Without `is_durable` the rows, not the segment, still wait for `Index.sync` to outlive a power cut.
    """

    def __init__(self, index: Index, segments: Path, *, is_durable: bool = True) -> None:
        self._index, self._segments, self._is_durable = index, segments, is_durable
        self._file = -1
        self._name = ""
        self._end = self._unflushed = self._inline_bytes = 0
        self._is_named = False
        self._rows: list[Row] = []
        self._appended: set[bytes] = set()
        self._files: dict[str, File] = {}
        self._holds: dict[bytes, int] = {}
        self._writer: _Writer | None = None
        self.new_blocks = self.new_bytes = 0

    def put(self, cid: Cid, block: bytes, *, is_chunk: bool = False) -> None:
        if cid.is_identity:
            return
        cid.check_supported()
        if is_chunk or len(block) > INLINE_BYTES:
            if self._is_kept(cid):
                return
            start = self._append(block)
            self._appended.add(cid.multihash)
            self._keep(Row(cid.multihash, len(block), f"segments/{self._name}", start, None))
        else:
            self._inline_bytes += len(block)
            self._keep(Row(cid.multihash, len(block), None, None, bytes(block)))

    def refer(self, cid: Cid, path: Path, offset: int, length: int) -> bool:
        name = os.path.abspath(path)  # noqa: PTH100  (Path.resolve would follow links)
        if name not in self._files:
            found = path.stat()
            self._files[name] = File(False, found.st_size, found.st_mtime_ns)
        self._keep(Row(cid.multihash, length, name, offset, None))
        return True

    def hold(self, cids: Iterable[Cid], seconds: float) -> None:
        until = int(time.time() + seconds)
        self._holds.update((cid.to_bytes(), until) for cid in cids)

    def close(self) -> None:
        """Make everything durable; also after an error, since every block was verified."""
        try:
            try:
                self._flush()
            finally:
                if self._writer is not None:
                    self._writer.close()
        finally:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _is_kept(self, cid: Cid) -> bool:
        """Whether our own disk has it already; a file of somebody else's may go."""
        if cid.multihash in self._appended:
            return True
        place = self._index.locate(cid.multihash)
        return place is not None and (bool(place.is_owned) or place.path is None)

    def _keep(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= FLUSH_ROWS or self._inline_bytes >= FLUSH_INLINE_BYTES or self._unflushed >= FLUSH_BYTES:
            self._flush()

    def _append(self, block: bytes) -> int:
        if self._file < 0:
            self._name = f"{secrets.token_hex(16)}.seg"
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            self._file = os.open(self._segments / self._name, flags, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_SH)  # tells whoever tidies up that this is no orphan
        start, file = self._end, self._file
        self._do(lambda: _write(file, block, start))
        self._end += len(block)
        self._unflushed += len(block)
        return start

    def _flush(self) -> None:
        rows, files, holds, is_written = self._rows, self._files, self._holds, self._unflushed > 0
        self._rows, self._files, self._holds = [], {}, {}
        self._unflushed = self._inline_bytes = 0
        if rows or holds:
            self._do(lambda: self._commit(rows, files, holds, is_written))

    def _commit(self, rows: list[Row], files: dict[str, File], holds: dict[bytes, int], is_written: bool) -> None:
        if is_written:
            if not self._is_named:
                _sync_directory(self._segments)
                self._is_named = True
            os.fdatasync(self._file)
            if self._end > FLUSH_BYTES:  # a large import must not push everybody else out of the page cache
                os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)
            found = os.fstat(self._file)
            files[f"segments/{self._name}"] = File(True, found.st_size, found.st_mtime_ns)
        blocks, size = self._index.keep(rows, files, holds, is_durable=self._is_durable)
        self.new_blocks += blocks
        self.new_bytes += size

    def _do(self, task: _Task) -> None:
        if self._writer is None and self._end < _THREAD_FROM_BYTES:
            task()
            return
        if self._writer is None:
            self._writer = _Writer()
        self._writer.do(task)


class _Writer:
    """Does tasks one after the other in a thread; the first error ends the work and is raised at the next call."""

    def __init__(self) -> None:
        self._tasks: Queue[_Task | None] = Queue(_QUEUED)
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def do(self, task: _Task) -> None:
        if self._error is not None:
            raise self._error
        self._tasks.put(task)

    def close(self) -> None:
        self._tasks.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            if self._error is None:  # after an error nothing may be named whose bytes could be missing
                try:
                    task()
                except BaseException as error:
                    self._error = error


def _write(file: int, block: bytes, start: int) -> None:
    view = memoryview(block)
    try:
        while view:
            count = os.pwrite(file, view, start)
            view, start = view[count:], start + count
    except OSError as error:
        raise Busy(f"the store cannot write {len(block)} bytes: {error.strerror}; make room on its disk") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
