"""Following a job along a chain whose newest blocks may change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from quorate.chain.gateway import ChainGateway
from quorate.chain.types import BlockHead
from quorate.jobs import JobBook, JobRecord
from quorate.progress import PASSING_SKIPS, JobProgress, JobStage
from quorate.protocol.types import JobId
from quorate.tracking import JobTracker

REORG_BLOCKS = 64
"""A chain that lost its newest blocks may have our order in a block below the one that we signed it at."""
SETTLED_S = 3600
"""Seconds after which a chain will hardly lose the blocks in which an order was not posted."""


def refresh_states(gateway: ChainGateway, book: JobBook) -> list[JobRecord]:
    """All jobs of a book with their states as the chain has them now, which the book keeps.

    Those of other deployments stay as they were last seen, and those that nothing can follow any more.
    """
    records, place = book.load_all(), (gateway.deployment.chain_id, gateway.deployment.market)
    asked = [each for each in records if (each.chain_id, each.market) == place and not each.is_closed]
    states = _read_states(gateway, asked)

    def note(record: JobRecord) -> JobRecord:
        state, is_closed = states.get(record.job_id, (record.state, record.is_closed))
        if (state, is_closed) == (record.state, record.is_closed):
            return record
        return book.update(book.load(record.job_id.hex()), state=state, is_closed=is_closed)

    return [note(record) for record in records]


def _read_states(gateway: ChainGateway, records: Sequence[JobRecord]) -> dict[JobId, tuple[str | None, bool]]:
    """The last step of each job, None where the chain has none, and whether nothing can follow it any more.

    The chain is read once for all of them. What its newest blocks say may still change, so it closes nothing.
    """
    trackers = {record.job_id: JobTracker(record.signed) for record in records}
    if not trackers:
        return {}
    head = gateway.head()
    for logged in gateway.events(min(record.from_block for record in records), head.number):
        for tracker in trackers.values():
            tracker.apply(logged)
    return {record.job_id: _tell_state(trackers[record.job_id], head, record.order.valid_until) for record in records}


def _tell_state(tracker: JobTracker, head: BlockHead, valid_until: int) -> tuple[str | None, bool]:
    tracker.finish(head.number, head.timestamp)
    if tracker.batch is None and tracker.stage is None and head.timestamp > valid_until:
        return JobStage.EXPIRED.value, head.timestamp > valid_until + SETTLED_S
    if tracker.stage is None:
        return None, False
    is_over = tracker.final_at is not None and head.timestamp >= tracker.final_at  # no extension either
    is_last = tracker.stage is JobStage.FINAL or (tracker.stage is JobStage.VOID and is_over)
    is_last |= tracker.stage is JobStage.SKIPPED and tracker.skip not in PASSING_SKIPS
    newest = max(step.block for step in tracker.history if step.transaction)
    return tracker.stage.value, is_last and newest + REORG_BLOCKS < head.number


class JobFollower:
    """Feeds a tracker with what happens. After a reorganisation the job's story is read again from its beginning."""

    def __init__(self, gateway: ChainGateway, record: JobRecord) -> None:
        self._gateway, self._record = gateway, record
        self.tracker = JobTracker(record.signed)
        self._last: BlockHead | None = None
        self._told: list[tuple[JobStage, int]] = []

    def read(self) -> BlockHead:
        """Take in all blocks up to the newest, which is returned."""
        head = self._gateway.head()
        if self._last is not None and self._is_undone(self._last, head):
            self._gateway.forget()
            self.tracker, self._last = JobTracker(self._record.signed), None
        first = self._record.from_block if self._last is None else self._last.number + 1
        for logged in self._gateway.events(first, head.number):
            self.tracker.apply(logged)
        self._last = head
        return head

    def track(self) -> JobTracker:
        """All that the chain says about the job now."""
        self.read()
        return self.tracker

    def untold(self) -> Iterator[JobProgress]:
        """Steps that were not told yet. After a reorganisation those are told that differ from what was told."""
        for index, step in enumerate(self.tracker.history):
            short = (step.stage, step.round)
            if self._told[index : index + 1] != [short]:
                self._told[index:] = [short]
                yield step

    def _is_undone(self, block: BlockHead, head: BlockHead) -> bool:
        """Whether a block that we had read is no longer part of the chain."""
        if head.number <= block.number:
            return head.hash != block.hash
        return self._gateway.block(block.number).hash != block.hash
