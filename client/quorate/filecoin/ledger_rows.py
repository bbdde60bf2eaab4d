"""The ledger's tables, and values from and to their rows. Amounts are decimal text: SQLite's integers have 64 bits."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from quorate.filecoin.spending import (
    Currency,
    Entry,
    Purpose,
    Rail,
    Receipt,
    Scope,
    ScopeKind,
    State,
    Target,
    Usage,
)
from quorate.protocol.errors import ValidationError

BEGIN_WRITING = "BEGIN IMMEDIATE"
BEGIN_READING = "BEGIN"
APPLICATION_ID = 0x51464C31  # "QFL1"
_APPEND_ONLY = ("caps", "receipts")
_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
CREATE TABLE head (mark TEXT NOT NULL, chain_id TEXT NOT NULL, token TEXT NOT NULL);
CREATE TABLE caps (
  number INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, action TEXT NOT NULL,
  kind TEXT NOT NULL, name TEXT NOT NULL, cap TEXT NOT NULL
) STRICT;
CREATE TABLE entries (
  id TEXT PRIMARY KEY, job TEXT NOT NULL, dataset TEXT NOT NULL, provider TEXT NOT NULL, chain_id TEXT NOT NULL,
  token TEXT NOT NULL, payee TEXT NOT NULL, operator TEXT NOT NULL, rail_id TEXT NOT NULL, day TEXT NOT NULL,
  amount TEXT NOT NULL, base TEXT NOT NULL, expires_at INTEGER NOT NULL, created_at INTEGER NOT NULL,
  state TEXT NOT NULL, signed TEXT NOT NULL, charged TEXT NOT NULL, generation INTEGER NOT NULL
) STRICT;
CREATE INDEX open_entries ON entries (created_at) WHERE state = 'reserved';
CREATE TABLE usage (
  kind TEXT NOT NULL, name TEXT NOT NULL, reserved TEXT NOT NULL, charged TEXT NOT NULL, PRIMARY KEY (kind, name)
) STRICT;
CREATE TABLE rails (
  name TEXT PRIMARY KEY, total TEXT NOT NULL, is_final INTEGER NOT NULL, open_id TEXT NOT NULL
) STRICT;
CREATE TABLE receipts (
  number INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, entry TEXT NOT NULL UNIQUE REFERENCES entries (id),
  note TEXT NOT NULL
) STRICT;
""" + "".join(
    f"CREATE TRIGGER {table}_{verb} BEFORE {verb.upper()} ON {table}"
    f" BEGIN SELECT RAISE(ABORT, 'rows of {table} are only ever added'); END;\n"
    for table in _APPEND_ONLY
    for verb in ("update", "delete")
)
_ENTRY = (
    "id, job, dataset, provider, chain_id, token, payee, operator, rail_id, day, amount, base, expires_at, created_at,"
    " state, signed, charged, generation"
)


def connect(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection whose commits are on disk when they return. Raises sqlite3.Error."""
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False
    )
    try:
        if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise sqlite3.DatabaseError("its file system cannot share memory between processes")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        db.close()
        raise
    return db


def create(path: Path, currency: Currency, mark: str) -> None:
    """A new file, there whole or not at all. Raises sqlite3.Error, FileExistsError."""
    temporary = path.with_name(f".{path.name}.{mark}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        db = sqlite3.connect(temporary, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = FULL")
            db.executescript("BEGIN;" + _SCHEMA)
            db.execute("INSERT INTO head VALUES (?, ?, ?)", (mark, str(currency.chain_id), currency.token))
            db.execute("COMMIT")
        finally:
            db.close()
        os.link(temporary, path)
    finally:
        temporary.unlink()


def find_damage(db: sqlite3.Connection) -> str | None:
    """What SQLite finds wrong with the file."""
    found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    return None if found == "ok" else found


def read_head(db: sqlite3.Connection) -> tuple[Currency, str]:
    """The ledger's token and its mark. Raises sqlite3.Error for a file that is no ledger."""
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise sqlite3.DatabaseError("not a spending ledger")
    mark, chain_id, token = db.execute("SELECT mark, chain_id, token FROM head").fetchone()
    return Currency(int(chain_id), token), mark


def add_cap(db: sqlite3.Connection, at: int, action: str, scope: Scope, cap: int) -> None:
    """From now on the scope's cap."""
    row = (at, action, scope.kind, scope.name, str(cap))
    db.execute("INSERT INTO caps (at, action, kind, name, cap) VALUES (?, ?, ?, ?, ?)", row)


def read_caps(db: sqlite3.Connection) -> dict[Scope, int]:
    """Caps as they are."""
    found = db.execute("SELECT kind, name, cap FROM caps ORDER BY number")
    return {Scope(ScopeKind(kind), name): int(cap) for kind, name, cap in found}


def write_entry(db: sqlite3.Connection, entry: Entry) -> None:
    """A new or changed reservation."""
    e, t = entry, entry.target
    row = (
        e.id, e.purpose.job, e.purpose.dataset, e.purpose.provider, str(t.currency.chain_id), t.currency.token, t.payee,
        t.operator, str(t.rail_id), e.day, str(e.amount), str(e.base), e.expires_at, e.created_at, e.state,
        str(e.signed), str(e.charged), e.generation,
    )  # fmt: skip
    db.execute(f"INSERT OR REPLACE INTO entries ({_ENTRY}) VALUES ({', '.join('?' * len(row))})", row)


def has_entry(db: sqlite3.Connection, reservation_id: str) -> bool:
    """Whether there is, or was, such a reservation."""
    return db.execute("SELECT 1 FROM entries WHERE id = ?", (reservation_id,)).fetchone() is not None


def read_entry(db: sqlite3.Connection, reservation_id: str) -> Entry:
    """Raises ValidationError when there is none."""
    row = db.execute(f"SELECT {_ENTRY} FROM entries WHERE id = ?", (reservation_id,)).fetchone()
    if row is None:
        raise ValidationError(f"there is no reservation {reservation_id!r} in this ledger")
    return _to_entry(*row)


def read_entries(db: sqlite3.Connection, *, only_open: bool = False) -> Iterator[Entry]:
    """Reservations, oldest first."""
    where = "WHERE state = 'reserved'" if only_open else ""
    for row in db.execute(f"SELECT {_ENTRY} FROM entries {where} ORDER BY created_at, id"):
        yield _to_entry(*row)


def write_usage(db: sqlite3.Connection, usage: Mapping[Scope, Usage]) -> None:
    """Sums of some scopes."""
    found = [(s.kind, s.name, str(u.reserved), str(u.charged)) for s, u in usage.items()]
    db.executemany("INSERT OR REPLACE INTO usage (kind, name, reserved, charged) VALUES (?, ?, ?, ?)", found)


def read_usage(db: sqlite3.Connection) -> dict[Scope, Usage]:
    """Sums of all scopes."""
    found = db.execute("SELECT kind, name, reserved, charged FROM usage")
    return {Scope(ScopeKind(kind), name): Usage(int(held), int(gone)) for kind, name, held, gone in found}


def read_usage_of(db: sqlite3.Connection, scopes: Iterable[Scope]) -> dict[Scope, Usage]:
    """Sums of some scopes."""
    found = {}
    for scope in scopes:
        query = "SELECT reserved, charged FROM usage WHERE kind = ? AND name = ?"
        if (row := db.execute(query, (scope.kind, scope.name)).fetchone()) is not None:
            found[scope] = Usage(int(row[0]), int(row[1]))
    return found


def write_rail(db: sqlite3.Connection, name: str, rail: Rail) -> None:
    """How a rail stands."""
    row = (name, str(rail.total), int(rail.is_final), rail.open_id)
    db.execute("INSERT OR REPLACE INTO rails (name, total, is_final, open_id) VALUES (?, ?, ?, ?)", row)


def read_rail(db: sqlite3.Connection, name: str) -> Rail:
    """How a rail stands; the empty name is no rail."""
    row = db.execute("SELECT total, is_final, open_id FROM rails WHERE name = ?", (name,)).fetchone()
    return Rail() if row is None else Rail(int(row[0]), bool(row[1]), row[2])


def add_receipt(db: sqlite3.Connection, at: int, entry: Entry, note: str) -> None:
    """What came of a reservation; once for each."""
    db.execute("INSERT INTO receipts (at, entry, note) VALUES (?, ?, ?)", (at, entry.id, note))


_RECEIPTS = f"SELECT number, at, note, {_ENTRY} FROM receipts JOIN entries ON entry = id"


def read_receipts(db: sqlite3.Connection, after: int, count: int) -> list[Receipt]:
    """Receipts behind a number, oldest first."""
    found = db.execute(f"{_RECEIPTS} WHERE number > ? ORDER BY number LIMIT ?", (after, count))
    return [Receipt(number, at, note, _to_entry(*row)) for number, at, note, *row in found]


def read_receipt_of(db: sqlite3.Connection, reservation_id: str) -> Receipt:
    """The receipt of a reservation that has ended."""
    number, at, note, *row = db.execute(f"{_RECEIPTS} WHERE id = ?", (reservation_id,)).fetchone()
    return Receipt(number, at, note, _to_entry(*row))


def _to_entry(
    id_: str, job: str, dataset: str, provider: str, chain_id: str, token: str, payee: str, operator: str, rail_id: str,
    day: str, amount: str, base: str, expires_at: int, created_at: int, state: str, signed: str, charged: str,
    generation: int,
) -> Entry:  # fmt: skip
    target = Target(Currency(int(chain_id), token), payee, operator, int(rail_id))
    purpose = Purpose(job, dataset, provider)
    return Entry(
        id_, purpose, target, day, int(amount), int(base), expires_at, created_at, State(state), int(signed),
        int(charged), generation,
    )  # fmt: skip
