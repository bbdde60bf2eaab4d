"""What a node does for the seats that it was drawn for: execute, commit, open (sections 4.3 to 4.6).

A seat without a result says why in time: silence costs twice as much, and counts as a fault. What the collator leaves
out goes to the chain without it: the signed list between T1 and T2, openings between T3 and T4.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.protocol.job import BatchStatus
from quorate.protocol.planning import plan_reveals
from quorate.protocol.types import AbstainReason, Opening, Stage
from quorate_node.core.duties import get_settlers
from quorate_node.core.instructions import (
    CommitOwn,
    DraftVote,
    Instruction,
    JournalCommit,
    ReadHeader,
    Reveal,
    SendCommitments,
    SendOpenings,
)
from quorate_node.core.mind import Answer, Mind
from quorate_node.core.rounds import (
    get_committee,
    get_last_call,
    get_missing_seats,
    get_round_view,
    get_window_end,
    is_abstention,
    is_window_past,
)
from quorate_node.core.state import Secret, SecretGroup, State, Work, WorkStatus
from quorate_node.core.views import Batch, Round, SeatKey
from quorate_node.core.work import ensure_work

READ_HEADER_S = 0.5
GROUP_S = 0.3  # a ready vote waits so long for others of its batch, to share their signature
RESEND_S = 3.0
DIRECT_RETRY_S = 1.5
ABSTAIN_S = 2  # who has no result says so that much before the collator's last call


def decide_seats(state: State, mind: Mind) -> Iterator[Instruction]:
    """All that is due for bundles in rounds that run."""
    for batch in state.chain.batches.values():
        current = batch.round
        if current is None or batch.status not in (BatchStatus.AWAITING, BatchStatus.ASSIGNED):
            continue
        if current.domain is None or current.is_doubted:
            yield from _decide_header(state, batch, current)
        if current.domain is None:
            continue
        seats = get_own_seats(state, batch, current, current.domain)
        if seats:
            yield from _decide_votes(state, batch, current, current.domain, seats, mind)
            yield from _decide_send(state, batch, current, current.domain)
            yield from _decide_openings(state, batch, current, current.domain, mind)


def _decide_header(state: State, batch: Batch, current: Round) -> Iterator[Instruction]:
    is_mined = state.chain.head.number >= current.beacon_block
    if is_mined and state.now >= current.header_asked_at + READ_HEADER_S:
        current.header_asked_at = state.now
        yield ReadHeader(batch.id, current.number, current.beacon_block)


def get_own_seats(state: State, batch: Batch, current: Round, domain: bytes) -> tuple[SeatKey, ...]:
    """Seats of this node in the present round; those of a bundle on which it voted before need nothing."""
    if domain not in state.own.seats:
        member = batch.find_member(state.identity.operator_id)
        state.own.seats[domain] = tuple(
            (bundle, seat)
            for bundle in (sorted(batch.pending) if member is not None else ())
            for seat, drawn in enumerate(get_committee(batch, bundle))
            if drawn == member and member not in batch.bundles[bundle].record.voters
        )
    return state.own.seats[domain]


def is_past(state: State, batch: Batch, window: int) -> bool:
    """Whether a window of the present round is past at the head."""
    head = state.chain.head
    return is_window_past(batch, state.network, window, head.timestamp, head.number)


# commitments --------------------------------------------------------------------------------------------------------


def _decide_votes(
    state: State, batch: Batch, current: Round, domain: bytes, seats: tuple[SeatKey, ...], mind: Mind
) -> Iterator[Instruction]:
    own, is_late = state.own, is_past(state, batch, 2)
    sealed = {(s.bundle, s.seat) for group in own.groups.get(domain, ()) for s in group.secrets}
    drafts: list[DraftVote] = []
    lost: list[DraftVote] = []
    is_last_call, is_waiting = _is_last_call(state, batch), False
    for bundle, seat in seats:
        stands = current.committed.get((bundle, seat))
        if (bundle, seat) in sealed or bundle not in batch.pending or (is_late and stands is None):
            continue
        if stands is not None and is_abstention(stands):
            continue
        work, start = ensure_work(state, (batch.id, bundle), batch.bundles[bundle], _find_helpers(batch, bundle))
        if start:
            yield start
        if stands is not None:  # a vote of ours that our journal has lost; the same result has the same salt
            if work.status is WorkStatus.DONE and domain not in own.journaling:
                lost += _draft(bundle, seat, work, _choose(batch, bundle, work, mind))
        elif not _is_settled(work) and not is_last_call:
            is_waiting = True
        elif domain not in own.journaling:
            drafts += _draft(bundle, seat, work, _choose(batch, bundle, work, mind))
    if state.now < own.journal_at:
        return
    if lost:  # a group of their own: a list with one of them in it would be skipped
        yield _seal(state, batch, current.number, domain, lost)
    elif drafts:
        since = own.ready_since.setdefault(domain, state.now)
        if not is_waiting or is_last_call or state.now >= since + GROUP_S:
            own.ready_since.pop(domain)
            yield _seal(state, batch, current.number, domain, drafts)


def _is_settled(work: Work) -> bool:
    """Whether there is a result, or there will be none."""
    return work.status is WorkStatus.DONE or (work.status is not WorkStatus.RUNNING and work.retry_at is None)


def _is_last_call(state: State, batch: Batch) -> bool:
    """Whether who has no result must say so now."""
    timestamp, direct = state.chain.head.timestamp, state.network.params.direct_period
    if not is_past(state, batch, 1):
        end = get_window_end(batch, state.network, 1)
        ahead = min(get_last_call(batch, state.network) + ABSTAIN_S, batch.terms.commit_period // 2)
        return end is not None and timestamp >= end[0] - ahead
    end = get_window_end(batch, state.network, 2)
    return end is not None and timestamp >= end[0] - max(direct // 2, 1)


def _choose(batch: Batch, bundle: int, work: Work, mind: Mind) -> Answer:
    if work.status is WorkStatus.DONE:
        return mind.choose_vote((batch.id, bundle), work, Stage.BUNDLE)
    return work.abstention


def _draft(bundle: int, seat: int, work: Work, answer: Answer) -> list[DraftVote]:
    if answer is None:
        return []
    if isinstance(answer, AbstainReason):
        return [DraftVote(bundle, seat, None, reason=answer)]
    return [DraftVote(bundle, seat, answer, work.leaves)]


def _seal(state: State, batch: Batch, round_: int, domain: bytes, drafts: list[DraftVote]) -> JournalCommit:
    """Votes that are ready become one group, for good: the chain skips lists that overlap."""
    state.own.journaling.add(domain)
    member = batch.find_member(state.identity.operator_id)
    return JournalCommit(Stage.BUNDLE, batch.id, round_, domain, member or 0, tuple(drafts))


def _find_helpers(batch: Batch, bundle: int) -> tuple[int, ...]:
    """Operators that may hold the input: the seats of the bundle."""
    return tuple(batch.table.members[row].operator_id for row in get_committee(batch, bundle))


def _decide_send(state: State, batch: Batch, current: Round, domain: bytes) -> Iterator[Instruction]:
    if is_past(state, batch, 2):
        return
    is_direct = _is_direct_time(state, batch)
    for index, group in enumerate(state.own.groups.get(domain, ())):
        if all((s.bundle, s.seat) in current.committed or s.bundle not in batch.pending for s in group.secrets):
            continue
        if not is_direct and state.is_due(("commitments", batch.id, domain, index), RESEND_S):
            yield SendCommitments(group, batch.collator)
        key = ("own-commit", batch.id, domain, index)
        if is_direct and state.is_due(key, DIRECT_RETRY_S):
            yield CommitOwn(key, batch.id, len(batch.bundles), group)


def _is_direct_time(state: State, batch: Batch) -> bool:
    """Window 1 is past, and what the collator sent at its end had a moment to be mined."""
    end = get_window_end(batch, state.network, 1)
    moment = state.network.params.direct_period // 4
    return end is not None and is_past(state, batch, 1) and state.chain.head.timestamp >= end[0] + moment


# openings -----------------------------------------------------------------------------------------------------------


def is_openable(state: State, batch: Batch, current: Round, bundle: int) -> bool:
    """Whether no vote of the bundle can still be chosen: every seat has committed, or window 2 is past."""
    depth = state.chain.head.number - current.commit_block.get(bundle, 0)
    if depth < state.settings.reveal_depth:
        return False
    return is_past(state, batch, 2) or not get_missing_seats(batch, bundle)


def _decide_openings(state: State, batch: Batch, current: Round, domain: bytes, mind: Mind) -> Iterator[Instruction]:
    settlers = _find_settlers(state, batch)
    found: list[tuple[SeatKey, Opening]] = []
    for secret in _find_openable(state, batch, current, state.own.groups.get(domain, ()), mind):
        seat, opening = (secret.bundle, secret.seat), Opening(secret.vote, secret.salt)
        current.openings[seat] = opening
        if state.is_due(("opening", batch.id, domain, seat, bool(settlers)), RESEND_S):
            found.append((seat, opening))
    if found:
        yield SendOpenings(batch.id, current.number, domain, tuple(found), batch.collator, settlers)
    yield from _decide_reveal(state, batch, current, domain, mind)


def _find_openable(
    state: State, batch: Batch, current: Round, groups: list[SecretGroup] | tuple[()], mind: Mind
) -> Iterator[Secret]:
    for group in groups:
        for secret in group.secrets:
            is_due = secret.bundle in batch.pending and not secret.is_abstention and mind.shows(secret)
            stands = current.committed.get((secret.bundle, secret.seat)) == secret.commitment
            if is_due and stands and is_openable(state, batch, current, secret.bundle):
                yield secret


def _find_settlers(state: State, batch: Batch) -> tuple[int, ...]:
    """Operators that settle first when the collator does not; told halfway through its time."""
    end = get_window_end(batch, state.network, 2)
    if end is None or state.chain.head.timestamp < end[0] + state.network.params.settle_period // 2:
        return ()
    return tuple(each for each in get_settlers(state, batch.id) if each != state.identity.operator_id)


def _decide_reveal(state: State, batch: Batch, current: Round, domain: bytes, mind: Mind) -> Iterator[Instruction]:
    """Openings that the collator has not, or may leave out, go on chain before anybody can settle without them."""
    if not is_past(state, batch, 3) or is_past(state, batch, 4):
        return
    me = state.chain.operators.get(state.identity.operator_id)
    is_wary = me is not None and me.was_left_out
    wanted = set()
    for secret in _find_openable(state, batch, current, state.own.groups.get(domain, ()), mind):
        seat = (secret.bundle, secret.seat)
        is_safe = (domain, seat) in state.own.acknowledged or batch.collator == state.identity.account
        if seat not in current.revealed and (is_wary or not is_safe):
            wanted.add(seat)
    key = ("reveal", batch.id, current.number)
    if wanted and state.is_due(key, DIRECT_RETRY_S):
        for index, reveal in enumerate(plan_reveals(get_round_view(batch, current, state.network), wanted)):
            yield Reveal((*key, index), batch.id, reveal)
