"""`Challenges` as a pure model: who may doubt an accepted result, and who has to (section 6 of contracts/README.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quorate.protocol import events as ev
from quorate.protocol.classes import Earning
from quorate.protocol.committee import compute_auditor
from quorate.protocol.context import ZERO_ADDRESS, Call, refuse, require
from quorate.protocol.dispute_pages import encode_dispute_record
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.market import Batch, Market
from quorate.protocol.outcomes import Outcome, Proof, compute_audit_digest, read_proof
from quorate.protocol.params import BPS, MAX_VOTERS, Params
from quorate.protocol.types import (
    ZERO32,
    Address,
    DisputeId,
    DisputeKind,
    DisputeRecord,
    FineKind,
    OperatorId,
    Stage,
    Table,
    Verdict,
    Vote,
)

AUDITORS = 2


def is_selected(audit_domain: bytes, bundle: int, audit_bps: int) -> bool:
    """Whether the lot fell on a bundle."""
    return int.from_bytes(keccak(audit_domain + bundle.to_bytes(4, "big")), "big") % BPS < audit_bps


def find_auditors(audit_domain: bytes, bundle: int, voters: Sequence[int], table: Table) -> tuple[int, ...]:
    """Rows of the auditors of a bundle that was selected, in their order; fewer than two where few members are left."""
    if len(voters) >= MAX_VOTERS:
        return ()
    found: list[int] = []
    for number in range(AUDITORS):
        sitting = [*voters, *found]
        member = compute_auditor(audit_domain, bundle, number, table.units, len(table.members), sitting)
        if member is None:
            break
        found.append(member)
    return tuple(found)


def compute_challenge_bond(params: Params, task_price: int, members: int) -> int:
    """Wei that a challenge of a task needs: what the class's vote costs, or the least there is."""
    return max(params.challenge_bond, task_price * members)


@dataclass(frozen=True, slots=True)
class _Doubt:
    """An accepted bundle in question."""

    batch: Batch
    bundle: int
    outcome: Outcome

    @property
    def votes(self) -> tuple[tuple[int, Vote], ...]:
        return tuple((member, self.outcome.row.vote) for member in self.outcome.row.voters)

    def record(self, kind: DisputeKind) -> DisputeRecord:
        outcome, batch = self.outcome, self.batch
        return DisputeRecord(
            kind=kind,
            batch_id=batch.batch_id,
            bundle=self.bundle,
            tasks=outcome.tasks,
            requester=outcome.record.requester,
            price=outcome.price,
            pot=0,
            escrow=outcome.price * len(outcome.row.voters),
            fee=0,
            audit_fee=0,
            collator=ZERO_ADDRESS,
            class_id=batch.terms.class_id,
            table=batch.table,
            challenger=ZERO_ADDRESS,
            task=0,
            claim=ZERO32,
            round=outcome.round,
            votes=self.votes,
        )


class Challenges:
    """Model of Challenges: holds no money."""

    def __init__(self, params: Params, address: Address, market: Market) -> None:
        self.params, self.address, self.market, self.registry = params, address, market, market.registry
        self.claims: set[tuple[int, int, int, int, bytes]] = set()  # batch, bundle, round, task, leaf
        self.audits: dict[tuple[int, int, int], int | None] = {}  # batch, bundle, round: the member that agreed

    def apply_challenge(
        self, call: Call, batch_id: int, proof: Proof, bundle: int, task: int, leaf: bytes
    ) -> list[ev.Event]:
        """`challenge(batchId, proof, bundle, task, leaf)` payable: a bond on another leaf."""
        batch = self.market.get_batch(batch_id)
        require(not self._is_final(batch, call.now), "WindowPast", "challenge")
        require(batch.judged, "NotJudged")
        doubt = self._require_accepted(batch, proof, bundle)
        outcome = doubt.outcome
        require(task < outcome.tasks and leaf != ZERO32, "MalformedPage")
        claim = batch_id, bundle, outcome.round, task, leaf
        require(claim not in self.claims, "AlreadyChallenged", bundle, task)
        members = len(self.market.table_of(batch).members)
        bond = compute_challenge_bond(self.params, outcome.record.task_price, members)
        require(call.value == bond, "WrongValue", call.value, bond)
        self.claims.add(claim)
        # Who took the fee for looking answers for the result like a seat, or it could repeat it without a look.
        agreed = self.audits.get((batch_id, bundle, outcome.round))
        votes = doubt.votes if agreed is None else (*doubt.votes, (agreed, outcome.row.vote))
        record = replace(
            doubt.record(DisputeKind.CHALLENGE), pot=bond, challenger=call.sender, task=task, claim=leaf, votes=votes
        )
        found = self.registry.apply_deposit_pot(replace(call, sender=self.address))
        dispute_id, opened = self._open(call, record)
        return [*found, *opened, ev.ResultChallenged(batch.batch_id, bundle, task, call.sender, dispute_id)]

    def apply_audit(
        self, call: Call, batch_id: int, proof: Proof, bundle: int, auditor: int, vote: Vote, signature: bytes
    ) -> list[ev.Event]:
        """`audit(batchId, proof, bundle, auditor, vote, signature)`: what an auditor found, sent by anyone."""
        batch, table = self.market.get_batch(batch_id), self.market.table_of(self.market.get_batch(batch_id))
        is_drawn = batch.status is BatchStatus.SETTLED and batch.audit_drawn and auditor < AUDITORS
        require(is_drawn, "NotDrawn", bundle)
        start = batch.start_time + auditor * self.params.audit_period
        is_due = start <= call.now < min(start + self.params.audit_period, batch.final_at)
        require(is_due, "WindowPast", "audit")
        doubt = self._require_accepted(batch, proof, bundle)
        require(doubt.outcome.round >= batch.audit_from, "NotDrawn", bundle)
        domain = self.market.round_domain(batch, Stage.AUDIT)
        members = find_auditors(domain, bundle, doubt.outcome.row.voters, table)
        is_chosen = is_selected(domain, bundle, self.params.audit_bps) and auditor < len(members)
        require(is_chosen, "NotDrawn", bundle)
        outcome_key = batch_id, bundle, doubt.outcome.round
        require(outcome_key not in self.audits, "AlreadyAudited", bundle)
        row = table.members[members[auditor]]
        digest = compute_audit_digest(self.market.separator, domain, row.operator_id, bundle, vote)
        require(self.market.recover(digest, signature) == row.key, "Unauthorized")
        self.audits[outcome_key] = members[auditor] if vote == doubt.outcome.row.vote else None
        found: list[ev.Event] = []
        if auditor:
            found += self._fine_absent(call, table.members[members[0]].operator_id, 2 * doubt.outcome.price)
        dispute_id = DisputeId(0)
        if vote == doubt.outcome.row.vote:
            found += self._reward(call, row.operator_id, doubt.outcome.price)
        else:
            votes = (*doubt.votes, (members[auditor], vote))
            dispute_id, opened = self._open(call, replace(doubt.record(DisputeKind.AUDIT), votes=votes))
            found += opened
        return [*found, ev.BundleAudited(batch.batch_id, bundle, row.operator_id, vote, dispute_id)]

    def _is_final(self, batch: Batch, now: int) -> bool:
        return batch.status is BatchStatus.SETTLED and now >= batch.final_at

    def _require_accepted(self, batch: Batch, proof: Proof, bundle: int) -> _Doubt:
        outcome = read_proof(proof, batch.post_hash, batch.outcome_hash).get(bundle)
        if outcome is None:
            refuse("NotAccepted", bundle)
        is_accepted = outcome.row.verdict is Verdict.ACCEPTED
        require(is_accepted and batch.is_live(bundle, outcome.round), "NotAccepted", bundle)
        return _Doubt(batch, bundle, outcome)

    def _as_self(self, call: Call) -> Call:
        return replace(call, sender=self.address, value=0)

    def _open(self, call: Call, record: DisputeRecord) -> tuple[DisputeId, list[ev.Event]]:
        opened = self.market.disputes.apply_open(self._as_self(call), encode_dispute_record(record))
        [told] = [event for event in opened if isinstance(event, ev.DisputeOpened)]
        return DisputeId(told.dispute_id), opened

    def _fine_absent(self, call: Call, operator_id: OperatorId, amount: int) -> list[ev.Event]:
        before = self.registry.pots
        found = self.registry.apply_fine(self._as_self(call), operator_id, amount, FineKind.SILENT)
        taken = self.registry.pots - before
        return found + (self.registry.apply_release_pot(self._as_self(call), taken) if taken else [])

    def _reward(self, call: Call, operator_id: OperatorId, price: int) -> list[ev.Event]:
        before = self.registry.pots
        found = self.registry.apply_draw_treasury(self._as_self(call), price)
        paid = self.registry.pots - before
        return found + self.registry.apply_credit(self._as_self(call), [Earning(operator_id, paid, 1)], paid)
