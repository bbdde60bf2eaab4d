"""What the events of a real chain tell of the batches of an attack: draws, verdicts, disputes, audits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from quorate.chain.gateway import ChainGateway
from quorate.chain.types import LoggedEvent
from quorate.protocol import events as ev
from quorate.protocol.challenges import is_selected
from quorate.protocol.commitment import compute_round_domain
from quorate.protocol.encoding import decode_order_skips, decode_outcomes, decode_post_page
from quorate.protocol.types import OutcomeRow, Stage, Terms, Verdict, Vote

SETTLED = (Verdict.ACCEPTED, Verdict.VOID)


@dataclass(frozen=True, slots=True)
class Draw:
    """A batch's lot of audits: over what its seats accepted in rounds `first` to `last`; `block` has the beacon."""

    block: int
    first: int
    last: int
    domain: bytes = b""
    bundles: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """What seats made of a bundle: its row, the round, and which settle call told it."""

    row: OutcomeRow
    round: int
    page: int


@dataclass(slots=True)
class SeenBatch:
    """What events tell of one batch; bundles by number. `ended` is by its seats, `verdicts` what stands."""

    batch_id: int
    table: int
    terms: Terms
    post_hash: bytes = b""
    start_time: int = 0
    round: int = 0
    final_at: int = 0
    roots: list[Vote] = field(default_factory=list)
    domains: dict[int, bytes] = field(default_factory=dict)
    rounds: Counter[int] = field(default_factory=Counter)
    ended: dict[int, Ended] = field(default_factory=dict)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    votes: dict[int, Vote] = field(default_factory=dict)
    disputed: set[int] = field(default_factory=set)
    was_wrong: set[int] = field(default_factory=set)
    extensions: int = 0
    draws: list[Draw] = field(default_factory=list)
    audited: set[int] = field(default_factory=set)
    pages: int = 0

    @property
    def is_over(self) -> bool:
        """Whether every bundle was accepted or came to nothing, and its seats have no more to do."""
        is_settled = self.final_at > 0 or not self.roots
        return is_settled and all(self.verdicts.get(b) in SETTLED for b in range(len(self.roots)))

    @property
    def extendable(self) -> tuple[int, ...]:
        """VOID bundles with votes that one call can extend: those that one settle call told, where they are most."""
        void = {b: e for b, e in self.ended.items() if e.row.verdict is Verdict.VOID and e.row.voters}
        groups = Counter(each.page for each in void.values())
        most = max(groups, key=lambda page: (groups[page], page), default=None)
        return tuple(sorted(bundle for bundle, each in void.items() if each.page == most))


class AttackWatcher:
    """Follows batches by their events; `roots` gives what each job's program gives, by the digest of its spec."""

    def __init__(self, gateway: ChainGateway, roots: Mapping[bytes, Vote]) -> None:
        self.gateway, self.roots = gateway, roots
        self.params = gateway.params()
        self.batches: dict[int, SeenBatch] = {}
        self.slashed: set[int] = set()  # for a vote
        self.jailed: set[int] = set()
        self.disputes: set[int] = set()  # open
        self._faults: set[tuple[bytes, int]] = set()  # (transaction, operator) of those who were jailed in it
        self._next = 0

    def poll(self) -> int:
        """Take in what has happened since; how many events that was."""
        head = self.gateway.head().number
        found = self.gateway.events(self._next, head)
        for logged in found:
            self._take(logged, logged.event)
        self._next = head + 1
        return len(found)

    def _take(self, logged: LoggedEvent, event: ev.Event) -> None:
        match event:
            case ev.BatchOpened():
                terms = Terms(event.class_id, event.seats, event.rounds, event.commit_period, event.fee_wei)
                self.batches[event.batch_id] = SeenBatch(event.batch_id, event.table, terms)
            case ev.PagePosted():
                self._take_page(self.batches[event.batch_id], event)
            case ev.RoundStarted():
                self._start_round(self.batches[event.batch_id], event)
            case ev.BundlesSettled():
                self._settle(self.batches[event.batch_id], event)
            case ev.BatchSettled():
                self._finish(self.batches[event.batch_id], event, logged.block_number)
            case ev.BatchExtended():
                batch = self.batches[event.batch_id]
                batch.extensions, batch.final_at = batch.extensions + 1, 0
            case ev.BundleAudited():
                self.batches[event.batch_id].audited.add(event.bundle)
            case ev.DisputeOpened():
                self.disputes.add(event.dispute_id)
            case ev.DisputeDecided():
                self._end(self.batches[event.batch_id], event.bundle, Verdict(event.verdict), Vote(event.root))
            case ev.DisputeSettled():
                self.disputes.discard(event.dispute_id)
            case ev.OperatorJailed():
                self.jailed.add(event.operator_id)
                self._faults.add((logged.transaction, event.operator_id))
            case ev.OperatorSlashed():
                if (logged.transaction, event.operator_id) not in self._faults:
                    self.slashed.add(event.operator_id)

    def _take_page(self, batch: SeenBatch, event: ev.PagePosted) -> None:
        skips = decode_order_skips(event.skips)
        orders = [signed.order for group in decode_post_page(event.page, batch.terms) for signed in group]
        batch.roots += [self.roots[order.spec_hash] for i, order in enumerate(orders) if i not in skips]

    def _start_round(self, batch: SeenBatch, event: ev.RoundStarted) -> None:
        # A slot is used again only when its batch is final, which takes longer than a poll.
        batch.post_hash = batch.post_hash or self.gateway.batch(batch.batch_id).post_hash
        batch.round = event.round
        batch.domains[event.round] = self._domain(batch, Stage.BUNDLE, event.beacon)
        if event.round == 0:
            batch.start_time = self.gateway.head().timestamp

    def _domain(self, batch: SeenBatch, stage: Stage, beacon: bytes) -> bytes:
        to = self.gateway.deployment
        return compute_round_domain(
            to.chain_id, to.market, batch.batch_id, batch.post_hash, stage, batch.round, beacon
        )  # fmt: skip

    def _settle(self, batch: SeenBatch, event: ev.BundlesSettled) -> None:
        batch.pages += 1
        for row in decode_outcomes(event.outcomes):
            batch.rounds[row.bundle] = max(batch.rounds[row.bundle], event.round + 1)
            batch.ended[row.bundle] = Ended(row, event.round, batch.pages)
            self._end(batch, row.bundle, row.verdict, row.vote)

    def _end(self, batch: SeenBatch, bundle: int, verdict: Verdict, vote: Vote) -> None:
        batch.verdicts[bundle], batch.votes[bundle] = verdict, vote
        if verdict is Verdict.DISPUTED:
            batch.disputed.add(bundle)
        if verdict is Verdict.ACCEPTED and vote != batch.roots[bundle]:
            batch.was_wrong.add(bundle)

    # audits

    def _finish(self, batch: SeenBatch, event: ev.BatchSettled, block: int) -> None:
        batch.final_at = event.final_at
        first = batch.draws[-1].last + 1 if batch.draws and batch.draws[-1].bundles else 0
        if batch.roots and batch.terms.commit_period <= self.params.audit_period:
            batch.draws.append(Draw(block + self.params.beacon_delay, first, batch.round))

    def awaits_audit(self, batch: SeenBatch) -> bool:
        """Whether the lot chose bundles of a settled batch on which no auditor has said a word yet, and may."""
        head = self.gateway.head()
        if batch.draws and not batch.draws[-1].domain:
            if head.number < batch.draws[-1].block:
                return True
            batch.draws[-1] = self._draw(batch, batch.draws[-1])
        missing = set(batch.draws[-1].bundles) - batch.audited if batch.draws else set()
        return bool(missing) and head.timestamp < batch.final_at

    def _draw(self, batch: SeenBatch, draw: Draw) -> Draw:
        domain = self._domain(batch, Stage.AUDIT, self.gateway.block(draw.block).mix_hash)
        chosen = [
            bundle
            for bundle, each in sorted(batch.ended.items())
            if each.row.verdict is Verdict.ACCEPTED
            and each.round >= draw.first
            and is_selected(domain, bundle, self.params.audit_bps)
        ]
        return Draw(draw.block, draw.first, draw.last, domain, tuple(chosen))
