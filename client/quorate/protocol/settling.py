"""`settle`: openings become verdicts and money (section 4.7 of contracts/README.md)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from quorate.protocol import events as ev
from quorate.protocol.classes import Earning
from quorate.protocol.context import ZERO_ADDRESS, Call, refuse, require
from quorate.protocol.dispute_pages import encode_dispute_record
from quorate.protocol.encoding import (
    decode_carry_page,
    decode_record_page,
    decode_votes,
    encode_carry_page,
    encode_outcomes,
    fold,
)
from quorate.protocol.errors import ProtocolViolation, ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.market import Batch, Market
from quorate.protocol.openings import OpeningsReader, PresentedSeat
from quorate.protocol.planning import Settlement
from quorate.protocol.settlement import (
    Ballot,
    BundleOutcome,
    Fine,
    RoundTerms,
    carry_record,
    compute_audit_fee,
    compute_fines,
    decide_bundle,
    expand_record_page,
    outcome_row,
    void_bundle,
)
from quorate.protocol.types import (
    ZERO32,
    CarryRecord,
    DisputeKind,
    DisputeRecord,
    OperatorId,
    OutcomeRow,
    Verdict,
)


def apply_settle(market: Market, call: Call, batch_id: int, settlement: Settlement) -> list[ev.Event]:
    """`settle(batchId, settlement)` for a batch that is `ASSIGNED` or `VOIDED`."""
    batch = market.get_batch(batch_id)
    require(batch.status in (BatchStatus.ASSIGNED, BatchStatus.VOIDED), "WrongStatus", batch_id, batch.status)
    is_void = batch.status is BatchStatus.VOIDED
    is_late = is_void or batch.is_past(4, call.block, market.params)
    require(is_late or call.sender == batch.collator, "NotCollator", batch.collator)
    bundles = _read_page(batch, settlement)
    require(fold(ZERO32, settlement.commit_pages) == batch.commit_hash, "HashMismatch", "commitPages")
    run = _Run(market, call, batch)
    if is_void:
        require(not settlement.votes and not settlement.openings, "MalformedPage")
        for record in bundles:
            if record.bundle in batch.pending:
                run.settle(record, void_bundle(record, run.terms))
        return run.end()
    for ballot in _read_ballots(market, batch, bundles, settlement, is_late):
        taken = run.fine(compute_fines(ballot, run.terms))
        run.settle(ballot.record, decide_bundle(ballot, run.terms, is_late, taken))
    return run.end()


def _read_page(batch: Batch, settlement: Settlement) -> list[CarryRecord]:
    """Bundles of a page that the chain knows by its hash."""
    chained = fold(settlement.prior, [keccak(settlement.page), *settlement.tail])
    require(chained == (batch.post_hash if batch.round == 0 else batch.carry_hash), "HashMismatch", "page")
    if batch.round:
        return decode_carry_page(settlement.page)
    _, first, records = decode_record_page(settlement.page)
    return expand_record_page(first, records, batch.terms.seats * (1 + batch.terms.rounds))


def _read_ballots(
    market: Market, batch: Batch, bundles: list[CarryRecord], settlement: Settlement, is_late: bool
) -> list[Ballot]:
    """Bundles settled now, with what every seat of theirs that committed did."""
    try:
        votes = decode_votes(settlement.votes, len(bundles))
        chosen = {
            record.bundle: listed
            for record, listed in zip(bundles, votes, strict=True)
            if listed is not None and record.bundle in batch.pending
        }
        reader = OpeningsReader(market.round_domain(batch), market.table_of(batch), batch.terms.seats, chosen.get)
        presented = reader.read(settlement.openings, settlement.commit_pages)
    except ProtocolViolation:
        raise
    except ValidationError:
        refuse("MalformedPage")
    ballots = []
    for record in bundles:
        if record.bundle in chosen:
            ballots.append(_make_ballot(market, batch, record, presented))
            require(is_late or ballots[-1].is_ready, "TooEarly", record.bundle)
    return ballots


def _make_ballot(
    market: Market, batch: Batch, record: CarryRecord, presented: Mapping[tuple[int, int], PresentedSeat]
) -> Ballot:
    """One bundle's ballot; SeatOmitted where a commitment, or an opening that was revealed, is left out."""
    bundle = record.bundle
    seats = {s: presented.get((bundle, s)) for s in range(batch.terms.seats) if (bundle, s) in batch.committed}
    for seat, shown in seats.items():
        is_missing = shown is None or (shown.vote is None and (bundle, seat) in batch.revealed)
        require(not is_missing, "SeatOmitted", bundle, seat)
    return Ballot(
        record=record,
        committee=market.committee(batch, bundle),
        opened={s: shown.vote for s, shown in seats.items() if shown and shown.vote is not None},
        abstained=frozenset(s for s, shown in seats.items() if shown and shown.reason is not None),
        committed=frozenset(seats),
    )


@dataclass(slots=True)
class _Run:
    """One settle call: fines act at once, in the order of bundles and seats; earnings are credited at the end."""

    market: Market
    call: Call
    batch: Batch
    events: list[ev.Event] = field(default_factory=list)
    earned: dict[OperatorId, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))  # wei, seats
    from_pot: int = 0
    to_treasury: int = 0
    audit_fees: int = 0
    outcomes: list[OutcomeRow] = field(default_factory=list)
    carried: list[CarryRecord] = field(default_factory=list)

    @property
    def terms(self) -> RoundTerms:
        """Terms of the round."""
        return self.batch.compute_round_terms(self.market.params)

    @property
    def _as_market(self) -> Call:
        return replace(self.call, sender=self.market.address, value=0)

    def fine(self, fines: Sequence[Fine]) -> int:
        """Take what can be taken; wei that came of it."""
        registry, rows = self.market.registry, self.market.table_of(self.batch).members
        before = registry.pots
        for fine in fines:
            self.events += registry.apply_fine(self._as_market, rows[fine.member].operator_id, fine.amount, fine.kind)
        return registry.pots - before

    def settle(self, record: CarryRecord, outcome: BundleOutcome) -> None:
        """Apply one bundle's outcome."""
        market, batch, rows = self.market, self.batch, self.market.table_of(self.batch).members
        for member, amount in outcome.payments.items():
            self.earned[rows[member].operator_id][0] += amount
        for member in outcome.fresh:
            self.earned[rows[member].operator_id][1] += 1
        self.from_pot += outcome.from_pot
        self.to_treasury += outcome.to_treasury
        self.audit_fees += outcome.audit_fee
        market.escrow[record.requester] -= outcome.from_escrow + outcome.fee + outcome.audit_fee + outcome.refund
        market.free[record.requester] += outcome.refund
        market.free[self.call.sender] += outcome.fee
        batch.pending.remove(record.bundle)
        self.outcomes.append(outcome_row(record, outcome))
        if outcome.verdict is Verdict.CARRIED:
            batch.carried.add(record.bundle)
            self.carried.append(carry_record(record, outcome))
        elif outcome.verdict is Verdict.DISPUTED:
            self._dispute(record, outcome)

    def _dispute(self, record: CarryRecord, outcome: BundleOutcome) -> None:
        market, batch = self.market, self.batch
        dispute = DisputeRecord(
            kind=DisputeKind.CONFLICT,
            batch_id=batch.batch_id,
            bundle=record.bundle,
            tasks=record.tasks,
            requester=record.requester,
            price=record.price,
            pot=outcome.pot,
            escrow=outcome.locked,
            fee=batch.terms.fee_wei,
            audit_fee=compute_audit_fee(record.price, market.params.audit_bps),
            collator=self.call.sender,
            class_id=batch.terms.class_id,
            table=batch.table,
            challenger=ZERO_ADDRESS,
            task=0,
            claim=ZERO32,
            round=0,
            votes=outcome.voters,
        )
        as_market = replace(self.call, sender=market.address, value=0)
        self.events += market.disputes.apply_open(as_market, encode_dispute_record(dispute))

    def end(self) -> list[ev.Event]:
        """Pay everybody, keep what was told, and move the batch when its round is over."""
        market, batch = self.market, self.batch
        if not self.outcomes:
            return []
        self.events += market.pay_operators(self.call, self._entries(), self.from_pot)
        self.events += market.pay_treasury(self.call, self.audit_fees)
        if self.to_treasury:
            self.events += market.registry.apply_release_pot(self._as_market, self.to_treasury)
        told = encode_outcomes(self.outcomes)
        batch.outcome_hash = fold(batch.outcome_hash, [keccak(bytes((batch.round,)) + told)])
        self.events.append(ev.BundlesSettled(batch.batch_id, batch.round, told))
        if self.carried:
            page = encode_carry_page(self.carried)
            batch.next_carry_hash = fold(batch.next_carry_hash, [keccak(page)])
            self.events.append(ev.BundlesCarried(batch.batch_id, batch.round, page))
        if not batch.pending:
            if batch.carried:
                self.events += market.start_next_round(batch, self.call.block)
            else:
                self.events += market.finish(batch, self.call.block)
        return self.events

    def _entries(self) -> list[Earning]:
        return [Earning(i, amount, seats) for i, (amount, seats) in sorted(self.earned.items()) if amount or seats]
