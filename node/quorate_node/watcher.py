"""Reading the chain: new blocks become stimuli, a changed past is noticed by parent hashes.

`poll` blocks and is called from one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from quorate.chain.gateway import ChainGateway
from quorate.chain.types import BlockHead, LoggedEvent
from quorate.protocol import events
from quorate.protocol.encoding import decode_dispute_record
from quorate.protocol.types import Table
from quorate_node.core.state import Head
from quorate_node.core.stimuli import ChainAdvanced, ChainReorganised, Logged

TIMED = (events.RoundStarted, events.BatchOpened, events.DisputeOpened, events.ClassCreated)
"""Events whose block's time matters."""


class ChainWatcher:
    """Follows one deployment from its first block; `head` is the last block that was handed out."""

    def __init__(self, gateway: ChainGateway) -> None:
        self._gateway = gateway
        self.head: BlockHead | None = None

    def poll(self) -> list[ChainAdvanced | ChainReorganised]:
        """What has happened since the last call. Raises ChainUnavailable, after which it may be called again."""
        head, last = self._gateway.head(), self.head
        if last is not None and head.hash == last.hash:
            return []
        found: list[ChainAdvanced | ChainReorganised] = []
        if last is not None and not self._follows(last, head):
            # Everything again: state is small, and a partial repair would have to be right in every corner.
            found.append(ChainReorganised())
            last = None
        first = self._gateway.deployment.block if last is None else last.number + 1
        logged = self._gateway.events(first, head.number)
        if last is None:
            logged = drop_finished(logged)
        found.append(self._advance(head, logged))
        self.head = head
        return found

    def _follows(self, last: BlockHead, head: BlockHead) -> bool:
        if head.number <= last.number:
            return False
        if head.number == last.number + 1:
            return head.parent_hash == last.hash
        return self._gateway.block(last.number).hash == last.hash

    def _advance(self, head: BlockHead, logged: Sequence[LoggedEvent]) -> ChainAdvanced:
        times = {head.number: head.timestamp}
        for each in logged:
            if isinstance(each.event, TIMED) and each.block_number not in times:
                times[each.block_number] = self._gateway.block(each.block_number).timestamp
        rows = tuple(Logged(e.event, e.block_number, times.get(e.block_number, 0)) for e in logged)
        tables = {key: self._read_table(*key) for key in find_tables(e.event for e in logged)}
        return ChainAdvanced(Head(head.number, head.timestamp), rows, tables)

    def _read_table(self, class_id: int, number: int) -> Table:
        # Number 0 is the empty table that every class begins with.
        return self._gateway.table(class_id, number) if number else Table((), ())


def find_tables(found: Iterable[events.Event]) -> set[tuple[int, int]]:
    """(class, number) of the tables that events need: of batches and disputes, and the newest of each class."""
    needed: set[tuple[int, int]] = set()
    newest: dict[int, int] = {}
    for event in found:
        if isinstance(event, events.BatchOpened):
            needed.add((event.class_id, event.table))
        elif isinstance(event, events.DisputeOpened):
            record = decode_dispute_record(event.record)
            needed.add((record.class_id, record.table))
        elif isinstance(event, events.EraAdvanced):
            newest[event.class_id] = event.table
    return needed | set(newest.items())


def drop_finished(logged: Sequence[LoggedEvent]) -> list[LoggedEvent]:
    """Leave out events of batches that are settled and not in dispute: a node that starts late need not replay them."""
    settled = {e.event.batch_id for e in logged if isinstance(e.event, events.BatchSettled)}
    closed = {e.event.dispute_id for e in logged if isinstance(e.event, events.DisputeSettled)}
    disputes = [e.event for e in logged if isinstance(e.event, events.DisputeOpened)]
    settled -= {event.batch_id for event in disputes if event.dispute_id not in closed}
    return [
        each
        for each in logged
        if getattr(each.event, "batch_id", None) not in settled
        and getattr(each.event, "dispute_id", None) not in closed
    ]
