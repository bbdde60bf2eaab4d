"""What one bundle's openings decide, and where its money goes (section 4.6 of contracts/README.md).

The model of the market, a collator that plans a settle call and a node that wants to know its earnings all ask here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quorate.protocol.errors import ValidationError
from quorate.protocol.params import BPS, BUNDLE_TASKS
from quorate.protocol.partition import count_bundle_tasks, count_bundles
from quorate.protocol.types import ZERO32, CarryRecord, JobOrder, PostRecord, Verdict, Vote

FINE_PRICES = 2
"""A silent seat pays this many prices of its bundle."""


@dataclass(frozen=True, slots=True)
class RoundTerms:
    """What all bundles of a batch share in one round; `fee` in wei for a bundle."""

    seats: int
    round: int
    rounds: int
    fee: int

    @property
    def is_last(self) -> bool:
        """Whether no fresh round can follow."""
        return self.round >= self.rounds

    def compute_escrow(self, price: int) -> int:
        """Escrow of a bundle from posting until it is settled, in wei."""
        return price * self.seats * (1 + self.rounds) + self.fee


def standing_votes(record: CarryRecord) -> tuple[tuple[int, Vote], ...]:
    """(member, vote) of the voters of earlier rounds."""
    return tuple((member, record.vote or Vote(ZERO32)) for member in record.voters)


@dataclass(frozen=True, slots=True)
class Ballot:
    """What is known of a bundle: its record, its committee by seat, and the votes opened in this round by seat."""

    record: CarryRecord
    committee: tuple[int, ...]
    opened: Mapping[int, Vote]

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

    @property
    def silent(self) -> tuple[int, ...]:
        """Members of seats that neither opened nor have a standing vote, by seat."""
        return tuple(
            member
            for seat, member in enumerate(self.committee)
            if seat not in self.opened and member not in self.record.voters
        )

    @property
    def is_ready(self) -> bool:
        """Whether it may be settled before window 4 is past: a conflict, or nobody is silent."""
        return len(self.votes) > 1 or not self.silent

    def compute_verdict(self, terms: RoundTerms) -> Verdict:
        """Verdict of a settle call that settles this bundle."""
        if len(self.votes) > 1:
            return Verdict.DISPUTED
        if not self.silent:
            return Verdict.ACCEPTED
        return Verdict.VOID if terms.is_last else Verdict.CARRIED


@dataclass(frozen=True, slots=True)
class BundleOutcome:
    """Verdict and money of one settled bundle; members are rows of the batch's table, amounts wei.

    `fines` goes to the pot first: (member, wei asked, wei taken). `payments` come from `from_pot` + `from_escrow`.
    The escrow of the bundle is `from_escrow + fee + refund + locked`, its pot with fines
    `from_pot + to_treasury + pot`; `locked` and `pot` stay for a fresh round or a dispute.
    """

    verdict: Verdict
    vote: Vote | None
    voters: tuple[tuple[int, Vote], ...]
    fines: tuple[tuple[int, int, int], ...] = ()
    payments: Mapping[int, int] = field(default_factory=dict)
    from_pot: int = 0
    from_escrow: int = 0
    fee: int = 0
    refund: int = 0
    locked: int = 0
    to_treasury: int = 0
    pot: int = 0


def decide_bundle(
    ballot: Ballot, terms: RoundTerms, is_late: bool, holdings: Mapping[int, int] | None = None
) -> BundleOutcome:
    """Settle one bundle of an `ASSIGNED` batch.

    `is_late` tells whether window 4 is past: only then is a silent seat fined. `holdings` gives what can be taken from
    a member (stake + unbonding, wei); without it every fine is taken in full. Raises ValidationError when the bundle
    is not ready and it is not late (the contract: TooEarly).
    """
    if not ballot.is_ready and not is_late:
        raise ValidationError(f"bundle {ballot.record.bundle} has silent seats: wait until window 4 is past")
    price = ballot.record.price
    asked = FINE_PRICES * price
    fines = tuple(
        (member, asked, asked if holdings is None else min(asked, holdings[member]))
        for member in (ballot.silent if is_late else ())
    )
    pot = ballot.record.pot + sum(taken for _, _, taken in fines)
    escrow = terms.compute_escrow(price)
    verdict = ballot.compute_verdict(terms)
    match verdict:
        case Verdict.ACCEPTED:
            return _accept(ballot, terms, escrow, pot)
        case Verdict.VOID:
            return _void(ballot.record, ballot.voters, fines, escrow, pot)
        case _:
            vote = ballot.voters[0][1] if verdict is Verdict.CARRIED and ballot.voters else None
            return BundleOutcome(verdict, vote, ballot.voters, fines, locked=escrow, pot=pot)


def void_bundle(record: CarryRecord, terms: RoundTerms) -> BundleOutcome:
    """Settle one bundle of a `VOIDED` batch: nobody is fined, standing voters are paid from the pot."""
    return _void(record, standing_votes(record), (), terms.compute_escrow(record.price), record.pot)


def _accept(ballot: Ballot, terms: RoundTerms, escrow: int, pot: int) -> BundleOutcome:
    price, voters = ballot.record.price, ballot.voters
    # Whoever stepped in is paid by those who failed; only what the pot cannot pay comes from the requester.
    from_pot = min(pot, price * len(ballot.fresh_seats))
    from_escrow = price * len(voters) - from_pot
    return BundleOutcome(
        verdict=Verdict.ACCEPTED,
        vote=voters[0][1],
        voters=voters,
        payments={member: price for member, _ in voters},
        from_pot=from_pot,
        from_escrow=from_escrow,
        fee=terms.fee,
        refund=escrow - from_escrow - terms.fee,
        to_treasury=pot - from_pot,
    )


def _void(
    record: CarryRecord,
    voters: tuple[tuple[int, Vote], ...],
    fines: tuple[tuple[int, int, int], ...],
    escrow: int,
    pot: int,
) -> BundleOutcome:
    share = min(record.price, pot // len(voters)) if voters else 0
    paid = share * len(voters)
    return BundleOutcome(
        verdict=Verdict.VOID,
        vote=None,
        voters=voters,
        fines=fines,
        payments={member: share for member, _ in voters if share},
        from_pot=paid,
        refund=escrow,
        to_treasury=pot - paid,
    )


def expand_record_page(first_bundle: int, records: Sequence[PostRecord]) -> list[CarryRecord]:
    """Bundles of a record page in their order, as round 0 sees them: no pot, no standing vote."""
    bundles: list[CarryRecord] = []
    for record in records:
        for number in range(count_bundles(record.task_count)):
            price = record.task_price * count_bundle_tasks(record.task_count, number)
            bundles.append(CarryRecord(first_bundle + len(bundles), record.requester, price, 0, None, ()))
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


def compute_audit_fee(price: int, audit_bps: int) -> int:
    """What a bundle's acceptance pays to the treasury for audits, in wei, rounded up; `price` of a seat in wei."""
    return -(-price * audit_bps // BPS)


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
    voters = tuple(member for member, _ in outcome.voters)
    return CarryRecord(record.bundle, record.requester, record.price, outcome.pot, outcome.vote, voters)
