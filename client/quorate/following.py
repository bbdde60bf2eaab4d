"""Following a job along a chain whose newest blocks may change."""

from __future__ import annotations

from collections.abc import Iterator

from quorate.chain.gateway import ChainGateway
from quorate.chain.types import BlockHead
from quorate.jobs import JobRecord
from quorate.progress import JobProgress, JobStage
from quorate.tracking import JobTracker

REORG_BLOCKS = 64
"""A chain that lost its newest blocks may have our order in a block below the one that we signed it at."""


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
