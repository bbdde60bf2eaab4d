"""The budget ledger on disk: SQLite, shared by all processes of a wallet; see `budget` for what it decides.

Every step is durable before the function that takes it returns (WAL, synchronous=FULL), and steps exclude each other
(BEGIN IMMEDIATE), so that no crash and no race lets a cap be passed. A ledger that is missing, locked, full or damaged
raises, and then nothing can be signed: `payments` signs only what an `Authorization` says, and only `Reservation`s
make these. A file NAME.id beside it tells a ledger that was lost from one that never was.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, final

from quorate.chain.types import write_atomically
from quorate.filecoin import ledger_rows as rows
from quorate.filecoin.budget import (
    Books,
    Change,
    check_caps,
    decide_charge,
    decide_prove,
    decide_release,
    decide_reserve,
    decide_resume,
    decide_sign,
    sum_usage,
)
from quorate.filecoin.spending import (
    Currency,
    Entry,
    Proof,
    Purpose,
    Rail,
    Receipt,
    Scope,
    ScopeKind,
    State,
    Target,
    Usage,
    check_amount,
    compute_day,
)
from quorate.protocol.errors import Busy, ConfigurationError, UnrecoverableError, ValidationError

BUSY_S = 10.0
_SEAL = object()
_HOW_TO_RENEW = (
    "restore it from a backup; or, when the chain shows that nothing signed is outstanding, remove {marker} and set the"
    " limit again"
)


class LedgerLost(UnrecoverableError):
    """There was a ledger and it is gone: what was spent is not known, so nothing may be spent."""


class LedgerDamaged(UnrecoverableError):
    """The ledger's file is not what was written."""


class LedgerFull(UnrecoverableError):
    """The disk takes no more: what cannot be noted is not signed."""


class LedgerBusy(Busy):
    """Another process held the ledger for too long; nothing was signed."""


@final
class Authorization:
    """Leave to sign one thing: a voucher for `up_to` on the target's rail, or one payment of `up_to`.

    Only a Reservation makes one, after the ledger has it on disk.
    """

    __slots__ = ("expires_at", "reservation_id", "target", "up_to")

    reservation_id: str
    target: Target
    up_to: int
    expires_at: int

    def __init__(self, seal: object, entry: Entry, up_to: int) -> None:
        _check_seal(seal)
        for name, value in (
            ("reservation_id", entry.id), ("target", entry.target), ("up_to", up_to), ("expires_at", entry.expires_at)
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an authorization's {name} cannot be changed: authorize anew")

    def __reduce__(self) -> NoReturn:
        raise TypeError("an authorization cannot be copied out of its process")


@final
class Reservation:
    """An amount set aside for one purpose, in the hands of this process. Thread-safe.

    As a context it ends itself when nothing was signed; otherwise `charge` it, or leave it to be resumed or proven.
    """

    __slots__ = ("_ahead", "_covered", "_ledger", "_lock", "_signed", "entry")

    def __init__(self, seal: object, ledger: Ledger, entry: Entry, ahead: int) -> None:
        _check_seal(seal)
        self._ledger, self.entry, self._ahead = ledger, entry, ahead
        self._signed = self._covered = entry.signed
        self._lock = threading.Lock()

    @property
    def signed(self) -> int:
        """What may have been signed of it, by anybody who had it."""
        return self._signed

    def authorize(self, up_to: int | None = None) -> Authorization:
        """Note that `up_to` (cumulative; by default all of it) is being signed, then allow it.

        Raises ReservationExceeded, ReservationEnded, SpendingLimitExceeded (a cap was lowered), or what the disk says.
        """
        self._ledger._check_process()
        with self._lock:
            entry = self.entry
            up_to = entry.base + entry.amount if up_to is None else check_amount("the amount to sign", up_to)
            if self._ahead == 0 or up_to - entry.base > self._covered:
                noted = self._ledger._sign(entry, up_to, self._ahead)
                self._covered = noted.signed
            self._signed = max(self._signed, up_to - entry.base)
            return Authorization(_SEAL, entry, up_to)

    def charge(self, note: str = "") -> Receipt:
        """What was signed is spent, the rest is free again, and nothing more is signed. Raises ReservationEnded."""
        with self._lock:
            self._covered = 0  # what was noted ahead will be free again
            return self._ledger._charge(self.entry, self._signed, note)

    def release(self) -> None:
        """Free all of it. Raises ProofRefused when something was signed."""
        self._ledger.release(self.entry.id)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            entry = self._ledger.get_entry(self.entry.id)
            if entry.state is State.RESERVED and entry.generation == self.entry.generation and not entry.signed:
                self._ledger.release(entry.id)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a reservation cannot be copied: resume it by its id")


class Ledger:
    """One wallet's ledger. Thread-safe; after a fork, open it anew.

    Opening raises ConfigurationError when there never was one, LedgerLost, LedgerDamaged, LedgerBusy or LedgerFull.
    `clock` gives unix seconds.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time, busy_s: float = BUSY_S) -> None:
        self._path, self._clock, self._pid = path, clock, os.getpid()
        self._lock = threading.RLock()
        marker = _marker(path)
        if not path.exists():
            if marker.exists():
                raise LedgerLost(f"the spending ledger {path} is lost: {_HOW_TO_RENEW.format(marker=marker)}")
            raise ConfigurationError(f"no spending limit at {path}: set one with `filecoin limit set`")
        with _translated(path):
            self._db = rows.connect(path, busy_s)
        try:
            with self._reading():
                self.currency, mark = rows.read_head(self._db)
                self._check()
            if not marker.exists():
                write_atomically(marker, mark + "\n", 0o600)
            elif marker.read_text().strip() != mark:
                raise LedgerLost(f"{path} is another ledger than the one before: {_HOW_TO_RENEW.format(marker=marker)}")
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def create(cls, path: Path, currency: Currency) -> None:
        """Make an empty ledger, in which nothing may be spent. Raises ConfigurationError when there is or was one."""
        marker = _marker(path)
        if path.exists():
            raise ConfigurationError(f"{path} exists: a ledger is never overwritten")
        if marker.exists():
            raise LedgerLost(f"the spending ledger {path} is lost: {_HOW_TO_RENEW.format(marker=marker)}")
        mark = secrets.token_hex(16)
        try:
            with _translated(path):
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                rows.create(path, currency, mark)
            write_atomically(marker, mark + "\n", 0o600)
        except OSError as error:
            raise LedgerFull(f"cannot make the spending ledger {path}: {error.strerror}") from error

    def close(self) -> None:
        """Give the file back; reservations of this object can then sign nothing."""
        with self._lock:
            self._db.close()

    def check(self, purpose: Purpose, amount: int) -> None:
        """Raise SpendingLimitExceeded when so much could not be reserved now; nothing is."""
        scopes = purpose.scopes(compute_day(int(self._clock())))
        with self._reading():
            check_caps(Books(rows.read_caps(self._db), rows.read_usage_of(self._db, scopes)), scopes, amount)

    def reserve(
        self, purpose: Purpose, target: Target, amount: int, *, expires_at: int = 0, ahead: int = 0, id_: str = ""
    ) -> Reservation:
        """Set `amount` aside, durably. `ahead` lets as much be noted as signed before it is, for fewer writes.

        A single payment needs `expires_at` (unix seconds); vouchers have none. `id_`, of `make_id`, is for whoever has
        to know it before. Raises SpendingLimitExceeded, RailBusy, ConfigurationError (another token or chain),
        ValidationError, or what the disk says.
        """
        now, ahead = int(self._clock()), check_amount("ahead", ahead, least=0)
        entry = Entry(id_ or make_id(), purpose, target, compute_day(now), amount, 0, expires_at, now)
        with self._writing():
            if id_ and rows.has_entry(self._db, id_):
                raise ValidationError(f"reservation {id_} exists: one is never made twice")
            books = self._read_books(entry)
            change = decide_reserve(books, self.currency, entry, now)
            self._write(change)
        return Reservation(_SEAL, self, change.entry, ahead)

    def resume(self, reservation_id: str, *, ahead: int = 0) -> Reservation:
        """Take over a reservation, as of a process that died: that one signs nothing new. Raises ReservationEnded."""
        check_amount("ahead", ahead, least=0)
        entry = self._decide(reservation_id, decide_resume)
        return Reservation(_SEAL, self, entry, ahead)

    def release(self, reservation_id: str) -> None:
        """End a reservation of which nothing was signed, whoever has it. Raises ProofRefused, ReservationEnded."""
        self._decide(reservation_id, decide_release)

    def prove(self, reservation_id: str, proof: Proof) -> Entry:
        """End an orphan by what the chain shows. Raises ProofRefused, ReservationEnded, PaidMoreThanSigned."""
        note = f"by the chain: {proof.evidence}"
        return self._decide(reservation_id, lambda books, entry: decide_prove(books, entry, proof), note)

    def set_cap(self, scope: Scope, cap: int, action: str = "set") -> None:
        """Limit a scope to `cap` base units; a scope without a name means each of its kind."""
        check_amount("cap", cap, least=0)
        with self._writing():
            rows.add_cap(self._db, int(self._clock()), action, scope, cap)

    def top_up(self, scope: Scope, amount: int) -> int:
        """Raise the scope's own cap; the new one. Raises ValidationError where it has none."""
        check_amount("amount", amount)
        with self._writing():
            if (before := rows.read_caps(self._db).get(scope)) is None:
                raise ValidationError(f"there is no limit for {scope} to raise: set one first")
            cap = check_amount("cap", before + amount)
            rows.add_cap(self._db, int(self._clock()), "top-up", scope, cap)
        return cap

    def revoke(self) -> None:
        """Let nothing be reserved any more, and nothing signed of what is reserved, in any process."""
        self.set_cap(Scope(ScopeKind.TOTAL), 0, "revoke")

    def get_entry(self, reservation_id: str) -> Entry:
        """Raises ValidationError when there is none."""
        with self._reading():
            return rows.read_entry(self._db, reservation_id)

    def get_rail(self, target: Target) -> Rail:
        """What was charged on a target's rail so far."""
        with self._reading():
            return rows.read_rail(self._db, target.rail)

    def list_open(self) -> list[Entry]:
        """Reservations that have not ended, oldest first; those of dead processes among them."""
        with self._reading():
            return list(rows.read_entries(self._db, only_open=True))

    def list_caps(self) -> dict[Scope, int]:
        """All caps."""
        with self._reading():
            return rows.read_caps(self._db)

    def list_usage(self) -> dict[Scope, Usage]:
        """What is used of every scope that ever was."""
        with self._reading():
            return rows.read_usage(self._db)

    def list_receipts(self, after: int = 0, count: int = 1000) -> list[Receipt]:
        """At most `count` receipts behind number `after`, oldest first."""
        with self._reading():
            return rows.read_receipts(self._db, after, count)

    def _sign(self, entry: Entry, up_to: int, ahead: int) -> Entry:
        now, generation = int(self._clock()), entry.generation
        return self._decide(entry.id, lambda books, held: decide_sign(books, held, generation, up_to, ahead, now))

    def _charge(self, entry: Entry, signed: int, note: str) -> Receipt:
        self._decide(entry.id, lambda books, held: decide_charge(books, held, entry.generation, signed), note)
        with self._reading():
            return rows.read_receipt_of(self._db, entry.id)

    def _decide(self, reservation_id: str, decision: Callable[[Books, Entry], Change], note: str = "") -> Entry:
        with self._writing():
            entry = rows.read_entry(self._db, reservation_id)
            change = decision(self._read_books(entry), entry)
            self._write(change)
            if change.entry.state is not State.RESERVED:
                rows.add_receipt(self._db, int(self._clock()), change.entry, note)
        return change.entry

    def _read_books(self, entry: Entry) -> Books:
        caps, usage = rows.read_caps(self._db), rows.read_usage_of(self._db, entry.scopes)
        return Books(caps, usage, rows.read_rail(self._db, entry.target.rail))

    def _write(self, change: Change) -> None:
        rows.write_entry(self._db, change.entry)
        rows.write_usage(self._db, change.usage)
        if change.entry.target.rail:
            rows.write_rail(self._db, change.entry.target.rail, change.rail)

    def _check(self) -> None:
        """The file is whole, and its sums are those of its reservations."""
        if (found := rows.find_damage(self._db)) is not None:
            raise LedgerDamaged(f"{self._path} is damaged ({found}): restore it from a backup")
        try:
            is_right = rows.read_usage(self._db) == sum_usage(rows.read_entries(self._db))
            rows.read_caps(self._db)
        except (ValueError, TypeError, ValidationError) as error:
            raise LedgerDamaged(f"{self._path} has a row that nobody wrote ({error}): restore it") from error
        if not is_right:
            raise LedgerDamaged(f"the sums in {self._path} are not those of its reservations: restore it from a backup")

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise UnrecoverableError("a ledger does not survive a fork: open it anew")

    def _writing(self) -> AbstractContextManager[None]:
        return self._transaction(rows.BEGIN_WRITING)

    def _reading(self) -> AbstractContextManager[None]:
        return self._transaction(rows.BEGIN_READING)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        """All or nothing; when it ends without an error, what it wrote is on disk."""
        self._check_process()
        with self._lock, _translated(self._path):
            self._db.execute(begin)
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def make_id() -> str:
    """The name of a new reservation."""
    return secrets.token_hex(16)


def _marker(path: Path) -> Path:
    return path.with_name(path.name + ".id")


def _check_seal(seal: object) -> None:
    if seal is not _SEAL:
        raise TypeError("only a Ledger makes reservations, and only a Reservation authorizations")


@contextmanager
def _translated(path: Path) -> Iterator[Any]:
    """What SQLite raises, as one of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(path, error) from error


def _explain(path: Path, error: sqlite3.Error) -> Exception:
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LedgerBusy(f"{path} is locked by another process; nothing was signed: try again")
    if primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        return LedgerFull(f"{path} cannot be written ({error}); nothing was signed: make room, or repair the disk")
    return LedgerDamaged(f"{path} is damaged or not a ledger ({error}): restore it from a backup")
