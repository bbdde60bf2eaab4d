"""The store that needs no daemon: an index beside plain files, in one directory.

Any number of threads and processes may use one directory at once. Bytes are durable before the index names them, so a
process that is killed at any point leaves at most a segment that nobody names; it is removed at a later start.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from quorate.protocol.errors import DataError
from quorate.storage import unixfs
from quorate.storage.activity import Activity
from quorate.storage.base import HOLD_S, BlockNotFound
from quorate.storage.cid import RAW, Cid
from quorate.storage.collecting import Collected, Collector
from quorate.storage.dagstore import DagStore
from quorate.storage.index import Index, Place, Stats, StoreDamaged, is_blank
from quorate.storage.session import EmbeddedSession

_ORPHAN_AGE_S = 60
# All of a map is read at once, to check it: better in one call than page by page.
_MAP_FLAGS = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)


class EmbeddedStore(DagStore):
    """BlobStore in `directory`, which is created when it is missing.

    StoreDamaged when its index cannot be read, or is gone while there are bytes that it told of. Relative paths in it
    make the directory movable.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._segments = directory / "segments"
        try:
            self._segments.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{directory} cannot hold a store: {error.strerror}; choose another directory") from error
        index = directory / "index.sqlite3"
        is_used = any(self._segments.iterdir())  # looked at first: neighbours make the index before any segment
        if is_used and (not index.exists() or is_blank(index)):
            raise StoreDamaged(
                f"{index} is lost, and with it what the files in {self._segments} hold; bring it back from a copy, or "
                "move the store's directory away and add or fetch the content again"
            )
        self._index = Index(index)
        self._activity = Activity(directory / "activity.lock")
        self._remove_orphans()

    def has(self, cid: Cid) -> bool:
        return self.size(cid) is not None

    def size(self, cid: Cid) -> int | None:
        cid.check_supported()
        if cid.is_identity:
            return len(cid.inline)
        place = self._index.locate(cid.multihash)
        return place.size if place is not None and self._is_there(place) else None

    def get(self, cid: Cid) -> bytes:
        """Checked at every reading: disks rot, and files of others change."""
        cid.check_supported()
        if cid.is_identity:
            return cid.inline
        place = self._index.locate(cid.multihash)
        if place is None:
            raise BlockNotFound(cid)
        block = self._load(place)
        try:
            cid.verify(block)
        except DataError:
            self._index.forget(cid.multihash)
            where = (
                f"{place.path} has changed" if place.path and not place.is_owned else "its bytes on disk were damaged"
            )
            raise BlockNotFound(cid, f"{where}; add or fetch it again") from None
        return block

    @contextmanager
    def session(self, *, is_durable: bool = True) -> Iterator[EmbeddedSession]:
        with self._activity.keeping():
            session = EmbeddedSession(self._index, self._segments, is_durable=is_durable)
            try:
                yield session
            finally:
                session.close()

    @contextmanager
    def keeping(self) -> Iterator[None]:
        with self._activity.keeping():
            yield

    def hold(self, cids: Iterable[Cid], seconds: float = HOLD_S) -> None:
        with self.session(is_durable=False) as session:
            session.hold(cids, seconds)

    def release(self, since: float, part: int = 1) -> int:
        """Hold no longer one `part`th of what was held for HOLD_S before `since` (unix seconds), the oldest of it.

        Returns how many roots those are. `collect` then removes what nothing else keeps.
        """
        return self._index.release(int(since + HOLD_S), part)

    def used_bytes(self) -> int:
        """Room that the store takes up on its disk, without what it would use before it takes up more.

        Files that it only refers to take none.
        """
        return self._index.disk_bytes(self._segments) - self._index.free_bytes()

    def collect(self, *, wait_s: float = 10.0, is_dry: bool = False, keep: Iterable[Cid] = ()) -> Collected:
        """Remove all that no pin, no hold and no root in `keep` reaches; never anything of the files of others.

        Others may go on using the store. Busy when they add without a pause for `wait_s` seconds.
        """
        return Collector(self._index, self.directory, self._activity, self._load).run(
            wait_s=wait_s, is_dry=is_dry, keep=keep
        )

    def stats(self) -> Stats:
        return self._index.stats(self._segments)

    def sync(self) -> None:
        self._index.sync()

    def map_file(self, cid: Cid) -> memoryview | None:
        places = self._chunks(cid, set())
        if places is None:
            return None
        size = sum(place.size for _, place in places)
        first = places[0][1] if places else None
        if first is None or size == 0:
            return memoryview(b"")
        if first.data is not None:
            return memoryview(first.data) if len(places) == 1 else None
        path = self._path_of(first)
        at = first.start or 0
        for _, place in places:
            if self._path_of(place) != path or place.start != at:
                return None  # repeated or fetched in pieces: its bytes do not lie in one piece
            at += place.size
        view = _map(path, first.start or 0, size)
        # Checked whoever owns the file: a program that reads a rotten bit gives a wrong vote, which costs stake.
        return view if view is not None and _holds(view, places) else None

    def pin(self, cid: Cid) -> None:
        self._index.set_pin(cid.to_bytes(), True)

    def unpin(self, cid: Cid) -> None:
        self._index.set_pin(cid.to_bytes(), False)

    def pins(self) -> Sequence[Cid]:
        return [Cid.parse(cid) for cid in self._index.pins()]

    def close(self) -> None:
        self._index.close()
        self._activity.close()

    def _path_of(self, place: Place) -> str | None:
        """A plain string: tasks look up many places, and a Path takes longer than the look-up."""
        if place.path is None:
            return None
        return f"{self.directory}/{place.path}" if place.is_owned else place.path

    def _is_there(self, place: Place) -> bool:
        """Whether what the row says can still be so, without reading it."""
        if place.path is None or place.is_owned:
            return True
        try:
            found = os.stat(place.path)  # noqa: PTH116  (a string, as in _path_of)
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == (place.file_size, place.file_mtime_ns)

    def _load(self, place: Place) -> bytes:
        """The bytes that the row names; short or empty when the file is not what it was."""
        if place.data is not None:
            return place.data
        path = self._path_of(place)
        if path is None or place.start is None:
            return b""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.pread(descriptor, place.size, place.start)
        finally:
            os.close(descriptor)

    def _chunks(self, cid: Cid, seen: set[bytes]) -> list[tuple[Cid, Place]] | None:
        """A file's leaves in order with their places; None when one is missing, not raw, or among those `seen`: a file
        that says a block twice does not lie in one piece, and one that says it without end has no end."""
        if cid.multihash in seen:
            return None
        seen.add(cid.multihash)
        if cid.codec != RAW:
            node = unixfs.Node.parse(cid, self.get(cid))
            if not node.message.is_file:
                raise DataError(f"{cid} is no file; map the files in it")
            if node.message.data:
                return None
            chunks: list[tuple[Cid, Place]] = []
            for link, size in zip(node.links, node.message.block_sizes, strict=True):
                below = self._chunks(link.cid, seen)
                if below is None or sum(place.size for _, place in below) != size:
                    return None
                chunks += below
            return chunks
        if cid.is_identity:
            return [(cid, Place(len(cid.inline), None, cid.inline, None, None, None, None))]
        place = self._index.locate(cid.multihash)
        return [(cid, place)] if place is not None and self._is_there(place) else None

    def _remove_orphans(self) -> None:
        """Segments that a killed process left. A writer locks its segment; the age covers its first moment."""
        old = [file for file in self._segments.iterdir() if _age_s(file) > _ORPHAN_AGE_S]
        owned = self._index.owned_files() if old else set[str]()
        for file in old:
            if f"segments/{file.name}" in owned:
                continue
            with suppress(OSError), file.open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if f"segments/{file.name}" not in self._index.owned_files():  # its writer may just have finished
                    file.unlink()


def _age_s(file: Path) -> float:
    """Seconds since a file was written; 0 for one that a neighbour removed meanwhile."""
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _map(path: str | None, start: int, size: int) -> memoryview | None:
    """`size` bytes of a file, read-only; the map lives as long as the view."""
    if path is None:
        return None
    skip = start % mmap.ALLOCATIONGRANULARITY
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        mapped = mmap.mmap(descriptor, size + skip, flags=_MAP_FLAGS, prot=mmap.PROT_READ, offset=start - skip)
    except (OSError, ValueError):  # ValueError: the file is shorter than the span
        return None
    finally:
        os.close(descriptor)
    return memoryview(mapped)[skip : skip + size]


def _holds(view: memoryview, chunks: list[tuple[Cid, Place]]) -> bool:
    """Whether the file still has the content."""
    at = 0
    for cid, place in chunks:
        try:
            cid.verify(view[at : at + place.size])
        except DataError:
            return False
        at += place.size
    return True
