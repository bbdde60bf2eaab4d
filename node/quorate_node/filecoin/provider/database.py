"""A SQLite file of the provider's: write-ahead log, `synchronous=FULL`, one connection that threads use by turns."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

from quorate.protocol.errors import Busy, ConfigurationError, QuorateError, UnrecoverableError

BUSY_TIMEOUT_S = 30
FORMAT = 1


class RecordsDamaged(UnrecoverableError):
    """The file cannot be read: nothing is sold by it, and nothing redeemed."""


class Database:
    """A file with a schema. Every process that has the home may open it at once."""

    def __init__(self, path: Path, schema: str) -> None:
        self.path, self._lock = path, RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}; give another --home") from error
        try:
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._prepare(schema)
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error

    def _prepare(self, schema: str) -> None:
        c = self._connection
        c.execute("PRAGMA journal_mode = WAL")
        c.execute("PRAGMA synchronous = FULL")
        c.execute("BEGIN IMMEDIATE")
        (version,) = c.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in schema.split(";"):
                c.execute(statement)
            c.execute(f"PRAGMA user_version = {FORMAT}")
        c.execute("COMMIT")
        if version > FORMAT:
            raise RecordsDamaged(f"{self.path} has format {version}, this program knows {FORMAT}: use a newer Quorate")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For look-ups. Raises Busy or RecordsDamaged, as `writing` does."""
        with self._lock:
            try:
                yield self._connection
            except sqlite3.DatabaseError as error:
                raise self._explain(error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, which is durable when the block is left without an error, and else never was."""
        with self.reading() as c:
            c.execute("BEGIN IMMEDIATE")
            try:
                yield c
                c.execute("COMMIT")
            except BaseException:
                if c.in_transaction:
                    c.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._connection.close()

    def _explain(self, error: sqlite3.DatabaseError) -> QuorateError:
        if isinstance(error, sqlite3.IntegrityError):
            return UnrecoverableError(f"{self.path}: {error}: this is a fault of the program")
        if isinstance(error, sqlite3.OperationalError) and ("locked" in str(error) or "busy" in str(error)):
            return Busy(f"{self.path} is locked by another process for {BUSY_TIMEOUT_S} s: try again")
        if "full" in str(error):
            return Busy(f"{self.path} cannot grow: {error}; make room on its disk")
        return RecordsDamaged(f"{self.path} cannot be read ({error}): bring it back from a copy; nothing is sold by it")
