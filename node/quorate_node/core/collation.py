"""What a collator decides: which orders make a batch, which lists a commit page, when to settle. And what it takes.

A collator can delay, never decide: everything here is checked again by the contracts. The checks of mail exist so that
one bad list never makes the chain skip the good ones beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from quorate.protocol.encoding import encode_commit_lists
from quorate.protocol.job import BatchStatus
from quorate.protocol.paging import PAGE_GAS, SEAT_GAS, split_orders
from quorate.protocol.params import Params
from quorate.protocol.settlement import compute_needed_period
from quorate.protocol.types import CommitList, JobOrder, SignedOrder, Terms
from quorate_node.core.duties import plan_settlements
from quorate_node.core.instructions import Commit, Extend, Instruction, Post
from quorate_node.core.proofs import build_proof
from quorate_node.core.rounds import get_last_call, get_missing_seats, get_window_end, is_abstention, is_window_past
from quorate_node.core.state import QueuedOrders, State
from quorate_node.core.views import Batch, Round, SeatKey

BATCH_S = 0.3  # how long an order waits for others
LONGEST_BATCH_S = 3.0  # and while an earlier batch waits for its block
MAX_ORDERS = 1000
MAX_ATTEMPTS = 5
GATHER_S = 0.5  # how long complete bundles wait for the rest of their batch
SETTLE_S = 0.5
PERIODS_S = (2, 3, 5, 8, 12, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 1800, 3600)


def decide_collation(state: State) -> Iterator[Instruction]:
    """All that is due as a collator."""
    yield from _decide_posts(state)
    yield from _decide_extensions(state)
    for batch in state.chain.batches.values():
        current = batch.round
        if batch.collator != state.identity.account or batch.status is not BatchStatus.ASSIGNED or current is None:
            continue
        if current.domain is not None:
            yield from _decide_commit(state, batch, current, current.domain)
        yield from _decide_settle(state, batch, current)


# orders -------------------------------------------------------------------------------------------------------------


def compute_terms(order: JobOrder, params: Params, fee_wei: int) -> Terms:
    """Terms of the batch that an order goes into: few different commit periods, so that batches are shared."""
    needed = compute_needed_period(
        order.task_count, order.fuel_limit, order.input_bytes, params.reference_fuel_rate, params.reference_byte_rate
    )
    granted = min(order.commit_period, params.max_commit_period)
    fitting = [period for period in PERIODS_S if max(needed, 1) <= period <= granted]
    return Terms(order.class_id, order.seats, order.rounds, max(fitting, default=granted), fee_wei)


def queue_orders(state: State, orders: Iterable[SignedOrder]) -> None:
    """Put orders into the queue of their terms."""
    for signed in orders:
        terms = compute_terms(signed.order, state.network.params, state.settings.fee_wei)
        queued = state.mail.queue.setdefault(terms, QueuedOrders(terms, state.now))
        queued.orders.append(signed)


def count_queued(state: State) -> int:
    """Orders that wait for a batch or for its transaction."""
    waiting = (*state.mail.queue.values(), *state.mail.posting.values())
    return sum(len(each.orders) for each in waiting)


def _decide_posts(state: State) -> Iterator[Instruction]:
    for terms, queued in list(state.mail.queue.items()):
        view = state.chain.classes.get(terms.class_id)
        if view is None or state.chain.head.timestamp >= view.era_end:
            continue  # the era is overdue: advancing it comes first
        # While a batch of these terms waits for its block, more orders can share the next one: each costs all nodes.
        is_posting = any(each.terms == terms for each in state.mail.posting.values())
        wait_s = LONGEST_BATCH_S if is_posting else BATCH_S
        if state.now < queued.since + wait_s and len(queued.orders) < MAX_ORDERS:
            continue
        taken, rest = _split(state, queued.orders)
        del state.mail.queue[terms]
        if rest:
            state.mail.queue[terms] = QueuedOrders(terms, queued.since, rest)
        state.mail.posts += 1
        key = ("post", -state.mail.posts)
        state.mail.posting[key] = QueuedOrders(terms, queued.since, taken, queued.attempts)
        # Neighbours of one requester share a group of the page.
        taken.sort(key=lambda signed: (signed.order.requester, signed.order.nonce))
        yield Post(key, terms, tuple(taken))


def _decide_extensions(state: State) -> Iterator[Instruction]:
    """Each is tried once: the requester hears of it from the chain, and may ask again."""
    queue, state.mail.extensions = state.mail.extensions, []
    for each in queue:
        batch = state.chain.batches.get(each.batch_id)
        proof = build_proof(batch, each.bundles[0]) if batch else None
        if proof is not None:
            yield Extend(("extend", each.batch_id, each.bundles), each, proof)


def _split(state: State, orders: Sequence[SignedOrder]) -> tuple[list[SignedOrder], list[SignedOrder]]:
    """What fits a transaction, and the rest."""
    pages = split_orders(orders[:MAX_ORDERS])
    if len(pages) > 1:
        bundles = (each for batch in state.chain.batches.values() for each in batch.bundles.values())
        pages = split_orders(orders[:MAX_ORDERS], {bundle.order.requester for bundle in bundles})
    return pages[0], list(orders[len(pages[0]) :])


def end_call(state: State, key: tuple[object, ...], error: str | None) -> None:
    """A transaction came to its end: what it carried is done with, or goes again."""
    posted = state.mail.posting.pop(key, None)
    if error is None:
        return
    if posted is not None:
        if posted.attempts + 1 < MAX_ATTEMPTS:
            again = state.mail.queue.setdefault(posted.terms, QueuedOrders(posted.terms, state.now))
            again.orders = [*posted.orders, *again.orders]
            again.since, again.attempts = state.now + posted.attempts, posted.attempts + 1
        else:
            state.notes.append(f"{len(posted.orders)} orders were dropped after {MAX_ATTEMPTS} attempts: {error}")
    elif key[0] == "commit" and isinstance(key[2], bytes):
        state.mail.sent.pop(key[2], None)
    elif key[0] == "settle" and isinstance(key[1], int):
        state.mail.planned.pop(key[1], None)
    elif key[0] == "challenge":
        for known in [known for known in state.own.challenged if known == key[1:4]]:
            del state.own.challenged[known]


# commitments --------------------------------------------------------------------------------------------------------


def _decide_commit(state: State, batch: Batch, current: Round, domain: bytes) -> Iterator[Instruction]:
    head = state.chain.head
    # What comes late still costs its operator less if it need not go alone.
    if is_window_past(batch, state.network, 2, head.timestamp, head.number):
        return
    sent = state.mail.sent.setdefault(domain, set())
    fresh = [each for each in state.mail.lists.get(domain, ()) if each.signature not in sent]
    fresh = [each for each in fresh if not any((i.bundle, i.seat) in current.committed for i in each.items)]
    if not fresh or not _is_time_to_commit(state, batch, domain, fresh):
        return
    key = ("commit", batch.id, domain)
    if state.is_due(key, GATHER_S):
        fresh = _fit(fresh)
        sent.update(each.signature for each in fresh)
        state.mail.first_at.pop(domain, None)
        yield Commit(key, batch.id, 0, len(batch.bundles), encode_commit_lists(fresh))


def _fit(lists: Sequence[CommitList]) -> list[CommitList]:
    """The first lists, as many as a transaction takes; at least one."""
    taken, gas = list(lists[:1]), sum(SEAT_GAS * (1 + len(each.items)) for each in lists[:1])
    for each in lists[1:]:
        gas += SEAT_GAS * (1 + len(each.items))
        if gas > PAGE_GAS:
            break
        taken.append(each)
    return taken


def _is_time_to_commit(state: State, batch: Batch, domain: bytes, fresh: Sequence[CommitList]) -> bool:
    here: set[SeatKey] = {(item.bundle, item.seat) for each in fresh for item in each.items}
    missing = {b: {(b, seat) for seat in get_missing_seats(batch, b)} for b in batch.pending}
    if all(seats <= here for seats in missing.values()):
        return True
    end = get_window_end(batch, state.network, 1)
    if end is not None and state.chain.head.timestamp >= end[0] - get_last_call(batch, state.network):
        return True
    is_complete = any(seats and seats <= here for seats in missing.values())
    return is_complete and state.now >= state.mail.first_at.setdefault(domain, state.now) + GATHER_S


def _decide_settle(state: State, batch: Batch, current: Round) -> Iterator[Instruction]:
    """Before window 4: what is opened or in conflict; at once when nothing is missing, else every half second."""
    known = current.number, len(current.openings), len(current.committed), len(batch.pending)
    since = ("planned", batch.id)
    is_sending = any(key[0] == "settle" and key[1] == batch.id for key in state.under_way)
    if is_sending or state.mail.planned.get(batch.id) == known:
        return
    abstained = sum(1 for commitment in current.committed.values() if is_abstention(commitment))
    is_whole = len(current.openings) + abstained >= len(current.committed) and not any(
        get_missing_seats(batch, bundle) for bundle in batch.pending
    )
    if not is_whole and state.now < state.asked.setdefault(since, state.now) + SETTLE_S:
        return
    state.asked.pop(since, None)
    settles = [
        each for each in plan_settlements(state, batch, current, is_late=False) if state.is_due(each.key, SETTLE_S)
    ]
    if settles or not is_whole:
        state.mail.planned[batch.id] = known
    yield from settles
