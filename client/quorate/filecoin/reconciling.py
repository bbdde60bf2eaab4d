"""The ledger against the chain: what was charged and reserved here, and what was paid there, to the unit.

`compare` is pure and finds differences; `settle_orphans` ends reservations that nobody has ended, by what the chain
shows alone: a single payment by its nonce, or when its time is over; a rail's when the rail has ended. What may still
be spent stays reserved, however long its process is dead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from quorate.chain.types import to_hex
from quorate.filecoin.chainbook import ChainFacts, RailFacts, read_facts
from quorate.filecoin.ledger import Ledger
from quorate.filecoin.pay import PayChain
from quorate.filecoin.payments import compute_nonce
from quorate.filecoin.rails import compute_fee
from quorate.filecoin.spending import Entry, Proof, State
from quorate.protocol.errors import ConfigurationError, UnrecoverableError
from quorate.protocol.types import Address

PAGE = 1000
UNSIGNED_S = 3600
"""A reservation of which nothing was signed for so long is a dead process's."""


class BooksDiffer(UnrecoverableError):
    """The chain has paid what the ledger did not allow: the key was used elsewhere, or this is not its ledger."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__(
            f"{len(problems)} payments do not fit the ledger, the first: {problems[0]}; stop them with "
            "`filecoin limit revoke`, then find out who else has the key, or which ledger is the right one"
        )


@dataclass(frozen=True, slots=True)
class RailAccount:
    """One rail, in base units. `charged` and `reserved` by the ledger, the rest by the chain.

    `redeemed` left the payer: `fee` of it stayed with Filecoin Pay and `net` went to the payee. `owed` was charged and
    not redeemed yet, which its payee can still do unless the rail `has_ended`.
    """

    rail_id: int
    payee: str
    charged: int
    reserved: int
    redeemed: int
    fee: int
    net: int
    is_open: bool
    has_ended: bool

    @property
    def owed(self) -> int:
        """Charged, and not redeemed."""
        return max(0, self.charged - self.redeemed)


@dataclass(frozen=True, slots=True)
class SingleAccount:
    """A single payment that was charged, or may have been signed; `paid` on chain, by `transaction`, if at all."""

    reservation_id: str
    payee: str
    charged: int
    reserved: int
    paid: int
    transaction: str | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A reservation that goes on counting as spent, and what has to happen before it can end."""

    reservation_id: str
    amount: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The state of all payments at the end of a block; `problems` are payments that the ledger did not allow."""

    block_number: int
    time: int
    rails: tuple[RailAccount, ...]
    singles: tuple[SingleAccount, ...]
    ended: tuple[Entry, ...]
    waiting: tuple[Waiting, ...]
    problems: tuple[str, ...]

    @property
    def charged(self) -> int:
        """What the ledger counts as spent for good."""
        return sum(each.charged for each in self.rails) + sum(each.charged for each in self.singles)

    @property
    def paid(self) -> int:
        """What left the payer on chain, fees included."""
        return sum(each.redeemed for each in self.rails) + sum(each.paid for each in self.singles)

    @property
    def fees(self) -> int:
        """What of it Filecoin Pay kept."""
        return sum(each.fee for each in self.rails)

    @property
    def owed(self) -> int:
        """Charged, and not taken yet; `charged` = `paid` + `owed` where nothing is reserved and nothing wrong."""
        return sum(each.owed for each in self.rails) + sum(max(0, s.charged - s.paid) for s in self.singles)

    def check(self) -> None:
        """Raise BooksDiffer when there are problems."""
        if self.problems:
            raise BooksDiffer(self.problems)


def reconcile(ledger: Ledger, chain: PayChain, payer: Address) -> Reconciliation:
    """Read the chain, end what it proves to be over, and compare the rest. Of problems the result tells.

    The ledger is read after the chain: whatever that shows was noted before it was signed. Raises ChainUnavailable.
    """
    if ledger.currency != chain.contracts.currency:
        raise ConfigurationError(
            f"the limits are in token {ledger.currency.token} of chain {ledger.currency.chain_id}, and the network has "
            f"{chain.contracts.currency.token} of chain {chain.contracts.chain_id}: set the network that they are for"
        )
    facts = read_facts(chain, payer)
    ended, waiting = settle_orphans(ledger, facts)
    rails, singles, problems = compare(list_entries(ledger), facts)
    return Reconciliation(facts.block_number, facts.time, rails, singles, ended, waiting, problems)


def list_entries(ledger: Ledger) -> list[Entry]:
    """All reservations, ended ones first."""
    entries, after = [], 0
    while page := ledger.list_receipts(after, PAGE):
        entries += [receipt.entry for receipt in page]
        after = page[-1].number
    seen = {entry.id for entry in entries}
    return entries + [entry for entry in ledger.list_open() if entry.id not in seen]


def settle_orphans(ledger: Ledger, facts: ChainFacts) -> tuple[tuple[Entry, ...], tuple[Waiting, ...]]:
    """End open reservations that the chain shows to be over; those, and the others with the reason."""
    ended: list[Entry] = []
    waiting: list[Waiting] = []
    for entry in ledger.list_open():
        proof = find_proof(entry, facts)
        if isinstance(proof, Proof):
            if proof.spent <= entry.signed:  # more is a problem, which `compare` tells
                ended.append(ledger.prove(entry.id, proof))
                continue
            proof = "the chain paid more than was signed"
        elif not entry.signed and facts.time - entry.created_at >= UNSIGNED_S:
            ledger.release(entry.id)
            ended.append(ledger.get_entry(entry.id))
            continue
        waiting.append(Waiting(entry.id, entry.amount, proof))
    return tuple(ended), tuple(waiting)


def find_proof(entry: Entry, facts: ChainFacts) -> Proof | str:
    """What the chain proves of an open reservation, or why it proves nothing yet."""
    if not entry.target.rail_id:
        return _prove_single(entry, facts)
    rail = facts.rails.get(entry.target.rail_id) if entry.target.operator == facts.operator else None
    if rail is None:
        name, block = entry.target.rail, facts.block_number
        return f"the chain shows no rail {name} of this payer up to block {block}: wait, or look at the network's file"
    if not rail.state.has_ended:
        if rail.state.is_open:
            return f"rail {entry.target.rail_id} is open: resume the transfer, or `limit revoke` closes it"
        return f"rail {entry.target.rail_id} pays what was signed until block {rail.state.end_epoch}"
    spent = max(0, rail.state.redeemed - entry.base)
    return Proof(spent, facts.time, f"rail {entry.target.rail_id} ended, {rail.state.redeemed} redeemed", is_final=True)


def _prove_single(entry: Entry, facts: ChainFacts) -> Proof | str:
    nonce = compute_nonce(entry.id)
    if nonce in facts.used:
        return Proof(facts.values[nonce], facts.time, f"paid in transaction {to_hex(facts.used[nonce])}")
    if facts.time >= entry.expires_at:
        return Proof(0, facts.time, f"not used by {entry.expires_at}, when it expired")
    return f"it can be used until {entry.expires_at} (unix seconds, by the chain's clock at block {facts.block_number})"


def compare(
    entries: Iterable[Entry], facts: ChainFacts
) -> tuple[tuple[RailAccount, ...], tuple[SingleAccount, ...], tuple[str, ...]]:
    """Accounts of all rails and single payments, and what the ledger did not allow."""
    by_rail: defaultdict[tuple[str, int], list[Entry]] = defaultdict(list)
    singles: list[SingleAccount] = []
    problems: list[str] = []
    nonces = set()
    for entry in entries:
        if entry.target.rail_id:
            by_rail[entry.target.operator, entry.target.rail_id].append(entry)
            continue
        nonces.add(compute_nonce(entry.id))
        singles.append(_account_single(entry, facts, problems))
    names = by_rail.keys() | {(facts.operator, rail_id) for rail_id in facts.rails}
    rails = []
    for operator, rail_id in sorted(names):
        found = facts.rails.get(rail_id) if operator == facts.operator else None
        rails.append(_account_rail(rail_id, by_rail.get((operator, rail_id), []), found, problems))
    for nonce in facts.used.keys() - nonces:
        where = to_hex(facts.used[nonce])
        problems.append(f"{facts.values[nonce]} paid in transaction {where} with a nonce that is not in the ledger")
    told = (each for each in singles if each.charged or each.reserved or each.paid)
    return tuple(rails), tuple(told), tuple(problems)


def _account_rail(rail_id: int, entries: list[Entry], found: RailFacts | None, problems: list[str]) -> RailAccount:
    charged = sum(entry.charged for entry in entries)
    reserved = [entry for entry in entries if entry.state is State.RESERVED]
    held, signed = sum(entry.amount for entry in reserved), charged + sum(entry.signed for entry in reserved)
    if found is None:
        return RailAccount(rail_id, entries[0].target.payee, charged, held, 0, 0, 0, False, False)
    state, payee = found.state, to_hex(found.state.payee)
    if state.redeemed > signed:
        problems.append(f"rail {rail_id} has paid {state.redeemed}, and {signed} was signed by this ledger")
    if found.gross != state.redeemed:
        problems.append(f"rail {rail_id}: Filecoin Pay tells of {found.gross}, the operator of {state.redeemed}")
    for payment in found.payments:
        if payment.fee != compute_fee(payment.gross):
            at = to_hex(payment.transaction)
            problems.append(f"rail {rail_id}: the fee of {payment.gross} in {at} is {payment.fee}, not 0.5 %")
    problems += [
        f"rail {rail_id} goes to {payee}, and reservation {entry.id} is for {entry.target.payee}"
        for entry in entries
        if entry.target.payee != payee
    ]
    sums = (charged, held, state.redeemed, found.fee, found.net)
    return RailAccount(rail_id, payee, *sums, state.is_open, state.has_ended)


def _account_single(entry: Entry, facts: ChainFacts, problems: list[str]) -> SingleAccount:
    nonce = compute_nonce(entry.id)
    transaction, paid = facts.used.get(nonce), facts.values.get(nonce, 0)
    held = entry.amount if entry.state is State.RESERVED else 0
    if paid > (entry.signed if held else entry.charged):
        problems.append(f"{paid} was paid for reservation {entry.id}, which is {entry.state} with {entry.charged}")
    where = to_hex(transaction) if transaction is not None else None
    return SingleAccount(entry.id, entry.target.payee, entry.charged, held, paid, where)
