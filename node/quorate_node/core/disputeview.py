"""Events of disputes, challenges and audits → what the node knows of them; part of `chainview`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quorate.protocol import dispute_pages as pages
from quorate.protocol import events
from quorate.protocol.commitment import compute_round_domain
from quorate.protocol.encoding import decode_list_skips
from quorate.protocol.errors import UnrecoverableError
from quorate.protocol.types import DisputeKind, Opening, Stage, Table, Verdict, Vote
from quorate_node.core.state import Network
from quorate_node.core.stimuli import Logged
from quorate_node.core.views import Batch, ChainView, Dispute

LEAF_BYTES = 32


def get_table(chain: ChainView, class_id: int, number: int) -> Table:
    """A table that the agent has read. Raises UnrecoverableError when it has not, which is our bug."""
    try:
        return chain.tables[class_id, number]
    except KeyError:
        raise UnrecoverableError(f"table {number} of class {class_id} was not read before its batch") from None


def _on_dispute(chain: ChainView, network: Network, event: events.DisputeOpened, logged: Logged) -> None:
    record = pages.decode_dispute_record(event.record)
    batch = chain.batches.get(record.batch_id)
    bundle = batch.bundles.get(record.bundle) if batch else None
    table = get_table(chain, record.class_id, record.table)
    chain.disputes[event.dispute_id] = Dispute(
        event.dispute_id, record, event.record, table, bundle, logged.timestamp, logged.block
    )


def _on_published(chain: ChainView, network: Network, event: events.LeavesPublished, logged: Logged) -> None:
    if dispute := chain.disputes.get(event.dispute_id):
        data = event.leaves
        dispute.published[Vote(event.root)] = tuple(data[i : i + LEAF_BYTES] for i in range(0, len(data), LEAF_BYTES))


def _on_asked(chain: ChainView, network: Network, event: events.QuestionAsked, logged: Logged) -> None:
    if dispute := chain.disputes.get(event.dispute_id):
        dispute.question, dispute.question_bytes = pages.decode_question(event.question), event.question
        _start_window(network, dispute, 0, logged)


def _start_window(network: Network, dispute: Dispute, window: int, logged: Logged) -> None:
    dispute.window, dispute.since, dispute.since_block = window, logged.timestamp, logged.block
    question_hash = pages.compute_question_hash(dispute.record_bytes, dispute.question_bytes)
    dispute.statement = pages.compute_vote_statement(
        network.chain_id, network.disputes, dispute.id, window, question_hash
    )
    dispute.clear_window()


def _on_votes(chain: ChainView, network: Network, event: events.VotesCommitted, logged: Logged) -> None:
    dispute = chain.disputes.get(event.dispute_id)
    if dispute is None:
        return
    skips, rows = decode_list_skips(event.skips), pages.decode_vote_lists(event.lists)
    kept = tuple(row for index, row in enumerate(rows) if index not in skips)
    if kept:
        dispute.pages.append(kept)
    for member, _, commitment in kept:
        dispute.committed[member] = commitment
        dispute.abstained += pages.compute_reason(commitment) is not None


def _on_revealed(chain: ChainView, network: Network, event: events.VotesRevealed, logged: Logged) -> None:
    dispute = chain.disputes.get(event.dispute_id)
    if dispute is None:
        return
    for _, rows in pages.decode_vote_openings(event.openings, pages.decode_answers(event.votes)):
        for member, row in rows:
            if isinstance(row, Opening):
                dispute.openings[member] = row
                dispute.revealed.add(member)


def _on_window(chain: ChainView, network: Network, event: events.VoteWindowOpened, logged: Logged) -> None:
    if dispute := chain.disputes.get(event.dispute_id):
        dispute.cast = pages.decode_cast(event.cast, len(dispute.table.members))
        _start_window(network, dispute, event.window, logged)


def _on_decided(chain: ChainView, network: Network, event: events.DisputeDecided, logged: Logged) -> None:
    dispute = chain.disputes.get(event.dispute_id)
    if dispute is None:
        return
    dispute.tally = event.tally
    batch = chain.batches.get(event.batch_id)
    outcome = batch.outcomes.get(event.bundle) if batch else None
    is_conflict = dispute.record.kind is DisputeKind.CONFLICT
    if batch is None or outcome is None or event.verdict != Verdict.VOID:
        return
    if is_conflict or outcome.round == dispute.record.round:  # what a later round found still counts
        del batch.outcomes[event.bundle]


def _on_punished(chain: ChainView, network: Network, event: events.RowsPunished, logged: Logged) -> None:
    if dispute := chain.disputes.get(event.dispute_id):
        dispute.row = event.row


def _on_dispute_settled(chain: ChainView, network: Network, event: events.DisputeSettled, logged: Logged) -> None:
    chain.disputes.pop(event.dispute_id, None)


def _on_audit_drawn(chain: ChainView, network: Network, event: events.AuditDrawn, logged: Logged) -> None:
    batch = chain.batches.get(event.batch_id)
    if batch is not None and batch.audits is not None:
        batch.audits.start_time = logged.timestamp
        set_audit_beacon(batch, network, event.beacon)


def set_audit_beacon(batch: Batch, network: Network, beacon: bytes) -> None:
    """Fix which bundles the lot selects; the chain has the last word."""
    if batch.audits is not None:
        batch.audits.domain = compute_round_domain(
            network.chain_id, network.market, batch.id, batch.post_hash, Stage.AUDIT, batch.audits.round, beacon
        )


def _on_audited(chain: ChainView, network: Network, event: events.BundleAudited, logged: Logged) -> None:
    batch = chain.batches.get(event.batch_id)
    if batch is not None and batch.audits is not None:
        batch.audits.done.add(event.bundle)


DISPUTE_HANDLERS: dict[type, Callable[[ChainView, Network, Any, Logged], None]] = {
    events.DisputeOpened: _on_dispute,
    events.LeavesPublished: _on_published,
    events.QuestionAsked: _on_asked,
    events.VotesCommitted: _on_votes,
    events.VotesRevealed: _on_revealed,
    events.VoteWindowOpened: _on_window,
    events.DisputeDecided: _on_decided,
    events.RowsPunished: _on_punished,
    events.DisputeSettled: _on_dispute_settled,
    events.AuditDrawn: _on_audit_drawn,
    events.BundleAudited: _on_audited,
}
