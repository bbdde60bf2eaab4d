"""`settle`: openings become verdicts and money (section 4.6 of contracts/README.md)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from quorate.protocol import events as ev
from quorate.protocol.context import Call, refuse, require
from quorate.protocol.encoding import (
    decode_carry_page,
    decode_record_page,
    decode_votes,
    encode_carry_page,
    encode_dispute_record,
    fold,
)
from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.market import Batch, Market
from quorate.protocol.openings import OpenedSeat, decode_openings
from quorate.protocol.planning import Settlement
from quorate.protocol.settlement import (
    Ballot,
    BundleOutcome,
    carry_record,
    decide_bundle,
    expand_record_page,
    void_bundle,
)
from quorate.protocol.types import ZERO32, CarryRecord, DisputeRecord, FineKind, Stage, Verdict, Vote


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
                run.settle(record, void_bundle(record, batch.round_terms))
        return run.end()
    ballots = _read_ballots(market, batch, bundles, settlement)
    for ballot in ballots:
        require(is_late or ballot.is_ready, "TooEarly", ballot.record.bundle)
    for ballot in ballots:
        holdings = _holdings(market, batch, call.now, ballot.silent)
        run.settle(ballot.record, decide_bundle(ballot, batch.round_terms, is_late, holdings))
    return run.end()


def _read_page(batch: Batch, settlement: Settlement) -> list[CarryRecord]:
    """Bundles of a page that the chain knows by its hash."""
    chained = fold(settlement.prior, [keccak(settlement.page), *settlement.tail])
    require(chained == (batch.post_hash if batch.round == 0 else batch.carry_hash), "HashMismatch", "page")
    if batch.round:
        return decode_carry_page(settlement.page)
    _, first, records = decode_record_page(settlement.page)
    return expand_record_page(first, records)


def _read_ballots(market: Market, batch: Batch, bundles: list[CarryRecord], settlement: Settlement) -> list[Ballot]:
    """Bundles settled now, with what is opened of them."""
    table = market.table_of(batch)
    try:
        votes = decode_votes(settlement.votes, len(bundles))
        chosen = {
            record.bundle: listed
            for record, listed in zip(bundles, votes, strict=True)
            if listed is not None and record.bundle in batch.pending
        }
        domain = market.round_domain(batch)
        opened = decode_openings(settlement.openings, domain, table, settlement.commit_pages, chosen, batch.terms.seats)
    except ValidationError as error:
        _refuse_malformed(error)
    return [
        Ballot(record, market.committee(batch, record.bundle), _opened_of(opened, record.bundle))
        for record in bundles
        if record.bundle in chosen
    ]


def _refuse_malformed(error: ValidationError) -> None:
    """Pass on what has a name already."""
    if hasattr(error, "name"):
        raise error
    refuse("MalformedPage")


def _opened_of(opened: Mapping[tuple[int, int], OpenedSeat], bundle: int) -> dict[int, Vote]:
    return {seat: found.vote for (number, seat), found in opened.items() if number == bundle}


def _holdings(market: Market, batch: Batch, now: int, members: tuple[int, ...]) -> dict[int, int]:
    rows = market.table_of(batch).members
    return {member: market.registry.collectable(rows[member].operator_id, now) for member in members}


@dataclass(slots=True)
class _Run:
    """One settle call: fines act at once, in the order of bundles and seats; earnings are credited at the end."""

    market: Market
    call: Call
    batch: Batch
    events: list[ev.Event] = field(default_factory=list)
    earned: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    from_pot: int = 0
    to_treasury: int = 0
    verdicts: bytes = b""
    carried: list[CarryRecord] = field(default_factory=list)

    def settle(self, record: CarryRecord, outcome: BundleOutcome) -> None:
        """Apply one bundle's outcome."""
        market, batch, rows = self.market, self.batch, self.market.table_of(self.batch).members
        as_market = replace(self.call, sender=market.address, value=0)
        for member, asked, _ in outcome.fines:
            self.events += market.registry.apply_fine(as_market, rows[member].operator_id, asked, FineKind.SILENT)
        for member, amount in outcome.payments.items():
            self.earned[rows[member].operator_id] += amount
        self.from_pot += outcome.from_pot
        self.to_treasury += outcome.to_treasury
        market.escrow[record.requester] -= outcome.from_escrow + outcome.fee + outcome.refund
        market.free[record.requester] += outcome.refund
        market.free[self.call.sender] += outcome.fee
        batch.pending.remove(record.bundle)
        shown = outcome.vote if outcome.verdict is Verdict.ACCEPTED and outcome.vote else ZERO32
        self.verdicts += record.bundle.to_bytes(2, "big") + bytes((outcome.verdict,)) + shown
        if outcome.verdict is Verdict.CARRIED:
            batch.carried.add(record.bundle)
            self.carried.append(carry_record(record, outcome))
        elif outcome.verdict is Verdict.DISPUTED:
            self._dispute(record, outcome)

    def _dispute(self, record: CarryRecord, outcome: BundleOutcome) -> None:
        market, batch = self.market, self.batch
        dispute = DisputeRecord(
            batch_id=batch.batch_id,
            bundle=record.bundle,
            requester=record.requester,
            price=record.price,
            pot=outcome.pot,
            escrow=outcome.locked,
            fee=batch.terms.fee_wei,
            collator=self.call.sender,
            class_id=batch.terms.class_id,
            table=batch.table,
            vote_domain=market.round_domain(batch, Stage.CLASS_VOTE, 0),
            votes=outcome.voters,
        )
        as_market = replace(self.call, sender=market.address, value=0)
        self.events += market.disputes.apply_open(as_market, encode_dispute_record(dispute))

    def end(self) -> list[ev.Event]:
        """Pay everybody, keep the carry page, and move the batch when its round is over."""
        market, batch = self.market, self.batch
        if not self.verdicts:
            return []
        self.events += market.pay_operators(self.call, list(self.earned.items()), self.from_pot)
        if self.to_treasury:
            as_market = replace(self.call, sender=market.address, value=0)
            self.events += market.registry.apply_release_pot(as_market, self.to_treasury)
        self.events.append(ev.BundlesSettled(batch.batch_id, batch.round, self.verdicts))
        if self.carried:
            page = encode_carry_page(self.carried)
            batch.next_carry_hash = fold(batch.next_carry_hash, [keccak(page)])
            self.events.append(ev.BundlesCarried(batch.batch_id, batch.round, page))
        if not batch.pending:
            if batch.carried:
                self.events += market.start_next_round(batch, self.call.block)
            else:
                self.events += market.finish(batch, self.call.now)
        return self.events
