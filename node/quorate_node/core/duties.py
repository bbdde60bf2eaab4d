"""What any node does unasked, so that nothing waits for one party: beacons, eras, abandoned batches, late settlements.

Everybody sees the same duty at once, so each waits by its rank, another one for each duty: one acts, the next follows
two blocks later if nothing happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.paging import compute_fitting_bundles
from quorate.protocol.params import BEACON_REACH_BLOCKS
from quorate.protocol.planning import plan_settlement, plan_void_settlement
from quorate_node.core.instructions import AdvanceEra, Expire, Instruction, Judge, ProveBeacon, Rejoin, Settle
from quorate_node.core.rounds import get_page_records, get_round_view, get_window_end, is_window_past
from quorate_node.core.state import State
from quorate_node.core.views import Batch, Round

RETRY_S = 4.0
SELDOM_S = 30.0
RANK_BLOCKS = 2
PATIENCE_BLOCKS = 8  # what a collator gets before others do its duty
MAX_RANK = 60
SETTLERS = 3


def compute_rank(state: State, *subject: int) -> int:
    """This node's turn for a duty: 0 acts first."""
    count = max(len(state.chain.operators), 1)
    return min((state.identity.operator_id - 1 - _seed(*subject)) % count, MAX_RANK)


def get_settlers(state: State, *subject: int) -> tuple[int, ...]:
    """Operators of the first ranks."""
    return _first_ranks(max(len(state.chain.operators), 1), *subject)


@lru_cache(maxsize=1 << 12)
def _first_ranks(count: int, *subject: int) -> tuple[int, ...]:
    return tuple((_seed(*subject) + rank) % count + 1 for rank in range(min(SETTLERS, count)))


@lru_cache(maxsize=1 << 12)
def _seed(*subject: int) -> int:
    return int.from_bytes(keccak(repr(subject).encode())[:8], "big")


def _patience(state: State, is_mine: bool, *subject: int) -> int:
    """Blocks that this node lets pass before it does a duty."""
    return 0 if is_mine else PATIENCE_BLOCKS + RANK_BLOCKS * compute_rank(state, *subject)


def decide_duties(state: State) -> Iterator[Instruction]:
    """All that is due and not done."""
    for batch in state.chain.batches.values():
        is_mine = batch.collator == state.identity.account
        match batch.status:
            case BatchStatus.POSTING:
                yield from _decide_posting(state, batch)
            case BatchStatus.AWAITING if batch.round is not None:
                yield from _decide_awaiting(state, batch, batch.round, is_mine)
            case BatchStatus.ASSIGNED if batch.round is not None:
                yield from _decide_late(state, batch, batch.round, is_mine)
            case BatchStatus.VOIDED:
                yield from _decide_void(state, batch, is_mine)
            case _:
                pass
    yield from _decide_eras(state)
    yield from _decide_judging(state)
    yield from _decide_rejoin(state)


def _decide_posting(state: State, batch: Batch) -> Iterator[Instruction]:
    key, head = ("expire", batch.id), state.chain.head
    wait = _patience(state, False, batch.id)  # in seconds here: how many blocks have passed since is not known
    if head.timestamp >= batch.opened_at + state.network.params.post_period + wait and state.is_due(key, RETRY_S):
        yield Expire(key, batch.id)


def _decide_awaiting(state: State, batch: Batch, current: Round, is_mine: bool) -> Iterator[Instruction]:
    age = state.chain.head.number - current.beacon_block
    wait = _patience(state, is_mine, batch.id, current.number)
    if age > BEACON_REACH_BLOCKS:
        key: tuple[object, ...] = ("expire", batch.id, current.number)
        if age > BEACON_REACH_BLOCKS + wait and state.is_due(key, RETRY_S):
            yield Expire(key, batch.id)
    elif current.header and age >= wait:
        key = ("beacon", batch.id, current.number)
        if state.is_due(key, RETRY_S):
            yield ProveBeacon(key, batch.id, current.header)


def doubt_header(state: State, batch_id: int) -> None:
    """The chain did not take a beacon: somebody was faster, or our header is of blocks that are undone."""
    batch = state.chain.batches.get(batch_id)
    if batch is not None and batch.round is not None and batch.status is BatchStatus.AWAITING:
        batch.round.is_doubted = True


def _decide_late(state: State, batch: Batch, current: Round, is_mine: bool) -> Iterator[Instruction]:
    """After window 4 anybody settles with the openings that it knows."""
    head, network = state.chain.head, state.network
    end = get_window_end(batch, network, 4)
    if end is None or not is_window_past(batch, network, 4, head.timestamp, head.number):
        return
    # Blocks since window 4 are not known, seconds are: at most one block a second counts as waiting.
    waited = min(head.number - end[1], head.timestamp - end[0])
    if waited >= _patience(state, is_mine, batch.id) and state.is_due(("late", batch.id, current.number), RETRY_S):
        for settle in plan_settlements(state, batch, current, is_late=True):
            if state.is_due(settle.key, RETRY_S):
                yield settle


def _decide_void(state: State, batch: Batch, is_mine: bool) -> Iterator[Instruction]:
    waited = state.now - state.asked.setdefault(("voided", batch.id), state.now)
    if waited < _patience(state, is_mine, batch.id):
        return
    for index, bundles in enumerate(batch.page_bundles):
        key = ("settle", batch.id, "void", index)
        if batch.pending.intersection(bundles) and state.is_due(key, RETRY_S):
            yield Settle(key, batch.id, plan_void_settlement(batch.pages, index))


def plan_settlements(state: State, batch: Batch, current: Round, is_late: bool) -> Iterator[Settle]:
    """Settle calls for the pages that have something to settle."""
    view = get_round_view(batch, current, state.network)
    limit = compute_fitting_bundles(batch.terms.seats, batch.terms.rounds)
    for index, bundles in enumerate(batch.page_bundles):
        if batch.pending.intersection(bundles):
            planned = plan_settlement(view, index, get_page_records(batch, current, index), is_late, limit)
            if planned is not None:
                yield Settle(("settle", batch.id, current.number, index), batch.id, planned.settlement)


def _decide_eras(state: State) -> Iterator[Instruction]:
    head = state.chain.head
    for class_id in state.settings.classes:
        view = state.chain.classes.get(class_id)
        if view is None or head.timestamp < view.era_end:
            continue
        # An overdue era stops posting, so a collator goes first.
        is_mine = state.settings.is_collator
        wait = 0 if is_mine else 2 + RANK_BLOCKS * compute_rank(state, class_id, view.era_end)
        key = ("era", class_id, view.era_end)
        if head.timestamp >= view.era_end + wait and state.is_due(key, RETRY_S):
            yield AdvanceEra(key, class_id)


def _decide_judging(state: State) -> Iterator[Instruction]:
    """Whoever failed too often in a past era is jailed as soon as somebody says so."""
    timestamp, period = state.chain.head.timestamp, state.network.params.era_period
    for operator_id, operator in state.chain.operators.items():
        faults = operator.faults
        if faults is None or not faults.is_faulty or timestamp < (faults.era + 1) * period:
            continue
        wait = 2 + RANK_BLOCKS * compute_rank(state, operator_id, faults.era)
        key = ("judge", operator_id, faults.era)
        if timestamp >= (faults.era + 1) * period + wait and state.is_due(key, SELDOM_S):
            yield Judge(key, operator_id)


def _decide_rejoin(state: State) -> Iterator[Instruction]:
    me = state.chain.operators.get(state.identity.operator_id)
    if me is None or not me.jailed_until or state.chain.head.timestamp < me.jailed_until:
        return
    key = ("rejoin", state.identity.operator_id, me.jailed_until)
    if state.is_due(key, SELDOM_S):
        yield Rejoin(key)
