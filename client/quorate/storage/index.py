"""The embedded store's index: which block lies where. SQLite, write-ahead log; a commit is durable by default.

A row either holds a small block itself, or names a plain file, an offset and a length. Files are the store's own
segments, which never change once a row names them, or somebody else's ("external"), which may change or vanish:
their size and time are compared before a block counts as here, and its hash is checked when it is read.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import NamedTuple

from quorate.protocol.errors import Busy, QuorateError, UnrecoverableError

BUSY_TIMEOUT_S = 30
_SCHEMAS = (
    """
CREATE TABLE file (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, is_owned INTEGER NOT NULL,
                   size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL);
CREATE TABLE block (id INTEGER PRIMARY KEY, multihash BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,
                    file INTEGER REFERENCES file (id), start INTEGER, data BLOB);
CREATE INDEX block_file ON block (file) WHERE file IS NOT NULL;
CREATE TABLE pin (cid BLOB PRIMARY KEY);
""",
    "CREATE TABLE hold (cid BLOB PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID",
)  # each makes the next version of the one before
# What is held for nearly as long already costs no write: every task leaves the same empty folder.
_HOLD = """INSERT INTO hold VALUES (?, ?)
           ON CONFLICT (cid) DO UPDATE SET until = excluded.until WHERE excluded.until > hold.until + 3600"""
# The earliest of those that end by a time: one of so many, rounded up.
_RELEASE = """DELETE FROM hold WHERE cid IN (SELECT cid FROM hold WHERE until <= ?1 ORDER BY until
              LIMIT (SELECT (count(*) + ?2 - 1) / ?2 FROM hold WHERE until <= ?1))"""
_LOCATE = """SELECT block.size, block.start, block.data, file.path, file.is_owned, file.size, file.mtime_ns
             FROM block LEFT JOIN file ON file.id = block.file WHERE block.multihash = ?"""
# What is ours outlives what is not, and a newer place of somebody else's is likelier to be good than an older one.
_KEEP = """INSERT INTO block (multihash, size, file, start, data) VALUES (?, ?, ?, ?, ?)
           ON CONFLICT (multihash) DO UPDATE SET file = excluded.file, start = excluded.start, data = excluded.data
           WHERE block.file IN (SELECT id FROM file WHERE NOT is_owned)"""


class StoreDamaged(UnrecoverableError):
    """The index cannot be read; nothing is served from it."""


class Place(NamedTuple):
    """Where a block is: its bytes themselves, or a span of a file."""

    size: int
    start: int | None
    data: bytes | None
    path: str | None
    is_owned: int | None
    file_size: int | None
    file_mtime_ns: int | None


class Row(NamedTuple):
    """A block to keep: at `start` of `file`, or in `data`."""

    multihash: bytes
    size: int
    file: str | None
    start: int | None
    data: bytes | None


class File(NamedTuple):
    """A file that rows name, as it was when it was read; its size grows while it is a segment being written."""

    is_owned: bool
    size: int
    mtime_ns: int


class Stats(NamedTuple):
    """What a store holds. `referred_bytes` lie in files of others; `disk_bytes` is what its own take up."""

    blocks: int
    bytes: int
    referred_bytes: int
    pins: int
    holds: int
    disk_bytes: int


class Index:
    """Connections to one index file, one for each thread that is in it at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._idle: list[sqlite3.Connection] = []
        self._owner = os.getpid()
        with self.connection() as connection:
            self._prepare(connection)

    def connection(self) -> _Use:
        """A connection for one use; Busy when the index stays locked, StoreDamaged when it is no index."""
        return _Use(self)

    def _borrow(self) -> sqlite3.Connection:
        with self._lock:
            if self._owner != os.getpid():  # SQLite's connections must not cross a fork, not even to be closed
                self._owner, self._idle = os.getpid(), list[sqlite3.Connection]()
            connection = self._idle.pop() if self._idle else None
        return self._open() if connection is None else connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            self._idle.append(connection)

    def _explain(self, error: sqlite3.DatabaseError) -> QuorateError:
        if not isinstance(error, sqlite3.OperationalError):
            return StoreDamaged(
                f"{self._path} is damaged ({error}); move the store's directory away and add or fetch the content again"
            )
        if "locked" in str(error) or "busy" in str(error):
            return Busy(f"{self._path} is locked by another process for {BUSY_TIMEOUT_S} s; try again")
        if "full" in str(error):
            return Busy(f"{self._path} cannot grow: {error}; make room on its disk")
        return StoreDamaged(f"{self._path}: {error}; see that the disk has room and is writable")

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=32
        )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA mmap_size = 268435456")
        return connection

    @staticmethod
    def _prepare(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")  # two processes may open a new store at once
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for schema in _SCHEMAS[version:]:
            for statement in schema.split(";"):
                connection.execute(statement)
        newest = len(_SCHEMAS)
        if version < newest:
            connection.execute(f"PRAGMA user_version = {newest}")
        connection.execute("COMMIT")
        if version > newest:
            raise StoreDamaged(f"the store has format {version}, this program knows {newest}; use a newer Quorate")

    def locate(self, multihash: bytes) -> Place | None:
        with self.connection() as connection:
            row = connection.execute(_LOCATE, (multihash,)).fetchone()
        return Place(*row) if row else None

    def keep(
        self,
        rows: Iterable[Row],
        files: Mapping[str, File],
        holds: Mapping[bytes, int] | None = None,
        *,
        is_durable: bool = True,
    ) -> tuple[int, int]:
        """Commit rows whose bytes are durable already; returns how many blocks and bytes were new.

        `holds` are binary CIDs, each with the time (unix seconds) until which its DAG is kept.

        Without `is_durable` the commit does not wait for the disk; see `sync`.
        """
        new_blocks = new_bytes = 0
        with self.connection() as connection:
            if not is_durable:
                connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                numbers = {path: self._file_number(connection, path, file) for path, file in files.items()}
                for row in rows:
                    home = numbers[row.file] if row.file is not None else None
                    cursor = connection.execute(_KEEP, (row.multihash, row.size, home, row.start, row.data))
                    if cursor.rowcount > 0:
                        new_blocks, new_bytes = new_blocks + 1, new_bytes + row.size
                connection.executemany(_HOLD, (holds or {}).items())
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            finally:
                if not is_durable:
                    connection.execute("PRAGMA synchronous = FULL")
        return new_blocks, new_bytes

    def sync(self) -> None:
        """Make every commit so far durable: what is not in the log any more was synced when it left it."""
        try:
            log = os.open(f"{self._path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            os.fdatasync(log)
        except OSError as error:
            raise Busy(f"the store cannot be written: {error.strerror}; make room on its disk") from error
        finally:
            os.close(log)

    @staticmethod
    def _file_number(connection: sqlite3.Connection, path: str, file: File) -> int:
        known = connection.execute("SELECT id, size, mtime_ns FROM file WHERE path = ?", (path,)).fetchone()
        if known is None:
            cursor = connection.execute(
                "INSERT INTO file (path, is_owned, size, mtime_ns) VALUES (?, ?, ?, ?)", (path, *map(int, file))
            )
            return int(cursor.lastrowid or 0)
        number = int(known[0])
        if known[1:] != (file.size, file.mtime_ns):
            if not file.is_owned:  # its old content is gone
                connection.execute("DELETE FROM block WHERE file = ?", (number,))
            connection.execute(
                "UPDATE file SET size = ?, mtime_ns = ? WHERE id = ?", (file.size, file.mtime_ns, number)
            )
        return number

    def forget(self, multihash: bytes) -> None:
        """Drop a row whose bytes turned out to be others, so that the block can be fetched again."""
        with self.connection() as connection:
            connection.execute("DELETE FROM block WHERE multihash = ?", (multihash,))

    def owned_files(self) -> set[str]:
        with self.connection() as connection:
            return {path for (path,) in connection.execute("SELECT path FROM file WHERE is_owned")}

    def set_pin(self, cid: bytes, is_pinned: bool) -> None:
        statement = "INSERT OR IGNORE INTO pin VALUES (?)" if is_pinned else "DELETE FROM pin WHERE cid = ?"
        with self.connection() as connection:
            connection.execute(statement, (cid,))

    def pins(self) -> Sequence[bytes]:
        with self.connection() as connection:
            return [cid for (cid,) in connection.execute("SELECT cid FROM pin ORDER BY rowid")]

    def kept_roots(self, now: float) -> set[bytes]:
        """Binary CIDs of all DAGs that must stay: pinned, or held at this time (unix seconds)."""
        with self.connection() as connection:
            found = connection.execute("SELECT cid FROM pin UNION SELECT cid FROM hold WHERE until > ?", (now,))
            return {cid for (cid,) in found}

    def stats(self, segments: Path) -> Stats:
        with self.connection() as connection:
            blocks, size = connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM block").fetchone()
            (referred,) = connection.execute(
                "SELECT coalesce(sum(block.size), 0) FROM block JOIN file ON file.id = block.file WHERE NOT is_owned"
            ).fetchone()
            (pins,) = connection.execute("SELECT count(*) FROM pin").fetchone()
            (holds,) = connection.execute("SELECT count(*) FROM hold WHERE until > ?", (time.time(),)).fetchone()
        return Stats(blocks, size, referred, pins, holds, self.disk_bytes(segments))

    def disk_bytes(self, segments: Path) -> int:
        return _disk_bytes([*segments.iterdir(), *self._files()])

    def free_bytes(self) -> int:
        """What the index takes up for nothing since its rows were deleted, and fills again first."""
        with self.connection() as connection:
            numbers = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size")]
        return int(numbers[0] * numbers[1])

    def release(self, until: int, part: int) -> int:
        """Forget the first `part`th of all holds that end by a time (unix seconds); how many."""
        with self.connection() as connection:
            return connection.execute(_RELEASE, (until, part)).rowcount

    def _files(self) -> list[Path]:
        return [self._path.with_name(self._path.name + end) for end in ("", "-wal", "-shm")]

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        if self._owner == os.getpid():
            for connection in idle:
                connection.close()


def is_blank(path: Path) -> bool:
    """Whether the file is an index to which nothing was ever written, or of which the log with all that was is gone.

    What is no index at all is for `Index` to explain.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return int(version) == 0
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()


def _disk_bytes(files: Iterable[Path]) -> int:
    """Room that files take; one that a neighbour removes meanwhile takes none."""
    total = 0
    for file in files:
        with suppress(FileNotFoundError):
            total += file.stat().st_blocks * 512
    return total


class _Use:
    """One use of a connection. No generator: tasks look up many blocks, and one costs as much as the look-up."""

    __slots__ = ("_connection", "_index")

    def __init__(self, index: Index) -> None:
        self._index = index
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._connection = self._index._borrow()
        except sqlite3.DatabaseError as error:
            raise self._index._explain(error) from error
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._connection is not None
        if isinstance(error, sqlite3.OperationalError) and self._connection.in_transaction:
            self._connection.rollback()
        self._index._give_back(self._connection)
        if isinstance(error, sqlite3.DatabaseError):
            raise self._index._explain(error) from error
