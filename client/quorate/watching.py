"""Waiting for a job: its steps as they appear on the chain, and help for an order or a seat that got stuck."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from quorate.chain.gateway import ChainGateway
from quorate.chain.types import BlockHead
from quorate.delivery import send_hints
from quorate.following import JobFollower
from quorate.jobs import JobBook, JobRecord
from quorate.progress import PASSING_SKIPS, JobProgress, JobStage
from quorate.protocol.committee import compute_committee
from quorate.protocol.errors import RecoverableError, ValidationError
from quorate.tracking import JobTracker

TELL_S = 1.5
"""Seconds that seats may take before they are told who has the input."""
RESEND_S = 10.0
"""Seconds after which an order that is not on chain is handed to a collator again."""


class StillWaiting(RecoverableError):
    """A job did not end within the time that its caller had; it goes on."""


class JobWatch:
    """One wait for one job; `send_again(record, attempt)` hands its order to a collator once more."""

    def __init__(
        self, gateway: ChainGateway, book: JobBook, record: JobRecord, send_again: Callable[[JobRecord, int], None]
    ) -> None:
        self._gateway, self._book, self._record, self._send_again = gateway, book, record, send_again
        self._sent_at = self._assigned_at = time.monotonic()
        self._attempts = 0
        self._told = set[int]()

    def steps(self, *, timeout_s: float | None, poll_s: float, until_final: bool) -> Iterator[JobProgress]:
        """The job's steps until its end, see `QuorateClient.watch`. Raises StillWaiting."""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        follower, began = JobFollower(self._gateway, self._record), self._gateway.head().number
        while True:
            head = follower.read()
            tracker = follower.tracker
            self._help(tracker, head)
            if until_final:
                tracker.finish(head.number, head.timestamp)
            for step in follower.untold():
                yield self._note(step, is_live=step.block > began)
            if _is_over(tracker, until_final):
                return
            if time.monotonic() > deadline:
                job_id = self._record.job_id.hex()
                raise StillWaiting(f"job 0x{job_id} is not over yet: `quorate job wait` goes on")
            time.sleep(poll_s)

    def _help(self, tracker: JobTracker, head: BlockHead) -> None:
        """What can be done for an order that nobody posts, and for seats that do not commit."""
        if tracker.batch is None and head.timestamp > self._record.order.valid_until:
            tracker.expire(head.number)
        elif tracker.batch is None and time.monotonic() > self._sent_at + RESEND_S:
            self._sent_at, self._attempts = time.monotonic(), self._attempts + 1
            self._send_again(self._record, self._attempts)
        if tracker.stage is not JobStage.ASSIGNED or tracker.round in self._told:
            self._assigned_at = time.monotonic()
        elif time.monotonic() > self._assigned_at + TELL_S:
            self._told.add(tracker.round)
            self._tell_seats(tracker)

    def _tell_seats(self, tracker: JobTracker) -> None:
        """Seats that still wait may have nobody to ask for the input: they are told who has it."""
        batch, record = tracker.batch, self._record
        if batch is None or not record.providers:
            return
        with suppress(RecoverableError, ValidationError):
            domain = self._gateway.round_domain(batch.batch_id)
            table, endpoints = self._gateway.table(batch.class_id, batch.table), self._gateway.endpoints()
            rows: set[int] = set()
            for bundle in tracker.bundles:
                rows |= set(compute_committee(domain, bundle, batch.seats, table.units, len(table.members)))
            urls = {endpoints.get(table.members[row].operator_id) for row in rows}
            send_hints(record.signed, sorted(filter(None, urls)), record.providers)

    def _note(self, step: JobProgress, *, is_live: bool) -> JobProgress:
        """A step with its block's time; when we saw it happen goes to the record, and of an end when it happened."""
        fresh = self._book.load(self._record.job_id.hex())
        if fresh.state != step.stage.value:
            fresh = self._book.update(fresh, state=step.stage.value)
        timestamp = self._gateway.block(step.block).timestamp
        if step.stage.value not in fresh.seen and (is_live or step.stage.is_end):
            seconds = (time.time() if is_live else timestamp) - self._record.created_at
            self._book.update(fresh, seen={**fresh.seen, step.stage.value: round(seconds, 3)})
        return replace(step, timestamp=timestamp)


def _is_over(tracker: JobTracker, until_final: bool) -> bool:
    """Whether nothing more is worth waiting for."""
    if tracker.stage is None or not tracker.stage.is_end:
        return False
    if tracker.stage is JobStage.SKIPPED:
        return tracker.skip not in PASSING_SKIPS
    return tracker.stage is not JobStage.ACCEPTED or not until_final
