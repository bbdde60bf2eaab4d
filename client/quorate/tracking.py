"""What became of a job, from events alone: whoever replays them sees the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from quorate.chain.types import LoggedEvent
from quorate.explaining import SKIP_HINTS, explain_void, list_reasons, name_reason
from quorate.progress import JobProgress, JobStage, SeatVote, Slash, TrackedBundle
from quorate.protocol import encoding, events
from quorate.protocol.dispute_pages import decode_dispute_record
from quorate.protocol.partition import count_bundles
from quorate.protocol.types import (
    DisputeKind,
    JobOrder,
    Opening,
    OrderSkip,
    OutcomeRow,
    SignedOrder,
    Terms,
    Verdict,
    Vote,
)
from quorate.protocol.verdict import Conduct, decode_tally


@lru_cache(maxsize=16)
def _decode_post_page(page: bytes, terms: Terms) -> list[list[SignedOrder]]:
    return encoding.decode_post_page(page, terms)  # whoever has many jobs follows each of them through the same pages


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
        self._punishing: set[int] = set()
        self._disputes: set[int] = set()
        self._doubts: dict[int, int] = {}  # by challenge or dissenting audit: the round of the row that is doubted
        self._is_extending = False
        self._is_abandoned = False
        self._pages = 0
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

    def is_final(self, now: int) -> bool:
        """Whether nobody can undo an accepted job any more, at a chain time in unix seconds."""
        is_over = self.final_at is not None and now >= self.final_at
        return self.stage is JobStage.ACCEPTED and is_over and not self._disputes

    @property
    def extendable(self) -> tuple[int, ...]:
        """Bundles that more rounds may bring to an end: void ones whose votes stand, as many as one call can take."""
        void = [(b.page, n) for n, b in sorted(self.bundles.items()) if b.verdict == Verdict.VOID and b.voters]
        return tuple(n for page, n in void if page == void[0][0])

    def finish(self, block: int, now: int) -> None:
        """Note that an accepted job is final, if it is; said by who watches the clock of the chain."""
        if self.is_final(now):
            self.history.append(JobProgress(JobStage.FINAL, self.round, block, b"", "nobody can undo it any more"))

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
        for group in _decode_post_page(event.page, terms):
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
                bundle.committed, bundle.abstained, bundle.shown, bundle.settled_in = {}, {}, {}, None
            self._step(JobStage.ASSIGNED, f"round {event.round}")

    def _on_commit(self, event: events.CommitPage) -> None:
        if not self._is_ours(event.batch_id) or self.batch is None:
            return
        was_complete = self._is_committed()
        skips = encoding.decode_list_skips(event.skips)
        for index, each in enumerate(encoding.decode_commit_lists(event.lists)):
            for item in each.items if index not in skips else ():
                if item.bundle in self.bundles:
                    bundle = self.bundles[item.bundle]
                    bundle.committed[item.seat] = each.member
                    if item.reason is not None:
                        bundle.abstained[item.seat] = name_reason(item.reason)
                        bundle.reasons[name_reason(item.reason)] += 1
        if self._is_committed() and not was_complete:
            self._step(JobStage.COMMITTED, f"{self.batch.seats} seats")

    def _on_revealed(self, event: events.OpeningsRevealed) -> None:
        if self._is_ours(event.batch_id):
            self.show(encoding.decode_revealed(event.votes, event.openings))

    def show(self, openings: Mapping[tuple[int, int], Opening]) -> None:
        """Take in votes of the present round's seats, by (bundle, seat)."""
        for (number, seat), opening in openings.items():
            if number in self.bundles and seat in self.bundles[number].committed:
                self.bundles[number].shown[seat] = opening.vote

    def _is_committed(self) -> bool:
        """Every seat has committed. Who voted in an earlier round may sit again, and then commits no more."""
        assert self.batch is not None
        pending = [b for b in self.bundles.values() if not b.is_decided and b.dispute_id is None]
        return all(len(b.committed) + len(b.standing) >= self.batch.seats for b in pending)

    def _on_carried(self, event: events.BundlesCarried) -> None:
        if not self._is_ours(event.batch_id):
            return
        for record in encoding.decode_carry_page(event.page):
            bundle = self.bundles.get(record.bundle)
            if bundle is None:
                continue
            bundle.verdict, bundle.vote, bundle.dispute_id = Verdict.CARRIED, None, None
            bundle.standing = dict.fromkeys(record.voters, record.vote) if record.vote is not None else {}

    # verdicts -----------------------------------------------------------------------------------------------------

    def _on_settled(self, event: events.BundlesSettled) -> None:
        if not self._is_ours(event.batch_id):
            return
        self._pages += 1
        seen = {row.bundle: row for row in encoding.decode_outcomes(event.outcomes) if row.bundle in self.bundles}
        if not seen:
            return
        for number, row in seen.items():
            bundle = self.bundles[number]
            bundle.verdict, bundle.voters, bundle.page = row.verdict, row.voters, self._pages
            bundle.round, bundle.opened = event.round, row.opened
            bundle.settled_in = self._now.transaction if self._now else None
            bundle.vote = row.vote if row.verdict == Verdict.ACCEPTED else None
            if row.voters and bundle.dispute_id is None:  # of a conflict the record has told all votes
                bundle.seats = _seats_of(bundle, row)
        found = {row.verdict for row in seen.values()}
        if Verdict.CARRIED in found:
            self._step(JobStage.CARRIED, f"{self._count_missing(seen)}: a fresh committee follows")
        elif Verdict.DISPUTED in found or (found != {Verdict.VOID} and not self._are_resolved(seen)):
            self._step(JobStage.REVEALED)
        if Verdict.DISPUTED in found:
            self._step(JobStage.DISPUTED, "two results: the class votes")
        self._conclude()

    def _are_resolved(self, seen: dict[int, OutcomeRow]) -> bool:
        """Whether these are rows that a class vote has added."""
        return all(self.bundles[number].dispute_id is not None for number in seen)

    def _count_missing(self, seen: dict[int, OutcomeRow]) -> str:
        carried = [self.bundles[number] for number, row in seen.items() if row.verdict == Verdict.CARRIED]
        reasons = sum((Counter(bundle.abstained.values()) for bundle in carried), Counter[str]())
        return f"seats abstained ({list_reasons(reasons)})" if reasons else "a seat stayed silent"

    # disputes -----------------------------------------------------------------------------------------------------

    def _on_dispute(self, event: events.DisputeOpened) -> None:
        if not self._is_ours(event.batch_id):
            return
        self._disputes.add(event.dispute_id)
        if event.bundle not in self.bundles:
            return
        bundle, record = self.bundles[event.bundle], decode_dispute_record(event.record)
        bundle.dispute_id = event.dispute_id
        seat_of = {member: seat for seat, member in bundle.committed.items()}
        bundle.seats = tuple(SeatVote(seat_of.get(member), member, vote) for member, vote in record.votes)
        if record.kind is not DisputeKind.CONFLICT:
            self._doubts[event.dispute_id] = record.round
            who = "a challenge" if record.kind is DisputeKind.CHALLENGE else "an audit"
            self._step(JobStage.DISPUTED, f"{who} says that the accepted result is wrong: the class votes")

    def _on_decided(self, event: events.DisputeDecided) -> None:
        bundle = self._find_bundle(event)
        if bundle is None:
            return
        self._punishing.add(event.dispute_id)
        tally = decode_tally(event.tally)
        bundle.wrong |= {member for member, row in enumerate(tally) if row.conduct >= Conduct.WRONG}
        doubted = self._doubts.get(event.dispute_id)
        if doubted is not None and (bundle.verdict != Verdict.ACCEPTED or bundle.round != doubted):
            return  # that outcome counts no more: it was reversed, or the bundle goes on without it
        if event.verdict != Verdict.VOID:
            was_accepted, bundle.verdict = bundle.verdict == Verdict.ACCEPTED, Verdict.ACCEPTED
            bundle.vote = Vote(event.root)
            if was_accepted:  # a challenge or an audit that was wrong
                self._conclude()
            return
        bundle.is_reversed = bundle.verdict == Verdict.ACCEPTED
        bundle.verdict, bundle.vote, bundle.voters = Verdict.VOID, None, ()
        self._conclude()

    def _find_bundle(self, event: events.DisputeDecided | events.DisputeSettled) -> TrackedBundle | None:
        return self.bundles.get(event.bundle) if self._is_ours(event.batch_id) else None

    def _on_slashed(self, event: events.OperatorSlashed) -> None:
        # Between verdict and end of a dispute of ours; who else was slashed meanwhile the receipt tells apart.
        if self._punishing and self._now is not None:
            self.slashes.append(Slash(event.operator_id, event.amount, event.ejected, self._now.transaction))

    def _on_dispute_settled(self, event: events.DisputeSettled) -> None:
        self._disputes.discard(event.dispute_id)
        self._punishing.discard(event.dispute_id)

    def _conclude(self) -> None:
        if not self.bundles or not all(bundle.is_decided for bundle in self.bundles.values()):
            return
        void = [bundle for bundle in self.bundles.values() if bundle.verdict == Verdict.VOID]
        if void:
            self._step(JobStage.VOID, explain_void(void[0], self._is_abandoned))
        else:
            self._step(JobStage.ACCEPTED)

    def _on_voided(self, event: events.BatchVoided) -> None:
        self._is_abandoned |= self._is_ours(event.batch_id)

    def _on_batch_settled(self, event: events.BatchSettled) -> None:
        if self._is_ours(event.batch_id):
            self.final_at = event.final_at

    def _on_extended(self, event: events.BatchExtended) -> None:
        if self._is_ours(event.batch_id):
            self.final_at = None
            self._is_extending = True

    def _on_awaited(self, event: events.RoundAwaited) -> None:
        """Bundles that `extend` has carried are open again."""
        is_ours = self._is_ours(event.batch_id) and self._is_extending
        self._is_extending = False
        carried = [bundle for bundle in self.bundles.values() if bundle.verdict == Verdict.CARRIED] if is_ours else []
        if carried:
            self._step(JobStage.EXTENDED, "more rounds; votes stand")


def _seats_of(bundle: TrackedBundle, row: OutcomeRow) -> tuple[SeatVote, ...]:
    """Voters, those of earlier rounds without a seat; then seats of the last round that did not vote."""
    seat_of = {member: seat for seat, member in bundle.committed.items()}
    voters = [SeatVote(seat_of.get(member), member, row.vote) for member in row.voters]
    others = [
        SeatVote(seat, member, None, bundle.abstained.get(seat))
        for seat, member in sorted(bundle.committed.items())
        if member not in row.voters
    ]
    return (*sorted(voters, key=lambda seat: (seat.seat is not None, seat.seat or 0)), *others)


_HANDLERS: dict[type, Callable[[JobTracker, Any], None]] = {
    events.BatchOpened: JobTracker._on_opened,
    events.PagePosted: JobTracker._on_page,
    events.RoundStarted: JobTracker._on_round,
    events.CommitPage: JobTracker._on_commit,
    events.OpeningsRevealed: JobTracker._on_revealed,
    events.BundlesCarried: JobTracker._on_carried,
    events.BundlesSettled: JobTracker._on_settled,
    events.DisputeOpened: JobTracker._on_dispute,
    events.DisputeDecided: JobTracker._on_decided,
    events.OperatorSlashed: JobTracker._on_slashed,
    events.DisputeSettled: JobTracker._on_dispute_settled,
    events.BatchVoided: JobTracker._on_voided,
    events.BatchSettled: JobTracker._on_batch_settled,
    events.BatchExtended: JobTracker._on_extended,
    events.RoundAwaited: JobTracker._on_awaited,
}
