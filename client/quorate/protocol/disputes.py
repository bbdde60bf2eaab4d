"""`Disputes` as a pure model: one class vote for each conflict (section 5 of contracts/README.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from quorate.protocol import events as ev
from quorate.protocol.classes import Earning
from quorate.protocol.commitment import compute_statement
from quorate.protocol.context import Call, refuse, require
from quorate.protocol.encoding import (
    VoteCommit,
    compute_list_digest,
    compute_vote_items_hash,
    compute_vote_page_hash,
    decode_dispute_record,
    decode_vote_lists,
    decode_votes,
    fold,
)
from quorate.protocol.errors import ProtocolViolation, ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.market import SLOT_BITS, Market
from quorate.protocol.openings import decode_vote_openings
from quorate.protocol.params import Params
from quorate.protocol.types import (
    ZERO32,
    Address,
    BatchId,
    DisputeId,
    DisputeRecord,
    ListSkip,
    Table,
    Vote,
)
from quorate.protocol.verdict import DisputeOutcome, compute_voter_share, decide_dispute


@dataclass(slots=True)
class Dispute:
    """One class vote; the chain keeps the hash of its record."""

    dispute_id: DisputeId
    record_hash: bytes
    open_time: int
    open_block: int
    commit_hash: bytes = ZERO32
    committed: set[int] = field(default_factory=set)


class Disputes:
    """Model of Disputes: holds no money, has registry and market move it."""

    def __init__(self, params: Params, address: Address, market: Market) -> None:
        self.params, self.address, self.market, self.registry = params, address, market, market.registry
        self.open: dict[int, Dispute] = {}  # by slot
        self.free_slots: list[int] = []  # last freed first
        self.slot_count = self.sequence = 0
        # What is locked by open disputes, for the money invariants; the chain finds it in the records.
        self.records: dict[DisputeId, DisputeRecord] = {}

    def get_dispute(self, dispute_id: int) -> Dispute:
        """State of an open dispute; DisputeUnknown otherwise."""
        dispute = self.open.get(dispute_id & ((1 << SLOT_BITS) - 1))
        if dispute is None or dispute.dispute_id != dispute_id:
            refuse("DisputeUnknown", dispute_id)
        return dispute

    def apply_open(self, call: Call, record: bytes) -> list[ev.Event]:
        """`open(record)`: only the market."""
        require(call.sender == self.market.address, "Unauthorized")
        if self.free_slots:
            slot = self.free_slots.pop()
        else:
            slot, self.slot_count = self.slot_count, self.slot_count + 1
        self.sequence += 1
        dispute_id = DisputeId(self.sequence << SLOT_BITS | slot)
        self.open[slot] = Dispute(dispute_id, keccak(record), call.now, call.block.number)
        decoded = decode_dispute_record(record)
        self.records[dispute_id] = decoded
        return [ev.DisputeOpened(dispute_id, decoded.batch_id, decoded.bundle, record)]

    def _is_past(self, dispute: Dispute, call: Call, window: int) -> bool:
        time = dispute.open_time + self.params.vote_commit_period + (window - 1) * self.params.vote_reveal_period
        return call.now >= time and call.block.number >= dispute.open_block + window * self.params.min_blocks

    def _require_record(self, dispute_id: int, record: bytes) -> tuple[Dispute, DisputeRecord, Table]:
        dispute = self.get_dispute(dispute_id)
        require(keccak(record) == dispute.record_hash, "HashMismatch", "record")
        decoded = decode_dispute_record(record)
        return dispute, decoded, self.registry.get_class(decoded.class_id).tables[decoded.table].table

    def apply_commit_votes(self, call: Call, dispute_id: int, record: bytes, lists: bytes) -> list[ev.Event]:
        """`commitVotes(disputeId, record, lists)`: anyone, with votes of many members."""
        dispute, decoded, table = self._require_record(dispute_id, record)
        require(not self._is_past(dispute, call, 1), "WindowPast", "commitVotes")
        try:
            votes = decode_vote_lists(lists)
        except ValidationError:
            refuse("MalformedPage")
        require(bool(votes), "MalformedPage")
        kept, skips = [], b""
        for index, vote in enumerate(votes):
            reason = self._judge(dispute, decoded, table, vote)
            if reason is None:
                kept.append(vote)
                dispute.committed.add(vote[0])
            else:
                skips += index.to_bytes(2, "big") + bytes((reason,))
        if kept:
            dispute.commit_hash = fold(dispute.commit_hash, [compute_vote_page_hash(kept)])
        return [ev.VotesCommitted(dispute.dispute_id, lists, skips)]

    def _judge(self, dispute: Dispute, record: DisputeRecord, table: Table, vote: VoteCommit) -> ListSkip | None:
        member, signature, commitment = vote
        if member >= len(table.members):
            return ListSkip.MEMBER
        row = table.members[member]
        items_hash = compute_vote_items_hash(record.bundle, commitment)
        digest = compute_list_digest(self.market.separator, record.vote_domain, row.operator_id, items_hash)
        if self.market.recover(digest, signature) != row.key:
            return ListSkip.SIGNATURE
        return ListSkip.DUPLICATE if member in dispute.committed else None

    def apply_settle_votes(
        self,
        call: Call,
        dispute_id: int,
        record: bytes,
        commit_pages: Sequence[bytes],
        votes: bytes,
        openings: bytes,
    ) -> list[ev.Event]:
        """`settleVotes(…)`: anyone, once everybody has spoken or the windows are past."""
        dispute, decoded, table = self._require_record(dispute_id, record)
        require(fold(ZERO32, commit_pages) == dispute.commit_hash, "HashMismatch", "commitPages")
        statement = compute_statement(decoded.vote_domain, decoded.bundle)
        try:
            listed = decode_votes(votes, 1)[0]
            if listed is None:
                raise ValidationError("no votes stand where votes must")
            opened, complete = decode_vote_openings(openings, statement, table, commit_pages, listed)
        except ProtocolViolation:
            raise
        except ValidationError:
            refuse("MalformedPage")
        everybody = len(dispute.committed) == len(table.members) or self._is_past(dispute, call, 1)
        outcome = decide_dispute(decoded, table, opened)
        window = 3 if outcome.vote is None else 2
        require((complete and everybody) or self._is_past(dispute, call, window), "TooEarly")
        slot = dispute.dispute_id & ((1 << SLOT_BITS) - 1)
        del self.open[slot], self.records[dispute.dispute_id]
        self.free_slots.append(slot)
        return [*self._pay(call, decoded, table, outcome), self._tell(dispute, decoded, outcome)]

    def _tell(self, dispute: Dispute, record: DisputeRecord, outcome: DisputeOutcome) -> ev.Event:
        vote = outcome.vote or Vote(ZERO32)
        return ev.DisputeSettled(dispute.dispute_id, BatchId(record.batch_id), record.bundle, outcome.verdict, vote)

    def _pay(self, call: Call, record: DisputeRecord, table: Table, outcome: DisputeOutcome) -> list[ev.Event]:
        mine, rows = replace(call, sender=self.address, value=0), table.members
        entries = [(int(rows[member].operator_id), amount) for member, amount in outcome.earnings.items()]
        # Earnings first: who was right in a seat and wrong in the class vote is slashed for what it earned too.
        found = self.market.apply_resolve(mine, record.requester, record.escrow, record.collator, outcome.fee, entries)
        pots_before = self.registry.pots
        for member, together in outcome.wrong:
            found += self.registry.apply_slash(mine, rows[member].operator_id, together)
        slashed = self.registry.pots - pots_before
        share = compute_voter_share(record.price, slashed, len(outcome.right_voters))
        paid = share * len(outcome.right_voters)
        if paid:
            credits = sorted(Earning(rows[member].operator_id, share) for member in outcome.right_voters)
            found += self.registry.apply_credit(mine, credits, paid)
        rest = record.pot + slashed - paid
        return [*found, *self.registry.apply_release_pot(mine, rest)] if rest else found
