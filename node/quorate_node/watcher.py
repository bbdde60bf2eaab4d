"""Reading the chain: new blocks become stimuli, a changed past is noticed by parent hashes.

`poll` blocks and is called from one thread at a time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from quorate.chain.gateway import ChainGateway
from quorate.chain.types import BlockHead, LoggedEvent
from quorate.protocol import events
from quorate.protocol.dispute_pages import decode_dispute_record
from quorate.protocol.types import Table
from quorate_node.core.chainview import is_followed
from quorate_node.core.stimuli import ChainAdvanced, ChainReorganised, Logged
from quorate_node.core.views import Head

TIMED = (
    events.RoundStarted,
    events.BatchOpened,
    events.ClassCreated,
    events.DisputeOpened,
    events.QuestionAsked,
    events.VoteWindowOpened,
    events.AuditDrawn,
)
"""Events whose block's time matters."""
TIMED_LIVE = (events.OperatorFined, events.Credited)
"""Events whose block's time matters while we watch: of the past it is not worth reading so many blocks."""
SAFE_BLOCKS = 64
"""Blocks that a reorganisation is not expected to undo; if one does, all events are read again."""
PRUNE_EVENTS = 10_000


class ChainWatcher:
    """Follows one deployment from its first block; `head` is the last block that was handed out, `spacing_s` the
    seconds between the last two that were seen, by this host's clock.

    Events that a reorganisation cannot undo any more are kept, so that only the blocks behind them are read again.
    Of each class that `wants_class` names, or that one of the operators `own` has joined, the newest table is read: of
    all of them it would be more reads the more classes others have.
    """

    def __init__(
        self, gateway: ChainGateway, wants_class: Callable[[int], bool] = lambda _: True, own: Collection[int] = ()
    ) -> None:
        self._gateway, self._wants_class, self._own = gateway, wants_class, frozenset(own)
        self._joined = set[int]()
        self.head: BlockHead | None = None
        self.spacing_s = 0.0
        self._seen_at: float | None = None
        self._kept = _Kept()

    def poll(self) -> list[ChainAdvanced | ChainReorganised]:
        """What has happened since the last call. Raises ChainUnavailable, after which it may be called again."""
        head, last = self._gateway.head(), self.head
        if last is not None and head.hash == last.hash:
            return []
        found: list[ChainAdvanced | ChainReorganised] = []
        known: list[Logged] = []
        first = self._gateway.deployment.block if last is None else last.number + 1
        if last is not None and not self._follows(last, head):
            # Told as if everything came again: a partial repair of the view would have to be right in every corner.
            found.append(ChainReorganised())
            self._gateway.forget()
            first, known = self._find_common(head)
        timed = TIMED if last is None or found else (*TIMED, *TIMED_LIVE)
        rows = self._time(head, self._gateway.events(first, head.number), timed)
        if first <= head.number:
            self._kept.add(first, head, rows)
        if last is None or found:
            rows = drop_finished([*known, *rows], head.timestamp)
        found.append(self._tell(head, rows))
        self._note_spacing(head)
        self.head = head
        return found

    def _note_spacing(self, head: BlockHead) -> None:
        now = time.monotonic()
        if self.head is not None and self._seen_at is not None and head.number > self.head.number:
            self.spacing_s = (now - self._seen_at) / (head.number - self.head.number)
        self._seen_at = now

    def _find_common(self, head: BlockHead) -> tuple[int, list[Logged]]:
        """First block to read again, and the events before it, which are still those of the chain."""
        safe = self._kept.safe
        if safe is not None and safe.number <= head.number and self._gateway.block(safe.number).hash == safe.hash:
            return safe.number + 1, self._kept.rewind()
        self._kept = _Kept()
        return self._gateway.deployment.block, []

    def _follows(self, last: BlockHead, head: BlockHead) -> bool:
        if head.number <= last.number:
            return False
        if head.number == last.number + 1:
            return head.parent_hash == last.hash
        return self._gateway.block(last.number).hash == last.hash

    def _time(self, head: BlockHead, logged: Sequence[LoggedEvent], timed: tuple[type, ...]) -> list[Logged]:
        times = {head.number: head.timestamp}
        for each in logged:
            if isinstance(each.event, timed) and each.block_number not in times:
                times[each.block_number] = self._gateway.block(each.block_number).timestamp
        return [Logged(e.event, e.block_number, times.get(e.block_number, 0)) for e in logged]

    def _tell(self, head: BlockHead, rows: Sequence[Logged]) -> ChainAdvanced:
        found = [each.event for each in rows]
        self._joined |= {e.class_id for e in found if isinstance(e, events.ClassJoined) and e.operator_id in self._own}
        wanted = find_tables(found, lambda class_id: class_id in self._joined or self._wants_class(class_id))
        tables = {key: self._read_table(*key) for key in wanted}
        return ChainAdvanced(Head(head.number, head.timestamp), tuple(rows), tables)

    def _read_table(self, class_id: int, number: int) -> Table:
        # Number 0 is the empty table that every class begins with.
        return self._gateway.table(class_id, number) if number else Table((), ())


def find_tables(
    found: Iterable[events.Event], wants_class: Callable[[int], bool] = lambda _: True
) -> set[tuple[int, int]]:
    """(class, number) of the tables that events need: of batches and disputes, and the newest of each class wanted."""
    needed: set[tuple[int, int]] = set()
    newest: dict[int, int] = {}
    for event in found:
        if isinstance(event, events.BatchOpened):
            needed.add((event.class_id, event.table))
        elif isinstance(event, events.DisputeOpened):
            record = decode_dispute_record(event.record)
            needed.add((record.class_id, record.table))
        elif isinstance(event, events.EraAdvanced) and wants_class(event.class_id):
            newest[event.class_id] = event.table
    return needed | set(newest.items())


def drop_finished(logged: Sequence[Logged], now: int) -> list[Logged]:
    """Leave out events of batches that are final and not in dispute: who starts late need not replay them.

    `now` is the head's time in unix seconds.
    """
    final_at = {e.event.batch_id: e.event.final_at for e in logged if isinstance(e.event, events.BatchSettled)}
    closed = {e.event.dispute_id for e in logged if isinstance(e.event, events.DisputeSettled)}
    disputes = [e.event for e in logged if isinstance(e.event, events.DisputeOpened)]
    final = {batch_id for batch_id, at in final_at.items() if at <= now}
    final -= {event.batch_id for event in disputes if event.dispute_id not in closed}
    return [
        each
        for each in logged
        if getattr(each.event, "batch_id", None) not in final and getattr(each.event, "dispute_id", None) not in closed
    ]


class _Kept:
    """Events by block, and the block before which they are settled for good."""

    def __init__(self) -> None:
        self.safe: BlockHead | None = None
        self._old: list[Logged] = []
        self._heads: deque[BlockHead] = deque()
        self._recent: deque[Logged] = deque()
        self._prune_at = PRUNE_EVENTS

    def add(self, first: int, head: BlockHead, rows: Sequence[Logged]) -> None:
        """Blocks `first` to `head` were read."""
        self._heads.append(head)
        self._recent.extend(each for each in rows if is_followed(each.event))
        while len(self._heads) > 1 and self._heads[0].number <= head.number - SAFE_BLOCKS:
            self.safe = self._heads.popleft()
        while self.safe is not None and self._recent and self._recent[0].block <= self.safe.number:
            self._old.append(self._recent.popleft())
        if len(self._old) > self._prune_at:
            self._old = drop_finished(self._old, head.timestamp)
            self._prune_at = 2 * len(self._old) + PRUNE_EVENTS

    def rewind(self) -> list[Logged]:
        """Forget what is behind the safe block; events up to it."""
        self._heads.clear()
        self._recent.clear()
        return list(self._old)
