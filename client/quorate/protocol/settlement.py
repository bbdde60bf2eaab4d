"""What one bundle's openings decide, and where its money goes (section 4.7 of contracts/README.md).

The model of the market, a collator that plans a settle call and a node that wants to know its earnings all ask here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from quorate.protocol.errors import ValidationError
from quorate.protocol.params import BPS, BUNDLE_TASKS
from quorate.protocol.partition import count_bundle_tasks, count_bundles
from quorate.protocol.types import ZERO32, CarryRecord, FineKind, JobOrder, OutcomeRow, PostRecord, Verdict, Vote

FINE_PRICES = 2
"""A silent seat pays this many prices of its bundle."""
CONSOLATION = 5
"""Where nobody can be right, a seat earns the price divided by this."""
QUORUM = (9, 20)
"""Share of all seats drawn that suffices after the last round, as a fraction."""


def compute_audit_fee(price: int, audit_bps: int) -> int:
    """Wei that a bundle pays for audits, rounded up."""
    return -(-price * audit_bps // BPS)


@dataclass(frozen=True, slots=True)
class RoundTerms:
    """What all bundles of a batch share in one round; `fee` in wei for a bundle.

    `judged` tells whether the class votes on a conflict, `audit_bps` is the deployment's.
    """

    seats: int
    round: int
    rounds: int
    fee: int
    audit_bps: int = 0
    judged: bool = True

    @property
    def is_last(self) -> bool:
        """Whether no fresh round can follow."""
        return self.round >= self.rounds

    @property
    def drawn(self) -> int:
        """Seats that a bundle has had, with this round's."""
        return self.seats * (self.round + 1)

    def compute_escrow(self, record: CarryRecord) -> int:
        """Escrow of a bundle from posting until it is settled, in wei."""
        return record.price * record.shares + self.fee + compute_audit_fee(record.price, self.audit_bps)


def standing_votes(record: CarryRecord) -> tuple[tuple[int, Vote], ...]:
    """(member, vote) of the voters of earlier rounds."""
    return tuple((member, record.vote or Vote(ZERO32)) for member in record.voters)


@dataclass(frozen=True, slots=True)
class Ballot:
    """What is known of a bundle: its record, its committee by seat, and what each seat of this round did.

    `opened` has the votes by seat, `abstained` and `committed` (in whatever way) are seats.
    """

    record: CarryRecord
    committee: tuple[int, ...]
    opened: Mapping[int, Vote]
    abstained: frozenset[int] = frozenset()
    committed: frozenset[int] = frozenset()

    @property
    def voters(self) -> tuple[tuple[int, Vote], ...]:
        """(member, vote) of all whose vote counts: standing ones, then by seat.

        A member stands twice only where it contradicts its own standing vote, so that the class can judge both.
        """
        return (*standing_votes(self.record), *((self.committee[seat], self.opened[seat]) for seat in self.fresh_seats))

    @property
    def fresh_seats(self) -> tuple[int, ...]:
        """Seats opened in this round that say more than the standing votes did, ascending."""
        known = standing_votes(self.record)
        return tuple(seat for seat in sorted(self.opened) if (self.committee[seat], self.opened[seat]) not in known)

    @property
    def votes(self) -> frozenset[Vote]:
        """Distinct votes, standing and opened."""
        return frozenset(vote for _, vote in self.voters)

    def has_vote(self, seat: int) -> bool:
        """Whether a seat is open: its vote is known from this round, or stands from an earlier one."""
        return seat in self.opened or self.committee[seat] in self.record.voters

    @property
    def open_count(self) -> int:
        """Seats of this round with a vote."""
        return sum(map(self.has_vote, range(len(self.committee))))

    @property
    def abstainers(self) -> tuple[int, ...]:
        """Members that abstained, once for each seat: in earlier rounds, then in this one by seat."""
        here = (seat for seat in sorted(self.abstained) if not self.has_vote(seat))
        return (*self.record.abstainers, *(self.committee[seat] for seat in here))

    @property
    def silent_seats(self) -> tuple[int, ...]:
        """Seats that neither opened, nor abstained, nor have a standing vote."""
        return tuple(s for s in range(len(self.committee)) if not self.has_vote(s) and s not in self.abstained)

    @property
    def is_ready(self) -> bool:
        """Whether it may be settled before window 4 is past: nobody is silent."""
        return not self.silent_seats

    def has_all_abstained(self, terms: RoundTerms) -> bool:
        """Whether every seat that was ever drawn abstained."""
        return len(self.abstainers) == terms.drawn

    def is_enough(self, terms: RoundTerms) -> bool:
        """Rule (b): after the last round, votes of a committee's number and of enough of all seats drawn."""
        opened, (part, whole) = self.record.opened + self.open_count, QUORUM
        return not self.record.is_strict and opened >= terms.seats and whole * opened >= part * terms.drawn

    def compute_verdict(self, terms: RoundTerms) -> Verdict:
        """Verdict of a settle call that settles this bundle."""
        if len(self.votes) > 1:
            return Verdict.DISPUTED if terms.judged else Verdict.VOID
        if self.open_count == terms.seats:
            return Verdict.ACCEPTED
        if not terms.is_last:
            return Verdict.CARRIED
        return Verdict.ACCEPTED if self.is_enough(terms) else Verdict.VOID


@dataclass(frozen=True, slots=True)
class Fine:
    """What a member is to pay: wei asked, less where it has less."""

    member: int
    amount: int
    kind: FineKind


def compute_fines(ballot: Ballot, terms: RoundTerms) -> tuple[Fine, ...]:
    """Fines of a settle call that settles this bundle, in the order in which they act."""
    price = ballot.record.price
    verdict = ballot.compute_verdict(terms)
    silent = tuple(
        Fine(
            ballot.committee[seat],
            FINE_PRICES * price,
            FineKind.UNREVEALED if seat in ballot.committed else FineKind.SILENT,
        )
        for seat in ballot.silent_seats
    )
    if verdict is Verdict.CARRIED or (verdict is Verdict.VOID and ballot.has_all_abstained(terms)):
        return silent
    return (*(Fine(member, price, FineKind.ABSTAINED) for member in ballot.abstainers), *silent)


@dataclass(frozen=True, slots=True)
class BundleOutcome:
    """Verdict and money of one settled bundle; members are rows of the batch's table, amounts wei.

    What `fines` took goes to the pot first. `payments` come from `from_pot` + `from_escrow`; `fresh` are those of the
    voters who opened in this round. The escrow of the bundle is `from_escrow + fee + audit_fee + refund + locked`, its
    pot with fines `from_pot + to_treasury + pot`; `locked` and `pot` stay for a fresh round or a dispute. `opened` sums
    seats with a vote over the rounds.
    """

    verdict: Verdict
    vote: Vote | None
    voters: tuple[tuple[int, Vote], ...]
    fines: tuple[Fine, ...] = ()
    abstainers: tuple[int, ...] = ()
    opened: int = 0
    fresh: tuple[int, ...] = ()
    payments: Mapping[int, int] = field(default_factory=dict)
    from_pot: int = 0
    from_escrow: int = 0
    fee: int = 0
    audit_fee: int = 0
    refund: int = 0
    locked: int = 0
    to_treasury: int = 0
    pot: int = 0


def decide_bundle(ballot: Ballot, terms: RoundTerms, is_late: bool, taken: int | None = None) -> BundleOutcome:
    """Settle one bundle of an `ASSIGNED` batch.

    `is_late` tells whether window 4 is past: only then may a seat be silent. `taken` is what the fines of
    `compute_fines` brought, in wei; without it every fine is taken in full. Raises ValidationError when the bundle
    is not ready and it is not late (the contract: TooEarly).
    """
    if not ballot.is_ready and not is_late:
        raise ValidationError(f"bundle {ballot.record.bundle} has silent seats: wait until window 4 is past")
    fines = compute_fines(ballot, terms)
    pot = ballot.record.pot + (sum(fine.amount for fine in fines) if taken is None else taken)
    verdict = ballot.compute_verdict(terms)
    if verdict is Verdict.ACCEPTED:
        return _accept(ballot, terms, fines, pot)
    if verdict is Verdict.VOID:
        return _void(ballot, terms, fines, pot)
    return BundleOutcome(
        verdict=verdict,
        vote=ballot.voters[0][1] if verdict is Verdict.CARRIED and ballot.voters else None,
        voters=ballot.voters,
        fines=fines,
        abstainers=ballot.abstainers,
        opened=ballot.record.opened + ballot.open_count,
        locked=terms.compute_escrow(ballot.record),
        pot=pot,
    )


def void_bundle(record: CarryRecord, terms: RoundTerms) -> BundleOutcome:
    """Settle one bundle of a `VOIDED` batch: nobody is fined or paid, standing votes stay on record."""
    return BundleOutcome(
        verdict=Verdict.VOID,
        vote=record.vote,
        voters=standing_votes(record),
        opened=record.opened,
        refund=terms.compute_escrow(record),
        to_treasury=record.pot,
    )


def _accept(ballot: Ballot, terms: RoundTerms, fines: tuple[Fine, ...], pot: int) -> BundleOutcome:
    price, voters = ballot.record.price, ballot.voters
    fresh = tuple(ballot.committee[seat] for seat in ballot.fresh_seats)
    # Whoever stepped in is paid by those who failed; only what the pot cannot pay comes from the requester.
    from_pot = min(pot, price * len(fresh))
    from_escrow = price * len(voters) - from_pot
    audit_fee = compute_audit_fee(price, terms.audit_bps)
    return BundleOutcome(
        verdict=Verdict.ACCEPTED,
        vote=voters[0][1],
        voters=voters,
        fines=fines,
        opened=ballot.record.opened + ballot.open_count,
        fresh=fresh,
        payments={member: price for member, _ in voters},
        from_pot=from_pot,
        from_escrow=from_escrow,
        fee=terms.fee,
        audit_fee=audit_fee,
        refund=terms.compute_escrow(ballot.record) - from_escrow - terms.fee - audit_fee,
        to_treasury=pot - from_pot,
    )


def _void(ballot: Ballot, terms: RoundTerms, fines: tuple[Fine, ...], pot: int) -> BundleOutcome:
    voters, votes, share = ballot.voters, ballot.votes, ballot.record.price // CONSOLATION
    if len(votes) > 1:
        earners = tuple(member for member, _ in voters)
    else:
        earners = ballot.abstainers if ballot.has_all_abstained(terms) else ()
    payments: dict[int, int] = {}
    for member in earners:
        payments[member] = payments.get(member, 0) + share
    return BundleOutcome(
        verdict=Verdict.VOID,
        vote=voters[0][1] if len(votes) == 1 else None,
        voters=voters,
        fines=fines,
        opened=ballot.record.opened + ballot.open_count,
        fresh=tuple(ballot.committee[seat] for seat in ballot.fresh_seats) if len(votes) > 1 else (),
        payments=payments,
        from_escrow=share * len(earners),
        refund=terms.compute_escrow(ballot.record) - share * len(earners),
        to_treasury=pot,
    )


def expand_record_page(first_bundle: int, records: Sequence[PostRecord], shares: int) -> list[CarryRecord]:
    """Bundles of a record page in their order, as round 0 sees them: no pot, no standing vote.

    `shares` is seats × (1 + rounds) of the batch.
    """
    bundles: list[CarryRecord] = []
    for record in records:
        for number in range(count_bundles(record.task_count)):
            tasks = count_bundle_tasks(record.task_count, number)
            price, bundle = record.task_price * tasks, first_bundle + len(bundles)
            bundles.append(CarryRecord(bundle, record.requester, price, tasks, record.flags, shares))
    return bundles


def compute_task_price(fuel_limit: int, price: int, fuel_unit: int) -> int:
    """Wei for one task, rounded up, from a class's price in wei for a FUEL_UNIT."""
    return -(-fuel_limit * price // fuel_unit)


def compute_needed_period(
    task_count: int, fuel_limit: int, input_bytes: int, reference_fuel_rate: int, reference_byte_rate: int
) -> int:
    """Seconds that a member at the reference speed needs for one bundle, each part rounded up."""
    fuel = min(task_count, BUNDLE_TASKS) * fuel_limit
    return -(-fuel // reference_fuel_rate) + -(-input_bytes // reference_byte_rate)


def compute_order_escrow(
    task_price: int, task_count: int, seats: int, rounds: int, fee_wei: int, audit_bps: int
) -> int:
    """Escrow of a whole order in wei: the sum over its bundles."""
    whole, in_last = divmod(task_count, BUNDLE_TASKS)
    audits = whole * compute_audit_fee(task_price * BUNDLE_TASKS, audit_bps)
    audits += compute_audit_fee(task_price * in_last, audit_bps)
    return task_price * task_count * seats * (1 + rounds) + fee_wei * count_bundles(task_count) + audits


def post_record(order: JobOrder, task_price: int) -> PostRecord:
    """What the chain keeps of an accepted order."""
    return PostRecord(order.requester, task_price, order.task_count, order.flags)


def carry_record(record: CarryRecord, outcome: BundleOutcome) -> CarryRecord:
    """The record under which a carried bundle enters the next round."""
    return replace(
        record,
        pot=outcome.pot,
        opened=outcome.opened,
        vote=outcome.vote,
        voters=tuple(member for member, _ in outcome.voters),
        abstainers=outcome.abstainers,
    )


def outcome_row(record: CarryRecord, outcome: BundleOutcome) -> OutcomeRow:
    """What a settle call tells of a bundle."""
    is_over = outcome.verdict in (Verdict.ACCEPTED, Verdict.VOID)
    voters = tuple(member for member, _ in outcome.voters) if is_over and outcome.vote else ()
    vote = outcome.vote if is_over and outcome.vote else Vote(ZERO32)
    return OutcomeRow(record.bundle, outcome.verdict, vote, outcome.opened if is_over else 0, voters)
