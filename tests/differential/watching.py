"""Which statuses, transitions and errors a random run has shown, as anybody can tell from calls and events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.differential.backend import Backend
from tests.differential.parties import Parties

from quorate.chain.errors import error_table
from quorate.protocol import events as ev
from quorate.protocol.encoding import decode_carry_page, decode_outcomes
from quorate.protocol.job import BATCH_TRANSITIONS, BUNDLE_TRANSITIONS, BatchStatus, BundleStatus
from quorate.protocol.types import Verdict

VERDICTS = {
    Verdict.ACCEPTED: BundleStatus.ACCEPTED,
    Verdict.DISPUTED: BundleStatus.DISPUTED,
    Verdict.CARRIED: BundleStatus.CARRIED,
    Verdict.VOID: BundleStatus.VOID,
}

NOT_MODELLED = {
    "DataNotStored": "a creation that runs out of gas",
    "MoreGas": "too little gas for a contract wallet",
    "TransferFailed": "a receiver that refuses money",
}
"""Custom errors that the pure model cannot foresee, with their cause: rarities.py provokes them."""

DISPUTE_TRANSITIONS = (
    "dispute PUBLISHING → VOTING",
    "dispute PUBLISHING → PUNISHING",
    "dispute VOTING → VOTING",
    "dispute VOTING → PUNISHING",
    "dispute PUNISHING → FREE",
)


class WatchedParties(Parties):
    """Parties whose every step leaves a mark in `seen`: "batch POSTING → AWAITING", "bundle PENDING → VOID", …"""

    seen: Counter[str]
    _batches: dict[int, BatchStatus]
    _bundles: dict[tuple[int, int], BundleStatus]
    _disputes: dict[int, str]

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.seen, self._batches, self._bundles, self._disputes = Counter(), {}, {}, {}

    def _learn(self, events: Sequence[ev.Event]) -> None:
        super()._learn(events)
        self._watch_batches()
        for event in events:
            self._watch(event)
        self._watch_disputes(events)

    def _watch_batches(self) -> None:
        for batch in self.world.market.slots:
            before = self._batches.get(batch.batch_id, BatchStatus.NONE)
            if before is not batch.status:
                # A batch of one call is opened and closed at once: its history tells what lies between.
                path = [*batch.history[batch.history.index(before) if before in batch.history else 0 :], batch.status]
                for start, end in zip([before, *path], path, strict=False):
                    if start is not end:
                        self.seen[f"batch {start.name} → {end.name}"] += 1
                self._batches[batch.batch_id] = batch.status

    def _watch(self, event: ev.Event) -> None:
        match event:
            case ev.BatchClosed() | ev.BatchVoided():
                for bundle in self.batch(event.batch_id).pending:
                    self._bundles.setdefault((event.batch_id, bundle), BundleStatus.PENDING)
            case ev.BundlesSettled():
                for row in decode_outcomes(event.outcomes):
                    self._move(event.batch_id, row.bundle, VERDICTS[row.verdict])
            case ev.RoundStarted():
                for bundle in self.batch(event.batch_id).pending:
                    self._move(event.batch_id, bundle, BundleStatus.PENDING)
            case ev.BundlesCarried():
                for record in decode_carry_page(event.page):
                    self._move(event.batch_id, record.bundle, BundleStatus.CARRIED)
            case ev.DisputeDecided():
                status = VERDICTS[Verdict(event.verdict)]
                before = self._bundles.get((event.batch_id, event.bundle))
                # A challenge that failed accepts nothing that another one has reversed.
                if status is BundleStatus.VOID or before is BundleStatus.DISPUTED:
                    self._move(event.batch_id, event.bundle, status)

    def _watch_disputes(self, events: Sequence[ev.Event]) -> None:
        is_decided = any(isinstance(event, ev.DisputeDecided) for event in events)
        for event in events:
            match event:
                case ev.DisputeOpened():
                    self._disputes[event.dispute_id] = "PUBLISHING"
                case ev.QuestionAsked() if not is_decided:
                    self._move_dispute(event.dispute_id, "VOTING")
                case ev.VoteWindowOpened():
                    self._move_dispute(event.dispute_id, "VOTING")
                case ev.DisputeDecided():
                    self._move_dispute(event.dispute_id, "PUNISHING")
                case ev.DisputeSettled():
                    self._move_dispute(event.dispute_id, "FREE")

    def _move_dispute(self, dispute_id: int, status: str) -> None:
        self.seen[f"dispute {self._disputes[dispute_id]} → {status}"] += 1
        self._disputes[dispute_id] = status

    def _move(self, batch_id: int, bundle: int, status: BundleStatus) -> None:
        before = self._bundles.get((batch_id, bundle), BundleStatus.PENDING)
        if before is not status:
            self.seen[f"bundle {before.name} → {status.name}"] += 1
        self._bundles[batch_id, bundle] = status


def list_transitions() -> list[str]:
    """All that the tables of statuses allow, written as `seen` writes them."""
    return [*_spell("batch", BATCH_TRANSITIONS), *_spell("bundle", BUNDLE_TRANSITIONS), *DISPUTE_TRANSITIONS]


def _spell(what: str, table: Mapping[Any, Iterable[Any]]) -> list[str]:
    return [f"{what} {a.name} → {b.name}" for a, found in table.items() for b in sorted(found) if a is not b]


def list_errors() -> set[str]:
    """Names of all custom errors in the contracts' ABIs."""
    return {entry.name for entry in error_table().values()}


def find_errors(tally: Mapping[str, int]) -> set[str]:
    """Custom errors that a run's tally ("settle TooEarly") shows."""
    return {what.split(" ")[-1] for what in tally if what.count(" ") == 1} & list_errors()
