"""What may be spent: the life of a reservation. Pure decisions; `ledger` keeps what they decide on disk.

    reserved ── sign (any number of times, up to the amount) ── charge ──► charged   what was signed is spent for good
        │                                                                            the rest is free again
        ├─────── nothing was ever signed ── release ─────────────────────► released
        └─────── the chain shows what came of it ── prove ───────────────► charged or released

A reservation counts in full against every scope until it ends, whoever made it and whether or not that process lives;
so a crash can only make the ledger say too much, never too little.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from quorate.filecoin.spending import (
    Currency,
    Entry,
    PaidMoreThanSigned,
    Proof,
    ProofRefused,
    Rail,
    RailBusy,
    ReservationEnded,
    ReservationExceeded,
    Scope,
    ScopeKind,
    SpendingLimitExceeded,
    State,
    Usage,
    check_amount,
)
from quorate.protocol.errors import ConfigurationError, InvalidTransition, ValidationError

HOW_TO_START = "nothing may be spent before `filecoin limit set total AMOUNT`"


@dataclass(frozen=True, slots=True)
class Books:
    """The part of the ledger that a decision needs: caps and usage of the scopes at hand, and the target's rail."""

    caps: Mapping[Scope, int]
    usage: Mapping[Scope, Usage]
    rail: Rail = Rail()

    def find_cap(self, scope: Scope) -> int | None:
        """The scope's own cap, else that for each of its kind; None where it is not limited."""
        return self.caps.get(scope, self.caps.get(Scope(scope.kind)))


@dataclass(frozen=True, slots=True)
class Change:
    """What a decision makes of the ledger: the entry as it is now, and what else is different."""

    entry: Entry
    usage: Mapping[Scope, Usage]
    rail: Rail


def decide_reserve(books: Books, currency: Currency, entry: Entry, now_s: int) -> Change:
    """Set an amount aside. Raises SpendingLimitExceeded, RailBusy, ValidationError."""
    check_amount("amount", entry.amount)
    if entry.target.currency != currency:
        raise ConfigurationError(
            f"this wallet's limit is in token {currency.token} of chain {currency.chain_id}; refused to pay with token"
            f" {entry.target.currency.token} of chain {entry.target.currency.chain_id}"
        )
    if bool(entry.expires_at) == bool(entry.target.rail_id):
        raise ValidationError("a single payment needs the time when it expires; vouchers have none")
    if entry.expires_at and entry.expires_at <= now_s:
        raise ReservationEnded(f"the payment would have expired at {entry.expires_at} (unix seconds): ask anew")
    if books.rail.is_final:
        raise ReservationEnded(f"rail {entry.target.rail_id} was terminated: open another")
    if books.rail.open_id:
        raise RailBusy(f"rail {entry.target.rail_id} has the open reservation {books.rail.open_id}: resume that one")
    check_caps(books, entry.scopes, entry.amount)
    entry = replace(entry, base=books.rail.total)
    check_amount("the rail's sum", entry.base + entry.amount)
    rail = replace(books.rail, open_id=entry.id) if entry.target.rail_id else books.rail
    return Change(entry, _move(books, entry, Usage(), entry.in_use), rail)


def decide_sign(books: Books, entry: Entry, generation: int, up_to: int, ahead: int, now_s: int) -> Change:
    """Let `up_to` (cumulative on a rail) be signed, and note that it was, with `ahead` base units more.

    Raises ReservationEnded, ReservationExceeded, and SpendingLimitExceeded where a cap was lowered below what is used.
    """
    _check_open(entry, generation)
    if entry.expires_at and now_s >= entry.expires_at:
        raise ReservationEnded(f"reservation {entry.id} expired at {entry.expires_at} (unix seconds)")
    wanted = check_amount("the amount to sign", up_to) - entry.base
    if not 0 < wanted <= entry.amount:
        raise ReservationExceeded(
            f"reservation {entry.id} covers {entry.base + 1} to {entry.base + entry.amount}, not {up_to}"
        )
    if not entry.target.rail_id and wanted != entry.amount:
        raise ReservationExceeded(f"a single payment is signed in full: {entry.amount}, not {wanted}")
    check_caps(books, entry.scopes, 0)
    signed = max(entry.signed, min(entry.amount, wanted + check_amount("ahead", ahead, least=0)))
    return Change(replace(entry, signed=signed), {}, books.rail)


def decide_charge(books: Books, entry: Entry, generation: int, signed: int) -> Change:
    """End a reservation by whoever has it: `signed` of it is spent, the rest is free. Raises ReservationEnded.

    Raises ReservationExceeded when `signed` is more than the ledger let through.
    """
    _check_open(entry, generation)
    if not 0 <= signed <= entry.signed:
        raise ReservationExceeded(f"{signed} of reservation {entry.id} cannot be charged: {entry.signed} was signed")
    return _end(books, entry, signed, books.rail.is_final)


def decide_release(books: Books, entry: Entry) -> Change:
    """End a reservation of which nothing was ever signed; whoever had it can sign nothing any more.

    Raises ProofRefused when something was signed.
    """
    _check_open(entry, entry.generation)
    if entry.signed:
        raise ProofRefused(
            f"{entry.signed} of reservation {entry.id} was signed: only the chain can tell if it was used"
        )
    return _end(books, entry, 0, books.rail.is_final)


def decide_resume(books: Books, entry: Entry) -> Change:
    """Take a reservation over; whoever had it can sign nothing any more. Raises ReservationEnded."""
    _check_open(entry, entry.generation)
    return Change(replace(entry, generation=entry.generation + 1), {}, books.rail)


def decide_prove(books: Books, entry: Entry, proof: Proof) -> Change:
    """End an orphan by what the chain shows. Raises ProofRefused where it may still be spent.

    Raises PaidMoreThanSigned where the chain has paid more than the ledger let be signed.
    """
    _check_open(entry, entry.generation)
    spent = check_amount("spent", proof.spent, least=0)
    if spent > entry.signed:
        raise PaidMoreThanSigned(
            f"the chain paid {spent} for reservation {entry.id}, of which {entry.signed} was signed: the key was used"
            " elsewhere, or this is not its ledger; `limit revoke`, then find out"
        )
    if entry.target.rail_id and not proof.is_final:
        raise ProofRefused(
            f"rail {entry.target.rail_id} still pays: terminate it and wait for its end, to free the rest"
        )
    if not entry.target.rail_id and spent not in (0, entry.amount):
        raise ProofRefused(f"a single payment is spent in full or not at all, not {spent} of {entry.amount}")
    if not entry.target.rail_id and not spent and proof.chain_time < entry.expires_at:
        raise ProofRefused(f"the payment can be used until {entry.expires_at} (unix seconds, by the chain's clock)")
    return _end(books, entry, spent, proof.is_final)


def sum_usage(entries: Iterable[Entry]) -> dict[Scope, Usage]:
    """What all entries together take of each scope: what the ledger's sums must say."""
    found: dict[Scope, Usage] = {}
    for entry in entries:
        for scope in entry.scopes:
            before = found.get(scope, Usage())
            found[scope] = Usage(before.reserved + entry.in_use.reserved, before.charged + entry.in_use.charged)
    return found


def check_caps(books: Books, scopes: Iterable[Scope], requested: int) -> None:
    """Raise SpendingLimitExceeded for the first scope that does not allow so much more."""
    for scope in scopes:
        cap, used = books.find_cap(scope), books.usage.get(scope, Usage()).used
        if cap is None and scope.kind is ScopeKind.TOTAL:
            raise SpendingLimitExceeded(scope, 0, used, requested, HOW_TO_START)
        if cap is not None and used + requested > cap:
            raise SpendingLimitExceeded(scope, cap, used, requested)


def _check_open(entry: Entry, generation: int) -> None:
    if entry.state is not State.RESERVED:
        raise ReservationEnded(f"reservation {entry.id} is {entry.state}: reserve anew")
    if entry.generation != generation:
        raise ReservationEnded(f"reservation {entry.id} was taken over by another process")


def _end(books: Books, entry: Entry, spent: int, is_final: bool) -> Change:
    ended = replace(entry, state=State.CHARGED if spent else State.RELEASED, charged=spent)
    rail = Rail(books.rail.total + spent, is_final) if entry.target.rail_id else books.rail
    return Change(ended, _move(books, entry, entry.in_use, ended.in_use), rail)


def _move(books: Books, entry: Entry, before: Usage, after: Usage) -> dict[Scope, Usage]:
    """Usage of the entry's scopes when what it takes changes."""
    moved = {}
    for scope in entry.scopes:
        old = books.usage.get(scope, Usage())
        new = Usage(old.reserved - before.reserved + after.reserved, old.charged - before.charged + after.charged)
        if new.reserved < 0 or new.charged < 0:
            raise InvalidTransition(f"usage of {scope}", str(old), str(new))
        moved[scope] = new
    return moved
