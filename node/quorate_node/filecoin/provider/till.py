"""Every voucher and single payment that was taken, on disk before a byte is sent for it.

A rail's `best` voucher is the one that will be redeemed; `delivered` is the price of all chunks that were paid for on
it. What the best voucher is above that is credit. A chunk that was paid for on a rail under its terms stays paid.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from quorate.chain.types import to_hex
from quorate.filecoin.payments import SignedTransfer, SignedVoucher, Voucher, check_voucher
from quorate.filecoin.spending import Currency, Target
from quorate.filecoin.terms import Terms
from quorate.protocol.types import Address
from quorate_node.filecoin.provider.database import Database

_SCHEMA = """
CREATE TABLE rail (rail TEXT PRIMARY KEY, number TEXT NOT NULL, payer BLOB NOT NULL, delivered TEXT NOT NULL,
                   best TEXT NOT NULL, terms BLOB NOT NULL, signature BLOB NOT NULL, redeemed TEXT NOT NULL,
                   is_over INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE terms (hash BLOB PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE chunk (rail TEXT NOT NULL, terms BLOB NOT NULL, number INTEGER NOT NULL,
                    PRIMARY KEY (rail, terms, number)) WITHOUT ROWID;
CREATE TABLE single (payer BLOB NOT NULL, nonce BLOB NOT NULL, resource TEXT NOT NULL, value TEXT NOT NULL,
                     valid_after TEXT NOT NULL, valid_before TEXT NOT NULL, signature BLOB NOT NULL,
                     chain TEXT NOT NULL, token TEXT NOT NULL, payee TEXT NOT NULL, state TEXT NOT NULL,
                     tx BLOB NOT NULL, note TEXT NOT NULL, block INTEGER NOT NULL, at INTEGER NOT NULL,
                     PRIMARY KEY (payer, nonce)) WITHOUT ROWID
"""
_REPEATS = """
CREATE TABLE IF NOT EXISTS repeat (rail TEXT NOT NULL, terms BLOB NOT NULL, number INTEGER NOT NULL,
                                   bytes INTEGER NOT NULL, PRIMARY KEY (rail, terms, number)) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class RailAccount:
    """A rail here: base units, cumulative over its life. `is_over`: the chain pays nothing more on it."""

    target: Target
    payer: Address
    delivered: int
    best: SignedVoucher
    redeemed: int
    is_over: bool

    @property
    def owed(self) -> int:
        """What the best voucher is above what was redeemed."""
        return self.best.voucher.cumulative - self.redeemed

    @property
    def credit(self) -> int:
        """What was paid for and not delivered yet."""
        return self.best.voucher.cumulative - self.delivered


class SingleState(StrEnum):
    """Where a single payment stands."""

    PENDING = "pending"
    SETTLED = "settled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Single:
    """A payment by EIP-3009 for `resource`; `block` is the chain's when it came, `at` unix seconds."""

    transfer: SignedTransfer
    resource: str
    state: SingleState
    transaction: bytes
    note: str
    block: int
    at: int


class Till:
    """The records of a provider's home. Methods block, and may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self._db = Database(path, _SCHEMA)
        with self._db.writing() as c:
            c.execute(_REPEATS)

    def close(self) -> None:
        """Give the file back."""
        self._db.close()

    # vouchers -----------------------------------------------------------------------------------------------------

    def is_known(self, terms_hash: bytes) -> bool:
        """Whether a voucher was taken under these terms."""
        with self._db.reading() as c:
            return c.execute("SELECT 1 FROM terms WHERE hash = ?", (terms_hash,)).fetchone() is not None

    def is_paid(self, target: Target, terms_hash: bytes, chunk: int) -> bool:
        """Whether a chunk was paid for on a rail under these terms."""
        with self._db.reading() as c:
            return _is_paid(c, target.rail, terms_hash, chunk)

    def peek(self, target: Target) -> tuple[Address, int] | None:
        """A rail's payer and its best voucher's sum."""
        with self._db.reading() as c:
            row = c.execute("SELECT payer, best FROM rail WHERE rail = ?", (target.rail,)).fetchone()
        return (Address(row[0]), int(row[1])) if row else None

    def find(self, target: Target) -> RailAccount | None:
        """What is known of a rail."""
        with self._db.reading() as c:
            row = c.execute("SELECT * FROM rail WHERE rail = ?", (target.rail,)).fetchone()
            return _read_rail(c, row) if row else None

    def take(
        self, signed: SignedVoucher, terms: Terms, payer: Address, chunk: int, ceiling: int, redeemed: int
    ) -> bool:
        """Take a voucher for a chunk, durably; False when the chunk was paid for before and the voucher is not new.

        A new one buys the chunk once more, as a reader wants that reads it again and pays again.
        `ceiling` is what the chain would redeem on the rail in all, `redeemed` what it has: of a rail that is new here
        that much was delivered, by whoever had it redeemed. Raises VoucherRefused; then nothing was taken.
        """
        voucher, target, terms_hash = signed.voucher, terms.get_target(signed.voucher.rail_id), terms.hash
        with self._db.writing() as c:
            row = c.execute("SELECT delivered, best FROM rail WHERE rail = ?", (target.rail,)).fetchone()
            delivered, best = (int(row[0]), int(row[1])) if row else (redeemed, 0)
            if voucher.cumulative <= best and _is_paid(c, target.rail, voucher.terms_hash, chunk):
                return False
            price = terms.price_chunk(chunk)
            check_voucher(signed, target, payer, terms_hash, delivered, price, ceiling)
            if c.execute("SELECT 1 FROM terms WHERE hash = ?", (terms_hash,)).fetchone() is None:
                c.execute("INSERT INTO terms VALUES (?, ?)", (terms_hash, _dump_terms(terms)))
            key = (target.rail, voucher.terms_hash, chunk)
            if not c.execute("INSERT OR IGNORE INTO chunk VALUES (?, ?, ?)", key).rowcount:
                c.execute("DELETE FROM repeat WHERE rail = ? AND terms = ? AND number = ?", key)
            values = (str(delivered + price), str(voucher.cumulative), voucher.terms_hash, signed.signature)
            if row is None:
                first = (target.rail, str(voucher.rail_id), payer)
                c.execute("INSERT INTO rail VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", (*first, *values, str(redeemed)))
            elif voucher.cumulative > best:
                changes = "delivered = ?, best = ?, terms = ?, signature = ?"
                c.execute(f"UPDATE rail SET {changes} WHERE rail = ?", (*values, target.rail))
            else:
                c.execute("UPDATE rail SET delivered = ? WHERE rail = ?", (values[0], target.rail))
        return True

    def repeat(self, target: Target, terms_hash: bytes, chunk: int, size: int, most: int) -> bool:
        """Note that `size` bytes of a chunk that was paid for are sent again; False where that makes more than `most`
        since it was paid for last, and then nothing is noted."""
        key = (target.rail, terms_hash, chunk)
        with self._db.writing() as c:
            found = c.execute("SELECT bytes FROM repeat WHERE rail = ? AND terms = ? AND number = ?", key).fetchone()
            sent = size + (found[0] if found else 0)
            if sent <= most:
                c.execute("INSERT OR REPLACE INTO repeat VALUES (?, ?, ?, ?)", (*key, sent))
        return bool(sent <= most)

    def note_redeemed(self, target: Target, redeemed: int, *, is_over: bool) -> None:
        """What the chain says was redeemed on a rail, and whether that is all it will ever pay."""
        with self._db.writing() as c:
            values = (str(redeemed), is_over, target.rail)
            c.execute("UPDATE rail SET redeemed = ?, is_over = ? WHERE rail = ?", values)

    def list_rails(self) -> list[RailAccount]:
        """Every rail on which a voucher was taken."""
        with self._db.reading() as c:
            return [_read_rail(c, row) for row in c.execute("SELECT * FROM rail ORDER BY rail").fetchall()]

    def count_chunks(self) -> int:
        """Chunks that were paid for, each once for a rail and terms."""
        with self._db.reading() as c:
            return int(c.execute("SELECT count(*) FROM chunk").fetchone()[0])

    # single payments ----------------------------------------------------------------------------------------------

    def begin_single(self, transfer: SignedTransfer, resource: str, block: int, now_s: int) -> Single:
        """Note a payment before it is sent to the chain; the one that is noted, when it came before."""
        t, currency = transfer, transfer.target.currency
        times = (str(t.valid_after), str(t.valid_before))
        where = (str(currency.chain_id), currency.token, t.target.payee)
        row = (t.sender, t.nonce, resource, str(t.value), *times, t.signature, *where, SingleState.PENDING, b"", "")
        with self._db.writing() as c:
            marks = ", ".join("?" * 15)
            c.execute(f"INSERT OR IGNORE INTO single VALUES ({marks})", (*row, block, now_s))
        found = self.find_single(t.sender, t.nonce)
        assert found is not None, "it was just written"
        return found

    def end_single(self, transfer: SignedTransfer, state: SingleState, tx: bytes = b"", note: str = "") -> None:
        """What came of it."""
        with self._db.writing() as c:
            values = (state, tx, note, transfer.sender, transfer.nonce)
            c.execute("UPDATE single SET state = ?, tx = ?, note = ? WHERE payer = ? AND nonce = ?", values)

    def find_single(self, payer: Address, nonce: bytes) -> Single | None:
        """A payment by its payer and nonce."""
        with self._db.reading() as c:
            row = c.execute("SELECT * FROM single WHERE payer = ? AND nonce = ?", (payer, nonce)).fetchone()
        return _read_single(row) if row else None

    def list_singles(self, state: SingleState) -> list[Single]:
        """Payments in a state, oldest first."""
        with self._db.reading() as c:
            rows = c.execute("SELECT * FROM single WHERE state = ? ORDER BY at", (state,)).fetchall()
        return [_read_single(row) for row in rows]


def _is_paid(c: sqlite3.Connection, rail: str, terms_hash: bytes, chunk: int) -> bool:
    key = (rail, terms_hash, chunk)
    return c.execute("SELECT 1 FROM chunk WHERE rail = ? AND terms = ? AND number = ?", key).fetchone() is not None


def _dump_terms(terms: Terms) -> str:
    return json.dumps(asdict(terms) | {"price_per_mib": str(terms.price_per_mib)})


def _read_rail(c: sqlite3.Connection, row: Sequence[Any]) -> RailAccount:
    _, number, payer, delivered, best, terms_hash, signature, redeemed, is_over = row
    (content,) = c.execute("SELECT content FROM terms WHERE hash = ?", (terms_hash,)).fetchone()
    values = json.loads(content)
    target = Target(Currency(**values["currency"]), values["payee"], values["operator"], int(number))
    signed = SignedVoucher(Voucher(int(number), int(best), terms_hash), signature)
    return RailAccount(target, Address(payer), int(delivered), signed, int(redeemed), bool(is_over))


def _read_single(row: Sequence[Any]) -> Single:
    payer, nonce, resource, value, after, before, signature, chain, token, payee, state, tx, note, block, at = row
    target = Target(Currency(int(chain), token), payee)
    transfer = SignedTransfer(Address(payer), target, int(value), int(after), int(before), nonce, signature)
    return Single(transfer, resource, SingleState(state), tx, note, block, at)


def describe_rail(account: RailAccount) -> dict[str, Any]:
    """A rail's figures, amounts as decimal text."""
    return {
        "rail": account.target.rail,
        "payer": to_hex(account.payer),
        "taken": str(account.best.voucher.cumulative),
        "delivered": str(account.delivered),
        "redeemed": str(account.redeemed),
        "owed": str(account.owed),
        "is_over": account.is_over,
    }
