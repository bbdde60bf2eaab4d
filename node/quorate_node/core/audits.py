"""The audit lottery: after a batch is settled some of its bundles get one more seat (section 6).

The draw follows from a block header, so nodes know it before anybody pays for telling the chain; where no bundle is
selected nobody does.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from quorate.protocol.beacon import get_mix_hash
from quorate.protocol.challenges import AUDITORS, find_auditors, is_selected
from quorate.protocol.job import BatchStatus
from quorate.protocol.params import BEACON_REACH_BLOCKS
from quorate.protocol.types import AbstainReason, Stage, Verdict
from quorate_node.core.disputeview import set_audit_beacon
from quorate_node.core.duties import PATIENCE_BLOCKS, RANK_BLOCKS, RETRY_S, compute_rank
from quorate_node.core.instructions import Audit, Instruction, ProveAudit, ReadAuditHeader
from quorate_node.core.mind import Mind
from quorate_node.core.proofs import build_proof
from quorate_node.core.seats import READ_HEADER_S
from quorate_node.core.state import Network, State, WorkStatus
from quorate_node.core.views import Audits, Batch
from quorate_node.core.work import ensure_work

_is_selected = lru_cache(maxsize=1 << 15)(is_selected)  # every operator of a farm asks in every tick


def decide_audits(state: State, mind: Mind) -> Iterator[Instruction]:
    """Beacons of audits, and the audits that this node was drawn for."""
    for batch in state.chain.batches.values():
        audits = batch.audits
        if audits is None or batch.status is not BatchStatus.SETTLED or not is_auditable(batch, state.network):
            continue
        if audits.domain is None:
            yield from _decide_header(state, batch, audits)
        elif audits.start_time is None:
            yield from _decide_prove(state, batch, audits, audits.domain)
        else:
            yield from _decide_audit(state, batch, audits, audits.domain, mind)


def is_auditable(batch: Batch, network: Network) -> bool:
    """Whether a batch has audits at all: an auditor needs as long as a seat had."""
    return batch.judged and batch.terms.commit_period <= network.params.audit_period and network.params.audit_bps > 0


def take_audit_header(batch: Batch, network: Network, header: bytes) -> None:
    """The header that decides the audits of a batch was read."""
    if batch.audits is not None and batch.audits.domain is None:
        batch.audits.header = header
        set_audit_beacon(batch, network, get_mix_hash(header))


def find_selected(batch: Batch, domain: bytes, network: Network) -> list[int]:
    """Accepted bundles that the lot has chosen."""
    return [
        bundle
        for bundle, outcome in sorted(batch.outcomes.items())
        if outcome.row.verdict is Verdict.ACCEPTED
        and outcome.round >= batch.audit_from
        and _is_selected(domain, bundle, network.params.audit_bps)
    ]


def _decide_header(state: State, batch: Batch, audits: Audits) -> Iterator[Instruction]:
    is_mined = audits.beacon_block <= state.chain.head.number <= audits.beacon_block + BEACON_REACH_BLOCKS
    if is_mined and state.now >= audits.header_asked_at + READ_HEADER_S:
        audits.header_asked_at = state.now
        yield ReadAuditHeader(batch.id, audits.beacon_block)


def _decide_prove(state: State, batch: Batch, audits: Audits, domain: bytes) -> Iterator[Instruction]:
    age = state.chain.head.number - audits.beacon_block
    is_mine = batch.collator == state.identity.account
    wait = 0 if is_mine else PATIENCE_BLOCKS + RANK_BLOCKS * compute_rank(state, batch.id, Stage.AUDIT)
    if not wait <= age <= BEACON_REACH_BLOCKS or not find_selected(batch, domain, state.network):
        return
    key = ("prove-audit", batch.id)
    if state.is_due(key, RETRY_S):
        yield ProveAudit(key, batch.id, audits.header)


def _decide_audit(state: State, batch: Batch, audits: Audits, domain: bytes, mind: Mind) -> Iterator[Instruction]:
    member = batch.find_member(state.identity.operator_id)
    auditor = _get_turn(state, audits)
    if member is None or auditor is None:
        return
    for bundle in find_selected(batch, domain, state.network):
        row = batch.outcomes[bundle].row
        auditors = find_auditors(domain, bundle, row.voters, batch.table)
        if bundle in audits.done or auditors[auditor : auditor + 1] != (member,):
            continue
        helpers = tuple(batch.table.members[each].operator_id for each in row.voters)
        work, start = ensure_work(state, (batch.id, bundle), batch.bundles[bundle], helpers)
        if start is not None:
            yield start
        if work.status is not WorkStatus.DONE:
            continue
        vote, proof = mind.choose_vote((batch.id, bundle), work, Stage.AUDIT), build_proof(batch, bundle)
        if vote is None or isinstance(vote, AbstainReason) or proof is None:
            continue
        key = ("audit", batch.id, bundle)
        if state.is_due(key, RETRY_S):
            yield Audit(key, batch.id, bundle, auditor, vote, domain, proof)


def _get_turn(state: State, audits: Audits) -> int | None:
    """Whose time it is: auditor 0's, then auditor 1's, then nobody's."""
    assert audits.start_time is not None
    turn = (state.chain.head.timestamp - audits.start_time) // state.network.params.audit_period
    return turn if 0 <= turn < AUDITORS else None
