"""What a node does in a class vote: execute, commit, open, and settle when it is its turn (section 5)."""

from __future__ import annotations

from collections.abc import Iterator

from quorate.protocol.dispute_pages import encode_vote_lists
from quorate.protocol.types import Opening, Stage
from quorate.protocol.verdict import find_winner
from quorate.protocol.vote_planning import plan_vote_settlement
from quorate_node.core.duties import RANK_BLOCKS, RETRY_S, compute_rank, get_settlers
from quorate_node.core.instructions import (
    CommitOwnVote,
    CommitVotes,
    DraftVote,
    Instruction,
    JournalCommit,
    SendVote,
    SendVoteOpening,
    SettleVotes,
)
from quorate_node.core.seats import RESEND_S, ChooseVote, ensure_work
from quorate_node.core.state import Dispute, SecretGroup, State, WorkStatus, find_member

ALONE_S = 8.0  # a vote that the collator has not put on chain by then goes there without it
GATHER_S = 1.0


def decide_disputes(state: State, choose_vote: ChooseVote) -> Iterator[Instruction]:
    """All that is due in class votes that run."""
    for dispute in state.chain.disputes.values():
        member = find_member(dispute.table, state.identity.operator_id)
        if member is not None:
            yield from _decide_vote(state, dispute, member, choose_vote)
        if dispute.record.collator == state.identity.account:
            yield from _decide_gather(state, dispute)
        yield from _decide_settle(state, dispute)


def is_past(state: State, dispute: Dispute, window: int) -> bool:
    """Whether the commit (1) or reveal window (2), or as long again (3), is past."""
    params, head = state.network.params, state.chain.head
    seconds = params.vote_commit_period + (window - 1) * params.vote_reveal_period
    is_late = head.timestamp >= dispute.opened_at + seconds
    return is_late and head.number >= dispute.open_block + window * params.min_blocks


def is_openable(state: State, dispute: Dispute) -> bool:
    """Whether no class vote can still be chosen."""
    return len(dispute.committed) == len(dispute.table.members) or is_past(state, dispute, 1)


def _decide_vote(state: State, dispute: Dispute, member: int, choose_vote: ChooseVote) -> Iterator[Instruction]:
    domain = dispute.record.vote_domain
    # Disputes of one batch share their domain; what tells their votes apart is the dispute.
    mine = (group for group in state.own.groups.get(domain, ()) if group.subject == dispute.id)
    group = next(mine, None)
    if group is None:
        yield from _decide_work(state, dispute, member, choose_vote)
    elif member not in dispute.committed:
        if not is_past(state, dispute, 1):
            yield from _decide_send(state, dispute, group)
    elif dispute.committed[member] == group.secrets[0].commitment and is_openable(state, dispute):
        opening = Opening(group.secrets[0].vote, group.secrets[0].salt)
        dispute.openings[member] = opening
        others = tuple(each for each in get_settlers(state, dispute.id) if each != state.identity.operator_id)
        is_late = is_past(state, dispute, 1)
        if state.is_due(("vote-opening", dispute.id, is_late), RESEND_S):
            yield SendVoteOpening(dispute.id, member, opening, dispute.record.collator, others if is_late else ())


def _decide_work(state: State, dispute: Dispute, member: int, choose_vote: ChooseVote) -> Iterator[Instruction]:
    domain, bundle = dispute.record.vote_domain, dispute.bundle
    if bundle is None or is_past(state, dispute, 1) or (domain, dispute.id) in state.own.journaling:
        return
    seated = tuple(dispute.table.members[row].operator_id for row, _ in dispute.record.votes)
    work, start = ensure_work(state, dispute.key, bundle, seated)
    if start:
        yield start
    if work.status is WorkStatus.DONE:
        state.own.journaling.add((domain, dispute.id))
        vote = choose_vote(dispute.key, work, Stage.CLASS_VOTE)
        draft = DraftVote(dispute.record.bundle, 0, vote, work.leaves)
        yield JournalCommit(Stage.CLASS_VOTE, dispute.id, 0, domain, member, (draft,))


def _decide_send(state: State, dispute: Dispute, group: SecretGroup) -> Iterator[Instruction]:
    first = state.asked.setdefault(("vote-first", dispute.id), state.now)
    if state.now >= first + ALONE_S:
        key = ("own-vote", dispute.id)
        if state.is_due(key, RETRY_S):
            yield CommitOwnVote(key, group, dispute.record_bytes)
    elif state.is_due(("vote", dispute.id), RESEND_S):
        yield SendVote(group, dispute.record.collator)


def _decide_gather(state: State, dispute: Dispute) -> Iterator[Instruction]:
    """The collator puts votes on chain: all in one page if they come together, else what came within a second."""
    waiting = {m: row for m, row in dispute.mail.items() if m not in dispute.committed}
    if not waiting or is_past(state, dispute, 1):
        return
    is_all = len(waiting) + len(dispute.committed) >= len(dispute.table.members)
    since = state.asked.setdefault(("votes-since", dispute.id, len(dispute.pages)), state.now)
    key = ("commit-votes", dispute.id)
    if (is_all or state.now >= since + GATHER_S) and state.is_due(key, GATHER_S):
        lists = encode_vote_lists([waiting[member] for member in sorted(waiting)])
        yield CommitVotes(key, dispute.id, dispute.record_bytes, lists)


def _decide_settle(state: State, dispute: Dispute) -> Iterator[Instruction]:
    is_complete = is_openable(state, dispute) and len(dispute.openings) == len(dispute.committed)
    is_mine = dispute.record.collator == state.identity.account
    if not (is_complete or (is_past(state, dispute, 2) and (_is_decided(dispute) or is_past(state, dispute, 3)))):
        return
    rank = 0 if is_mine else 1 + compute_rank(state, dispute.id)
    waited = state.now - state.asked.setdefault(("settle-since", dispute.id, is_complete), state.now)
    key = ("settle-votes", dispute.id)
    if waited >= rank * RANK_BLOCKS and state.is_due(key, RETRY_S):
        planned = plan_vote_settlement(dispute.pages, dispute.openings)
        yield SettleVotes(key, dispute.id, dispute.record_bytes, planned)


def _is_decided(dispute: Dispute) -> bool:
    """Whether what was opened so far is a majority; without one `settleVotes` has to wait."""
    votes = {member: opening.vote for member, opening in dispute.openings.items() if member in dispute.committed}
    return find_winner(dispute.table, votes) is not None
