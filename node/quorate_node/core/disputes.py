"""What a node does in a class vote: publish, ask, execute, commit, open, settle, punish (section 5).

Who was away when a window ran comes back and votes in the next one; it executes the tasks in question and no others.
Votes go to a few operators that bring them to the chain in one page; what they leave out goes there without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from quorate.protocol.dispute_pages import encode_vote_lists
from quorate.protocol.questions import compute_answer, is_publishable
from quorate.protocol.result import compute_merkle_root
from quorate.protocol.types import AbstainReason, Opening, Stage, Vote
from quorate.protocol.verdict import find_winner
from quorate.protocol.vote_planning import plan_reveal_votes, plan_vote_settlement
from quorate_node.core.duties import RANK_BLOCKS, RETRY_S, compute_rank, get_settlers
from quorate_node.core.instructions import (
    Ask,
    CommitOwnVote,
    CommitVotes,
    DraftVote,
    Instruction,
    JournalCommit,
    Publish,
    Punish,
    RevealVotes,
    SendVote,
    SendVoteOpening,
    SettleVotes,
)
from quorate_node.core.mind import Answer, Mind
from quorate_node.core.rounds import is_abstention
from quorate_node.core.seats import DIRECT_RETRY_S, RESEND_S
from quorate_node.core.state import SecretGroup, State, Work, WorkStatus
from quorate_node.core.views import Dispute, find_member
from quorate_node.core.work import ensure_work

ALONE_S = 8.0  # a vote that nobody has put on chain by then goes there without help
ALONE_PART = 20  # or this part of the window, if that is longer
TAKEN_S = 20.0
GATHER_S = 1.0
GATHER_PART = 200
GATHER_STEP_S = 3.0  # how long a gatherer leaves to the one before it
ABSTAIN_S = 4
FIND_S = 0.5  # what may have brought leaves, an execution or a message, takes longer
PUNISHED_ROWS = 128


def decide_disputes(state: State, mind: Mind) -> Iterator[Instruction]:
    """All that is due in class votes that run."""
    for dispute in state.chain.disputes.values():
        if dispute.tally:
            yield from _decide_punish(state, dispute)
        elif dispute.question is None:
            yield from _decide_publish(state, dispute)
            yield from _decide_ask(state, dispute)
        else:
            member = find_member(dispute.table, state.identity.operator_id)
            if member is not None and member not in dispute.voted:
                yield from _decide_vote(state, dispute, member, mind)
            yield from _decide_gather(state, dispute)
            yield from _decide_settle(state, dispute)


# leaves and question ------------------------------------------------------------------------------------------------


def find_leaves(state: State, dispute: Dispute) -> dict[Vote, tuple[bytes, ...]]:
    """Leaves of the dispute's roots as far as this node has them, from its execution or as an operator served them."""
    known = {root: state.own.found_leaves[root] for root in dispute.record.roots if root in state.own.found_leaves}
    for group in state.own.groups_of(dispute.record.batch_id):
        known |= {secret.vote: secret.leaves for secret in group.secrets if secret.bundle == dispute.record.bundle}
    work = state.own.work.get(dispute.key)
    if work is not None and work.root is not None:
        known[work.root] = work.leaves
    return {
        root: leaves
        for root, leaves in known.items()
        if root in dispute.record.roots and len(leaves) == dispute.record.tasks
    }


def _decide_publish(state: State, dispute: Dispute) -> Iterator[Instruction]:
    if not is_publishable(dispute.record):
        return
    waited = _wait(state, ("publish-since", dispute.id))
    longest = state.network.params.publish_period / 2
    turns = {
        root: number
        for number, root in enumerate(dispute.record.roots)
        if root not in dispute.published and waited >= min(RANK_BLOCKS * _publish_rank(state, dispute, root), longest)
    }
    if not turns or not state.is_due(("find-leaves", dispute.id), FIND_S):
        return
    for root, leaves in sorted(find_leaves(state, dispute).items()):
        key = ("publish", dispute.id, turns.get(root))
        is_wanted = root in turns and state.is_due(key, RETRY_S)
        if is_wanted and compute_merkle_root(leaves) == root:  # a liar's root may have none
            yield Publish(key, dispute.id, dispute.record_bytes, leaves)


def _publish_rank(state: State, dispute: Dispute, root: Vote) -> int:
    """Those accused go first, for it is their stake."""
    members = [member for member, vote in dispute.record.votes if vote == root]
    ids = [dispute.table.members[member].operator_id for member in members]
    mine = state.identity.operator_id
    return ids.index(mine) if mine in ids else len(ids) + compute_rank(state, dispute.id)


def _decide_ask(state: State, dispute: Dispute) -> Iterator[Instruction]:
    roots, params, head = dispute.record.roots, state.network.params, state.chain.head
    is_whole = all(root in dispute.published for root in roots)
    is_late = head.timestamp >= dispute.since + params.publish_period
    is_late = is_late and head.number >= dispute.since_block + params.min_blocks
    if not (is_whole or is_late or not is_publishable(dispute.record)):
        return
    waited = _wait(state, ("ask-since", dispute.id, is_whole))
    key = ("ask", dispute.id)
    if waited >= RANK_BLOCKS * _turn(state, dispute) and state.is_due(key, RETRY_S):
        leaves = b"".join(b"".join(dispute.published[root]) for root in roots) if is_whole else b""
        yield Ask(key, dispute.id, dispute.record_bytes, leaves)


# votes --------------------------------------------------------------------------------------------------------------


def is_past(state: State, dispute: Dispute, window: int) -> bool:
    """Whether the commit (1) or reveal period (2), or as long again (3), is past in the present window."""
    params, head = state.network.params, state.chain.head
    seconds = params.vote_commit_period + (window - 1) * params.vote_reveal_period
    return head.timestamp >= dispute.since + seconds and head.number >= dispute.since_block + window * params.min_blocks


def is_openable(state: State, dispute: Dispute) -> bool:
    """Whether no class vote of this window can still be chosen."""
    spoken = len(dispute.committed) + len(dispute.voted)
    return spoken == len(dispute.table.members) or is_past(state, dispute, 1)


def _decide_vote(state: State, dispute: Dispute, member: int, mind: Mind) -> Iterator[Instruction]:
    group = next(iter(state.own.groups.get(dispute.statement, ())), None)
    if group is None:
        stands = dispute.committed.get(member)
        is_due = not is_past(state, dispute, 1) if stands is None else not is_abstention(stands)
        if is_due and dispute.statement not in state.own.journaling and state.now >= state.own.journal_at:
            yield from _decide_work(state, dispute, member, mind)
    elif member not in dispute.committed:
        if not is_past(state, dispute, 1):
            yield from _decide_send(state, dispute, group)
    elif dispute.committed[member] == group.secrets[0].commitment and is_openable(state, dispute):
        secret = group.secrets[0]
        if not secret.is_abstention and mind.shows(secret):
            yield from _decide_open(state, dispute, member, Opening(secret.vote, secret.salt))


def _decide_work(state: State, dispute: Dispute, member: int, mind: Mind) -> Iterator[Instruction]:
    if dispute.bundle is None or dispute.question is None:
        return
    work, start = _find_work(state, dispute)
    if start is not None:
        yield start
    answer = _choose(state, dispute, work, mind)
    if member in dispute.committed and isinstance(answer, AbstainReason):
        return  # a vote of ours stands that our journal has lost: only the same result opens it
    if answer is not None:
        state.own.journaling.add(dispute.statement)
        bundle = dispute.record.bundle
        if isinstance(answer, AbstainReason):
            draft = DraftVote(bundle, 0, None, reason=answer)
        else:
            draft = DraftVote(bundle, 0, answer)
        yield JournalCommit(Stage.CLASS_VOTE, dispute.id, dispute.window, dispute.statement, member, (draft,))


def _find_work(state: State, dispute: Dispute) -> tuple[Work, Instruction | None]:
    """This node's own execution: of the whole bundle if it has one, else of the tasks in question."""
    assert dispute.bundle is not None
    assert dispute.question is not None
    whole = state.own.work.get(dispute.key)
    if whole is not None and whole.status is WorkStatus.DONE and whole.job_id == dispute.bundle.job_id:
        return whole, None
    seated = tuple(dispute.table.members[row].operator_id for row, _ in dispute.record.votes)
    tasks = dispute.question.tasks
    key = (*dispute.key, dispute.id) if tasks else dispute.key
    return ensure_work(state, key, dispute.bundle, seated, tasks)


def _choose(state: State, dispute: Dispute, work: Work, mind: Mind) -> Answer:
    """None while there is time for a result."""
    if work.status is WorkStatus.DONE:
        assert dispute.question is not None
        root = work.root or Vote(bytes(32))
        return mind.choose_answer(dispute, compute_answer(dispute.question, root, work.leaves))
    is_over = work.status is not WorkStatus.RUNNING and work.retry_at is None
    period = state.network.params.vote_commit_period
    is_last_call = state.chain.head.timestamp >= dispute.since + period - min(ABSTAIN_S, period // 2)
    # An abstention does not stand: whoever gets a result later votes in the next window.
    return work.abstention if is_over or is_last_call else None


def _decide_send(state: State, dispute: Dispute, group: SecretGroup) -> Iterator[Instruction]:
    waited = _wait(state, ("vote-since", dispute.id, dispute.window))
    period = state.network.params.vote_commit_period
    if waited >= min(max(ALONE_S, period / ALONE_PART), period / 2):
        key = ("own-vote", dispute.id)
        if state.is_due(key, RETRY_S):
            yield CommitOwnVote(key, group, dispute.record_bytes, dispute.question_bytes)
    elif state.is_due(("vote", dispute.id, dispute.window), _resend_s(state, dispute, False)):
        yield SendVote(group, dispute.record.collator, _get_gatherers(state, dispute))


def _decide_open(state: State, dispute: Dispute, member: int, opening: Opening) -> Iterator[Instruction]:
    dispute.openings[member] = opening
    if state.is_due(("vote-opening", dispute.id, dispute.window), _resend_s(state, dispute, True)):
        gatherers = _get_gatherers(state, dispute)
        yield SendVoteOpening(dispute.id, member, opening, dispute.record.collator, gatherers, dispute.statement)
    # The chain must know an opening that nobody settles with: a window without a majority counts it as silence.
    is_urgent = is_past(state, dispute, 1) and _is_reveal_ending(state, dispute)
    key = ("reveal-votes", dispute.id, dispute.window)
    if is_urgent and member not in dispute.revealed and not is_past(state, dispute, 2) and state.is_due(key, RETRY_S):
        hidden = {m: o for m, o in dispute.openings.items() if m in dispute.committed and m not in dispute.revealed}
        plan = plan_reveal_votes(dispute.pages, hidden)
        if plan is not None:
            yield RevealVotes(key, dispute.id, dispute.record_bytes, dispute.question_bytes, plan)


def _resend_s(state: State, dispute: Dispute, is_opening: bool) -> float:
    """Seconds until a vote is sent again: where all have it they need time, not more mail."""
    return TAKEN_S if (dispute.statement, is_opening) in state.own.taken else RESEND_S


def _is_reveal_ending(state: State, dispute: Dispute) -> bool:
    params = state.network.params
    return state.chain.head.timestamp >= dispute.since + params.vote_commit_period + params.vote_reveal_period // 2


# bringing votes to the chain ----------------------------------------------------------------------------------------


def _get_gatherers(state: State, dispute: Dispute) -> tuple[int, ...]:
    others = get_settlers(state, dispute.id, dispute.window)
    return tuple(each for each in others if each != state.identity.operator_id)


def _turn(state: State, dispute: Dispute) -> int:
    """This node's place among those who do what anybody may: the collator first, then by rank."""
    if dispute.record.collator == state.identity.account:
        return 0
    return 1 + compute_rank(state, dispute.id, dispute.window)


def _decide_gather(state: State, dispute: Dispute) -> Iterator[Instruction]:
    """Votes go on chain in one page if they come together, else with what came within a second."""
    place = None if is_past(state, dispute, 1) else _gathering_place(state, dispute)
    if place is None:
        return
    waiting = {m: row for m, row in dispute.mail.items() if m not in dispute.committed and m not in dispute.voted}
    if not waiting:
        return
    spoken = len(waiting) + len(dispute.committed) + len(dispute.voted)
    waited = _wait(state, ("votes-since", dispute.id, dispute.window, len(dispute.pages)))
    # Results come one by one: in a long window a page for each of them would be dear.
    patience = max(GATHER_S, state.network.params.vote_commit_period / GATHER_PART) + place * GATHER_STEP_S
    is_time = (place == 0 and spoken >= len(dispute.table.members)) or waited >= patience
    key = ("commit-votes", dispute.id)
    if is_time and state.is_due(key, GATHER_S):
        lists = encode_vote_lists([waiting[member] for member in sorted(waiting)])
        yield CommitVotes(key, dispute.id, dispute.record_bytes, dispute.question_bytes, lists)


def _gathering_place(state: State, dispute: Dispute) -> int | None:
    if dispute.record.collator == state.identity.account:
        return 0
    gatherers = get_settlers(state, dispute.id, dispute.window)
    mine, has_collator = state.identity.operator_id, any(dispute.record.collator)
    return gatherers.index(mine) + has_collator if mine in gatherers else None


def _decide_settle(state: State, dispute: Dispute) -> Iterator[Instruction]:
    assert dispute.question is not None
    # Every operator of a farm comes here in every tick for every dispute: what is dear is looked at last.
    if not is_openable(state, dispute):
        return
    is_complete = len(dispute.openings) + dispute.abstained >= len(dispute.committed)
    if not is_complete and not is_past(state, dispute, 2):
        return
    openings = {m: o for m, o in dispute.openings.items() if m in dispute.committed}
    is_complete = len(openings) + dispute.abstained == len(dispute.committed)
    if not (is_complete or is_past(state, dispute, 3) or _is_decided(dispute, openings)):
        return
    waited = _wait(state, ("settle-since", dispute.id, dispute.window, is_complete))
    key = ("settle-votes", dispute.id)
    if waited >= _turn(state, dispute) * RANK_BLOCKS and state.is_due(key, DIRECT_RETRY_S):
        rows = min(len(dispute.table.members), PUNISHED_ROWS)
        planned = plan_vote_settlement(dispute.question, dispute.cast, dispute.pages, openings, rows)
        yield SettleVotes(key, dispute.id, dispute.record_bytes, dispute.question_bytes, planned)


def _is_decided(dispute: Dispute, openings: Mapping[int, Opening]) -> bool:
    votes = {member: opening.vote for member, opening in openings.items()}
    return find_winner(dispute.table, {**dispute.voted, **votes}) is not None


def _decide_punish(state: State, dispute: Dispute) -> Iterator[Instruction]:
    """Page by page: one call for a thousand members would not fit a transaction."""
    waited = _wait(state, ("punish-since", dispute.id, dispute.row))
    key = ("punish", dispute.id, dispute.row)
    if waited >= _turn(state, dispute) * RANK_BLOCKS and state.is_due(key, GATHER_S):
        yield Punish(
            key, dispute.id, dispute.record_bytes, dispute.tally, min(dispute.row + PUNISHED_ROWS, len(dispute.tally))
        )


def _wait(state: State, key: tuple[object, ...]) -> float:
    """Seconds since this was asked first."""
    return state.now - state.asked.setdefault(key, state.now)
