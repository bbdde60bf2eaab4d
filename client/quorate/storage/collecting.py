"""Making room in the embedded store: what no pin and no hold reaches is removed.

First all that must stay is marked, while others go on adding; then, alone in the store, what became reachable
meanwhile, and what is left goes in one transaction. Killed at any point it has removed all of that or nothing.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quorate.protocol.errors import DataError
from quorate.storage import codecs
from quorate.storage.activity import Activity
from quorate.storage.cid import DAG_PB, RAW, Cid
from quorate.storage.index import Index, Place

_VACUUM_BYTES = 64 * 1024 * 1024
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # fallocate(2)
_CACHE_KIB = 64 * 1024
_MARKS = 20_000
_FIND_DEAD = """INSERT INTO dead SELECT id, size, file, start FROM block
                WHERE multihash NOT IN (SELECT multihash FROM live)"""
_libc = ctypes.CDLL(None, use_errno=True)

Load = Callable[[Place], bytes]


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed, or would be: blocks and their bytes; `kept` blocks stay.

    `incomplete` are roots of which a part is missing: below that part nothing is known to belong to them.
    """

    blocks: int
    bytes: int
    kept: int
    roots: int
    incomplete: tuple[Cid, ...]


class Collector:
    """One collection. `load` gives a block's bytes by its place, unchecked."""

    def __init__(self, index: Index, directory: Path, activity: Activity, load: Load) -> None:
        self._index, self._directory, self._activity, self._load = index, directory, activity, load
        self._seen: set[bytes] = set()
        self._missing: dict[Cid, Cid] = {}  # a node that is not here, and a root that needs it

    def run(self, *, wait_s: float, is_dry: bool, keep: Iterable[Cid] = ()) -> Collected:
        """Busy, when others do not pause; DataError when a block that tells what belongs to a root is damaged."""
        kept = {cid.to_bytes() for cid in keep}
        with self._index.connection() as connection:
            _prepare(connection)
            roots = kept | self._index.kept_roots(time.time())
            self._mark(connection, map(Cid.parse, roots))
            if is_dry:
                return self._count(connection, len(roots))
            with self._activity.alone(wait_s):
                again = {root: node for node, root in self._missing.items()}
                self._missing = {}
                newer = kept | self._index.kept_roots(time.time())
                self._mark(connection, map(Cid.parse, newer - roots))
                for root, node in again.items():
                    self._mark(connection, [node], root)
                found = self._count(connection, len(newer))
                self._sweep(connection)
            self._shrink(connection)
        return found

    def _mark(self, connection: sqlite3.Connection, roots: Iterable[Cid], owner: Cid | None = None) -> None:
        marked: list[tuple[bytes]] = []
        for root in roots:
            pending = [root]
            while pending:
                cid = pending.pop()
                marked.append((cid.multihash,))
                if len(marked) >= _MARKS:
                    _note(connection, marked)
                if cid.codec == RAW or (name := cid.to_v1().to_bytes()) in self._seen:
                    continue
                links = self._links(cid, owner or root)
                if links is not None:
                    self._seen.add(name)
                    pending += links
        _note(connection, marked)

    def _links(self, cid: Cid, root: Cid) -> Sequence[Cid] | None:
        """None when the block is not here."""
        if cid.is_identity:
            return _links_of(cid, cid.inline)
        place = self._index.locate(cid.multihash)
        if place is None:
            self._missing[cid] = root
            return None
        block = self._load(place)
        try:
            cid.verify(block)
        except DataError:
            raise DataError(
                f"{cid} was damaged on disk, and it tells what belongs to {root}: nothing was removed. "
                f"Add or fetch {root} again, or unpin it"
            ) from None
        return _links_of(cid, block)

    def _count(self, connection: sqlite3.Connection, roots: int) -> Collected:
        """What is marked by nothing, noted in `dead`."""
        connection.execute("DELETE FROM dead")
        connection.execute(_FIND_DEAD)
        blocks, size = connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM dead").fetchone()
        (total,) = connection.execute("SELECT count(*) FROM block").fetchone()
        return Collected(blocks, size, total - blocks, roots, tuple(dict.fromkeys(self._missing.values())))

    def _sweep(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            spans = connection.execute(
                "SELECT file.path, dead.start, dead.size FROM dead JOIN file ON file.id = dead.file WHERE is_owned"
            ).fetchall()
            connection.execute("DELETE FROM block WHERE id IN (SELECT id FROM dead)")
            unused = "id NOT IN (SELECT file FROM block WHERE file IS NOT NULL)"
            emptied = {path for (path,) in connection.execute(f"SELECT path FROM file WHERE is_owned AND {unused}")}
            connection.execute(f"DELETE FROM file WHERE {unused}")
            connection.execute("DELETE FROM hold WHERE until <= ?", (time.time(),))
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        for path in emptied:
            (self._directory / path).unlink(missing_ok=True)
        self._punch([span for span in spans if span[0] not in emptied])

    def _punch(self, spans: Sequence[tuple[str, int, int]]) -> None:
        """Give the disk back what nobody names in files that others of their blocks keep; best effort."""
        for path in {path for path, _, _ in spans}:
            try:
                file = os.open(self._directory / path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                if not all(punch(file, start, size) for name, start, size in spans if name == path):
                    return  # a file system without holes: the room comes back with the whole file
            finally:
                os.close(file)

    @staticmethod
    def _shrink(connection: sqlite3.Connection) -> None:
        """Give back the index's own room where much of it is free."""
        numbers = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count")]
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        if numbers[0] * page > _VACUUM_BYTES and numbers[0] * 2 > numbers[1]:
            connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def punch(file: int, start: int, size: int) -> bool:
    """Make a hole in a file; False where the file system or the kernel cannot."""
    if not hasattr(_libc, "fallocate"):
        return False
    mode = ctypes.c_int(_KEEP_SIZE | _PUNCH_HOLE)
    return bool(_libc.fallocate(file, mode, ctypes.c_int64(start), ctypes.c_int64(size)) == 0)


def _prepare(connection: sqlite3.Connection) -> None:
    """Tables of this connection alone, empty."""
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS live (multihash BLOB PRIMARY KEY) WITHOUT ROWID")
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS dead (id INTEGER PRIMARY KEY, size INT, file INT, start INT)")
    connection.execute("DELETE FROM live")


def _note(connection: sqlite3.Connection, marked: list[tuple[bytes]]) -> None:
    """Move marks to the table; in one transaction, which touches nothing that others use."""
    connection.execute("BEGIN")
    try:
        connection.executemany("INSERT OR IGNORE INTO live VALUES (?)", marked)
    finally:
        connection.execute("COMMIT")
    marked.clear()


def _links_of(cid: Cid, block: bytes) -> Sequence[Cid]:
    """A verified block's links; what cannot be read has none that anybody could follow."""
    if cid.codec != DAG_PB and cid.codec not in codecs.KNOWN_CODECS:
        return ()
    try:
        return codecs.links_of(cid, block)
    except DataError:
        return ()
