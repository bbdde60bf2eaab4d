"""What a node does for the seats that it was drawn for: execute, commit, open (sections 4.3 to 4.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from quorate.protocol.job import BatchStatus
from quorate.protocol.types import Opening, Stage, Vote
from quorate_node.core.chainview import get_committee, get_missing_seats, get_window_end, is_window_past
from quorate_node.core.duties import get_settlers
from quorate_node.core.instructions import (
    DraftVote,
    Execute,
    Instruction,
    JournalCommit,
    Note,
    ReadHeader,
    SendCommitments,
    SendOpenings,
)
from quorate_node.core.policy import compute_refusal
from quorate_node.core.state import Batch, Bundle, BundleKey, Round, SeatKey, State, Work, WorkStatus

READ_HEADER_S = 0.5
GROUP_S = 0.3  # a ready vote waits so long for others of its batch, to share their signature
RESEND_S = 3.0

ChooseVote = Callable[[BundleKey, Work, Stage], Vote]
"""What to vote, given the Merkle root that was computed: the root itself, unless a test's core lies."""


def decide_seats(state: State, choose_vote: ChooseVote) -> Iterator[Instruction]:
    """All that is due for bundles in rounds that run."""
    for batch in state.chain.batches.values():
        current = batch.round
        if current is None or batch.status not in (BatchStatus.AWAITING, BatchStatus.ASSIGNED):
            continue
        if current.domain is None:
            yield from _decide_header(state, batch, current)
            continue
        seats = get_own_seats(state, batch, current, current.domain)
        if seats:
            yield from _decide_commit(state, batch, current, current.domain, seats, choose_vote)
            yield from _decide_openings(state, batch, current, current.domain)


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


def _decide_commit(
    state: State, batch: Batch, current: Round, domain: bytes, seats: tuple[SeatKey, ...], choose_vote: ChooseVote
) -> Iterator[Instruction]:
    head, own = state.chain.head, state.own
    if is_window_past(batch, state.network, 1, head.timestamp, head.number):
        return
    sealed = {(s.bundle, s.seat) for group in own.groups.get(domain, ()) for s in group.secrets}
    ready, is_waiting = [], False
    for bundle, seat in seats:
        if (bundle, seat) in sealed or bundle not in batch.pending:
            continue
        work, start = ensure_work(state, (batch.id, bundle), batch.bundles[bundle], _find_helpers(batch, bundle))
        if start:
            yield start
        if work.status is WorkStatus.DONE:
            ready.append((bundle, seat, work))
        is_waiting = is_waiting or work.status is WorkStatus.RUNNING
    if ready and (domain, batch.id) not in own.journaling:
        since = own.ready_since.setdefault(domain, state.now)
        if not is_waiting or state.now >= since + GROUP_S:
            own.ready_since.pop(domain)
            yield _seal(state, batch, current.number, domain, ready, choose_vote)
    for index, group in enumerate(own.groups.get(domain, ())):
        is_on_chain = all((s.bundle, s.seat) in current.committed for s in group.secrets)
        if not is_on_chain and state.is_due(("commitments", batch.id, domain, index), RESEND_S):
            yield SendCommitments(group, batch.collator)


def _seal(
    state: State,
    batch: Batch,
    round_: int,
    domain: bytes,
    ready: list[tuple[int, int, Work]],
    choose_vote: ChooseVote,
) -> JournalCommit:
    """Votes that are ready become one group, for good: the chain skips lists that overlap."""
    state.own.journaling.add((domain, batch.id))
    member = batch.find_member(state.identity.operator_id)
    votes = tuple(
        DraftVote(bundle, seat, choose_vote((batch.id, bundle), work, Stage.BUNDLE), work.leaves)
        for bundle, seat, work in ready
    )
    return JournalCommit(Stage.BUNDLE, batch.id, round_, domain, member or 0, votes)


def _find_helpers(batch: Batch, bundle: int) -> tuple[int, ...]:
    """Operators that may hold the input: the seats of the bundle."""
    return tuple(batch.table.members[row].operator_id for row in get_committee(batch, bundle))


def ensure_work(
    state: State, key: BundleKey, bundle: Bundle, operators: tuple[int, ...]
) -> tuple[Work, Instruction | None]:
    """The work on a bundle, with the instruction that starts it when it is new."""
    own, order = state.own, bundle.order
    work = own.work.get(key)
    # After a reorganisation a batch's number may stand for other orders.
    if work is not None and (work.job_id, work.job_bundle) == (bundle.job_id, bundle.job_bundle):
        return work, None
    running = sum(1 for each in own.work.values() if each.status is WorkStatus.RUNNING)
    refusal = compute_refusal(order, state.settings.limits, running)
    if refusal is not None:
        own.work[key] = Work(bundle.job_id, bundle.job_bundle, WorkStatus.REFUSED, reason=refusal, since=state.now)
        state.notes.append(f"job 0x{bundle.job_id.hex()}: {refusal}")
        return own.work[key], Note(refusal, bundle.job_id)
    own.work[key] = Work(bundle.job_id, bundle.job_bundle, since=state.now)
    batch = state.chain.batches.get(key[0])
    collators = (batch.collator,) if batch else ()
    others = tuple(each for each in operators if each != state.identity.operator_id)
    start = Execute(key, bundle.job_id, order, bundle.job_bundle, collators, others, order.commit_period)
    return own.work[key], start


def is_openable(state: State, batch: Batch, bundle: int) -> bool:
    """Whether no vote of the bundle can still be chosen: every seat has committed, or window 2 is past."""
    head = state.chain.head
    if is_window_past(batch, state.network, 2, head.timestamp, head.number):
        return True
    return not get_missing_seats(batch, bundle)


def _decide_openings(state: State, batch: Batch, current: Round, domain: bytes) -> Iterator[Instruction]:
    settlers = _find_settlers(state, batch)
    found: list[tuple[SeatKey, Opening]] = []
    for group in state.own.groups.get(domain, ()):
        for secret in group.secrets:
            seat = (secret.bundle, secret.seat)
            if secret.bundle not in batch.pending or current.committed.get(seat) != secret.commitment:
                continue
            if not is_openable(state, batch, secret.bundle):
                continue
            opening = Opening(secret.vote, secret.salt)
            current.openings[seat] = opening
            if state.is_due(("opening", batch.id, domain, seat, bool(settlers)), RESEND_S):
                found.append((seat, opening))
    if found:
        yield SendOpenings(batch.id, current.number, tuple(found), batch.collator, settlers)


def _find_settlers(state: State, batch: Batch) -> tuple[int, ...]:
    """Operators that settle first when the collator does not; told halfway through its time."""
    end = get_window_end(batch, state.network, 2)
    if end is None or state.chain.head.timestamp < end[0] + state.network.params.settle_period // 2:
        return ()
    return tuple(each for each in get_settlers(state, batch.id) if each != state.identity.operator_id)
