"""What became of a job, from events alone: whoever replays them sees the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from quorate.chain.types import LoggedEvent
from quorate.protocol import dispute_pages, encoding, events
from quorate.protocol.partition import count_bundles
from quorate.protocol.types import JobOrder, OrderSkip, SignedOrder, Terms, Verdict, Vote


class JobStage(StrEnum):
    """Steps of a job, in the words of a requester."""

    POSTED = "posted"
    ASSIGNED = "assigned"
    COMMITTED = "committed"
    REVEALED = "revealed"
    CARRIED = "carried"
    DISPUTED = "disputed"
    ACCEPTED = "accepted"
    VOID = "void"
    SKIPPED = "skipped"
    EXPIRED = "expired"

    @property
    def is_end(self) -> bool:
        """Whether nothing follows."""
        return self in (JobStage.ACCEPTED, JobStage.VOID, JobStage.SKIPPED, JobStage.EXPIRED)


PASSING_SKIPS = frozenset({OrderSkip.FULL, OrderSkip.CAPACITY})
"""A collator may post the order again in its next batch or era."""

SKIP_HINTS = {
    OrderSkip.EMPTY: "it has no task or no fuel",
    OrderSkip.UNSUPPORTED: "it asks for a strategy that the contracts do not know",
    OrderSkip.EXPIRED: "its valid_until had passed",
    OrderSkip.UNITS: "the class has fewer units than min_units",
    OrderSkip.FEE: "the collator's fee is above max_fee",
    OrderSkip.PRICE: "the class's price is above max_price",
    OrderSkip.PERIOD: "its fuel and input need more time than the commit period",
    OrderSkip.FULL: "the batch was full",
    OrderSkip.CAPACITY: "the class has no capacity left in this era",
    OrderSkip.SIGNATURE: "its signature is not the requester's",
    OrderSkip.NONCE: "its nonce was used before",
    OrderSkip.DEPOSIT: "the free deposit is below the escrow; deposit more",
}


@dataclass(frozen=True, slots=True)
class JobProgress:
    """One step: where it stands on the chain, and `detail` for people. `timestamp` is the block's, 0 if not asked."""

    stage: JobStage
    round: int
    block: int
    transaction: bytes
    detail: str = ""
    timestamp: int = 0


@dataclass(frozen=True, slots=True)
class SeatVote:
    """How one seat voted, by member index of the batch's table; `vote` is None for who stayed silent."""

    seat: int | None
    member: int
    vote: Vote | None


@dataclass(frozen=True, slots=True)
class Slash:
    """Stake taken after a dispute, in wei."""

    operator_id: int
    amount: int
    ejected: bool
    transaction: bytes


@dataclass(slots=True)
class TrackedBundle:
    """One of the job's bundles; `committed` maps seats of the present round to members."""

    committed: dict[int, int] = field(default_factory=dict)
    standing: dict[int, Vote] = field(default_factory=dict)
    seats: tuple[SeatVote, ...] = ()
    verdict: Verdict | None = None
    vote: Vote | None = None
    dispute_id: int | None = None

    @property
    def is_decided(self) -> bool:
        """Whether its verdict is the last one."""
        return self.verdict in (Verdict.ACCEPTED, Verdict.VOID)


class JobTracker:
    """Follows one order through the events of a chain; feed them in order, from the block in which it was signed on."""

    def __init__(self, signed: SignedOrder) -> None:
        self.order: JobOrder = signed.order
        self.history: list[JobProgress] = []
        self.batch: events.BatchOpened | None = None
        self.bundles: dict[int, TrackedBundle] = {}
        self.round = 0
        self.slashes: list[Slash] = []
        self.final_at: int | None = None
        self.skip: OrderSkip | None = None
        self._signature = signed.signature
        self._opened: dict[int, events.BatchOpened] = {}
        self._slashed: dict[bytes, list[Slash]] = {}
        self._now: LoggedEvent | None = None

    @property
    def stage(self) -> JobStage | None:
        """The last step; None before the order was seen."""
        return self.history[-1].stage if self.history else None

    def apply(self, logged: LoggedEvent) -> list[JobProgress]:
        """Take one event in; returns the steps that it brought."""
        handler = _HANDLERS.get(type(logged.event))
        known = len(self.history)
        if handler is not None:
            self._now = logged
            handler(self, logged.event)
        return self.history[known:]

    def expire(self, block: int) -> None:
        """The order's time is over and no batch has it; said by who watches the clock of the chain."""
        if self.stage is not JobStage.EXPIRED:
            self.history.append(JobProgress(JobStage.EXPIRED, 0, block, b"", "no collator posted it in time"))

    def _step(self, stage: JobStage, detail: str = "") -> None:
        assert self._now is not None
        now = self._now
        self.history.append(JobProgress(stage, self.round, now.block_number, now.transaction, detail))

    def _is_ours(self, batch_id: int) -> bool:
        return self.batch is not None and self.batch.batch_id == batch_id

    # posting ------------------------------------------------------------------------------------------------------

    def _on_opened(self, event: events.BatchOpened) -> None:
        if self.batch is None:
            self._opened[event.batch_id] = event

    def _on_page(self, event: events.PagePosted) -> None:
        opened = self._opened.get(event.batch_id)
        if opened is None or self.batch is not None or bytes(self.order.requester) not in event.page:
            return
        terms = Terms(opened.class_id, opened.seats, opened.rounds, opened.commit_period, opened.fee_wei)
        skips = encoding.decode_order_skips(event.skips)
        bundle, index = event.first_bundle, 0
        for group in encoding.decode_post_page(event.page, terms):
            for signed in group:
                count = 0 if index in skips else count_bundles(signed.order.task_count)
                # The whole order, not its nonce alone: an altered copy of it is another job.
                if signed.order == self.order:
                    self._on_our_order(opened, signed, range(bundle, bundle + count), skips.get(index))
                bundle, index = bundle + count, index + 1

    def _on_our_order(
        self, opened: events.BatchOpened, signed: SignedOrder, bundles: range, skip: OrderSkip | None
    ) -> None:
        if self.batch is not None:
            return  # the same order once more; it can only have been skipped for its nonce
        if skip is not None and signed.signature != self._signature:
            return  # anybody may post our order with rubbish for a signature; that says nothing about ours
        if skip is not None:
            self.skip = skip
            self._step(JobStage.SKIPPED, f"{skip.name}: {SKIP_HINTS[skip]}")
            return
        self.batch, self.bundles = opened, {number: TrackedBundle() for number in bundles}
        self._opened.clear()
        self._step(JobStage.POSTED, f"batch {opened.batch_id}")

    # rounds -------------------------------------------------------------------------------------------------------

    def _on_round(self, event: events.RoundStarted) -> None:
        if self._is_ours(event.batch_id) and not all(b.is_decided for b in self.bundles.values()):
            self.round = event.round
            for bundle in self.bundles.values():
                bundle.committed = {}
            self._step(JobStage.ASSIGNED, f"round {event.round}")

    def _on_commit(self, event: events.CommitPage) -> None:
        if not self._is_ours(event.batch_id) or self.batch is None:
            return
        was_complete = self._is_committed()
        skips = encoding.decode_list_skips(event.skips)
        for index, each in enumerate(encoding.decode_commit_lists(event.lists)):
            for item in each.items if index not in skips else ():
                if item.bundle in self.bundles:
                    self.bundles[item.bundle].committed[item.seat] = each.member
        if self._is_committed() and not was_complete:
            self._step(JobStage.COMMITTED, f"{self.batch.seats} seats")

    def _is_committed(self) -> bool:
        """Every seat has committed. Who voted in an earlier round may sit again, and then commits no more."""
        assert self.batch is not None
        pending = [b for b in self.bundles.values() if not b.is_decided and b.dispute_id is None]
        return all(len(b.committed) + len(b.standing) >= self.batch.seats for b in pending)

    def _on_carried(self, event: events.BundlesCarried) -> None:
        if not self._is_ours(event.batch_id):
            return
        for record in encoding.decode_carry_page(event.page):
            if record.bundle in self.bundles and record.vote is not None:
                self.bundles[record.bundle].standing = dict.fromkeys(record.voters, record.vote)

    # verdicts -----------------------------------------------------------------------------------------------------

    def _on_settled(self, event: events.BundlesSettled) -> None:
        if not self._is_ours(event.batch_id):
            return
        seen = {
            row.bundle: (row.verdict, row.vote)
            for row in encoding.decode_outcomes(event.outcomes)
            if row.bundle in self.bundles
        }
        if not seen:
            return
        for number, (verdict, vote) in seen.items():
            bundle = self.bundles[number]
            bundle.verdict = verdict
            if verdict == Verdict.ACCEPTED:
                bundle.vote = vote
                bundle.seats = _seats_of(bundle, vote)
        found = {verdict for verdict, _ in seen.values()}
        if Verdict.CARRIED in found:
            self._step(JobStage.CARRIED, "a seat stayed silent: a fresh committee follows")
        elif found != {Verdict.VOID}:
            self._step(JobStage.REVEALED)
        if Verdict.DISPUTED in found:
            self._step(JobStage.DISPUTED, "two results: the class votes")
        self._conclude("seats stayed silent in every round, or the batch was abandoned; the deposit is back")

    def _on_dispute(self, event: events.DisputeOpened) -> None:
        if self._is_ours(event.batch_id) and event.bundle in self.bundles:
            bundle, record = self.bundles[event.bundle], dispute_pages.decode_dispute_record(event.record)
            bundle.dispute_id = event.dispute_id
            seat_of = {member: seat for seat, member in bundle.committed.items()}
            bundle.seats = tuple(SeatVote(seat_of.get(member), member, vote) for member, vote in record.votes)

    def _on_slashed(self, event: events.OperatorSlashed) -> None:
        assert self._now is not None
        transaction = self._now.transaction
        slash = Slash(event.operator_id, event.amount, event.ejected, transaction)
        self._slashed = {transaction: [*self._slashed.get(transaction, []), slash]}

    def _on_dispute_decided(self, event: events.DisputeDecided) -> None:
        bundle = self.bundles.get(event.bundle) if self._is_ours(event.batch_id) else None
        if bundle is None or self._now is None:
            return
        bundle.verdict = Verdict(event.verdict)
        bundle.vote = Vote(event.root) if bundle.verdict == Verdict.ACCEPTED else None
        self._conclude("the class vote found no majority; the deposit is back")

    def _on_punished(self, event: events.RowsPunished) -> None:
        if self._now is not None and any(each.dispute_id == event.dispute_id for each in self.bundles.values()):
            self.slashes += self._slashed.get(self._now.transaction, [])

    def _conclude(self, void_reason: str) -> None:
        if not all(bundle.is_decided for bundle in self.bundles.values()):
            return
        if any(bundle.verdict == Verdict.VOID for bundle in self.bundles.values()):
            self._step(JobStage.VOID, void_reason)
        else:
            self._step(JobStage.ACCEPTED)

    def _on_batch_settled(self, event: events.BatchSettled) -> None:
        if self._is_ours(event.batch_id):
            self.final_at = event.final_at


def _seats_of(bundle: TrackedBundle, vote: Vote) -> tuple[SeatVote, ...]:
    fresh = [SeatVote(seat, member, vote) for seat, member in sorted(bundle.committed.items())]
    sitting = {seat.member for seat in fresh}
    return (*(SeatVote(None, member, v) for member, v in bundle.standing.items() if member not in sitting), *fresh)


_HANDLERS: dict[type, Callable[[JobTracker, Any], None]] = {
    events.BatchOpened: JobTracker._on_opened,
    events.PagePosted: JobTracker._on_page,
    events.RoundStarted: JobTracker._on_round,
    events.CommitPage: JobTracker._on_commit,
    events.BundlesCarried: JobTracker._on_carried,
    events.BundlesSettled: JobTracker._on_settled,
    events.DisputeOpened: JobTracker._on_dispute,
    events.OperatorSlashed: JobTracker._on_slashed,
    events.DisputeDecided: JobTracker._on_dispute_decided,
    events.RowsPunished: JobTracker._on_punished,
    events.BatchSettled: JobTracker._on_batch_settled,
}
