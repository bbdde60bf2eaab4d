"""One batch under attack, from its draw to the end of all its disputes; every decision is the pure model's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.adversarial.judging import ClassVote, punish
from tests.adversarial.population import CLASS, CLASS_PRICE, Population, make_address
from tests.adversarial.strategies import Act, Said, Sight, Strategy

from quorate.protocol.classes import Earning
from quorate.protocol.committee import compute_committee
from quorate.protocol.context import ZERO_ADDRESS
from quorate.protocol.params import FUEL_UNIT, MAX_BUNDLES, PRODUCTION, Params
from quorate.protocol.settlement import (
    Ballot,
    BundleOutcome,
    Fine,
    RoundTerms,
    carry_record,
    compute_audit_fee,
    compute_fines,
    compute_task_price,
    decide_bundle,
)
from quorate.protocol.types import (
    ZERO32,
    BatchId,
    CarryRecord,
    DisputeKind,
    DisputeRecord,
    Table,
    Verdict,
    Vote,
)
from quorate.protocol.verdict import Aftermath

Row = dict[str, Any]
FUEL = 10**10
"""Fuel of a bundle."""
SEATS_PER_ERA = 10
"""Bundles of an era, so that an operator sits about so often: fault eras are judged by shares of what one did."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. `extends` tells whether requesters buy more rounds for what came to nothing."""

    nodes: int
    share: float
    seats: int
    strategy: str
    bundles: int
    rounds: int = 2
    deplete: bool = False
    seed: int = 1
    extends: bool = True
    params: Params = PRODUCTION

    @property
    def era_bundles(self) -> int:
        """Bundles posted in one era, all in one batch."""
        return min(self.bundles, MAX_BUNDLES, max(20, -(-SEATS_PER_ERA * self.nodes // self.seats)))


@dataclass(slots=True)
class Tally:
    """What became of one bundle so far."""

    number: int
    attacked: bool = False
    rounds: int = 0
    executions: int = 0
    class_votes: int = 0
    verdict: Verdict | None = None
    vote: Vote | None = None
    disputed: bool = False
    extended: bool = False
    was_wrong: bool = False
    audited: bool = False
    executed: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Page:
    """What the bundles of one settle call come to; rows of the table."""

    earned: Counter[int] = field(default_factory=Counter)
    seats: Counter[int] = field(default_factory=Counter)
    from_pot: int = 0
    to_treasury: int = 0
    audit_fees: int = 0

    def add(self, outcome: BundleOutcome) -> None:
        """One more bundle."""
        self.earned.update(outcome.payments)
        self.seats.update(outcome.fresh)
        self.from_pot += outcome.from_pot
        self.to_treasury += outcome.to_treasury
        self.audit_fees += outcome.audit_fee


@dataclass(frozen=True, slots=True)
class Feed:
    """What one batch is played with: where it comes from, the model or a chain, makes no difference.

    `number` is the batch's id, `first` the number of its first bundle in the run; `domain` gives a round's domain,
    `honest` what the program of a bundle gives, `extends` whether its requester buys more rounds where it can.
    """

    number: int
    first: int
    count: int
    table: Table
    domain: Callable[[int], bytes]
    honest: Callable[[int], Vote]
    extends: Callable[[int], bool] = lambda _: True


class BatchPlay:
    """One batch of bundles, from its draw to the end of all its disputes."""

    def __init__(self, plan: Plan, strategy: Strategy, people: Population, feed: Feed) -> None:
        self.plan, self.strategy, self.people, self.feed = plan, strategy, people, feed
        self.table = feed.table
        self.share = self.people.share_of(self.table)
        self.liars = frozenset(self.people.ever_liars)
        self.price = compute_task_price(FUEL, CLASS_PRICE, FUEL_UNIT)
        self.tallies = [Tally(feed.first + i) for i in range(feed.count)]
        self.disputes: list[DisputeRecord] = []
        self.ended: dict[int, CarryRecord] = {}  # by bundle, what no dispute decided
        self.as_market = self.people.call(self.people.world.market.address)
        self.as_disputes = self.people.call(self.people.world.disputes.address)

    def play(self) -> None:
        """All rounds, then the disputes, then the rounds that requesters buy for what came to nothing, and theirs."""
        requester, shares = make_address("requester", 0), self.plan.seats * (1 + self.plan.rounds)
        bundles = range(len(self.tallies))
        self._play_rounds([CarryRecord(i, requester, self.price, 1, 0, shares) for i in bundles], 0, self.plan.rounds)
        self._judge_all()
        if extended := self._extend_all():
            more = self.plan.rounds + 1
            self._play_rounds(extended, more, self.plan.rounds + more)
            self._judge_all()

    def _extend_all(self) -> list[CarryRecord]:
        """What requesters buy more rounds for: VOID bundles with votes, and those of a committee that was convicted."""
        if not self.plan.extends:
            return []
        void = [record for record in self.ended.values() if self._is_void(record) and record.voters]
        convicted = [replace(r, vote=None, voters=(), opened=0) for r in self.ended.values() if self._is_convicted(r)]
        wanted = [record for record in (*void, *convicted) if self.feed.extends(record.bundle)]
        return [self._extend(record, self.plan.rounds + 1) for record in wanted]

    def _is_void(self, record: CarryRecord) -> bool:
        return self.tallies[record.bundle].verdict is Verdict.VOID

    def _is_convicted(self, record: CarryRecord) -> bool:
        rows, operators = self.table.members, self.people.registry.operators
        is_accepted = self.tallies[record.bundle].verdict is Verdict.ACCEPTED
        return is_accepted and all(operators[rows[member].operator_id].ejected for member in record.voters)

    def _extend(self, record: CarryRecord, rounds: int) -> CarryRecord:
        """What `extend` makes of a bundle: votes that it has stand, everything else begins anew."""
        self.tallies[record.bundle].extended = True
        shares = len(record.voters) + self.plan.seats * rounds
        return replace(record, pot=0, abstainers=(), shares=shares)

    def _judge_all(self) -> None:
        for record in self.disputes:
            self.judge(record)
        self.disputes.clear()

    def _play_rounds(self, pending: list[CarryRecord], first: int, last: int) -> None:
        for round_ in range(first, last + 1):
            terms = RoundTerms(self.plan.seats, round_, last, 0, self.plan.params.audit_bps)
            if pending:
                pending = self._play_round(terms, pending)

    def _play_round(self, terms: RoundTerms, pending: list[CarryRecord]) -> list[CarryRecord]:
        domain = self.feed.domain(terms.round)
        carried: list[CarryRecord] = []
        page = Page()
        for record in pending:
            ballot = self._fill(domain, record)
            # Whoever settles waits for window 4 where it must; then what is silent is fined.
            taken = self._fine(compute_fines(ballot, terms))
            outcome = decide_bundle(ballot, terms, True, taken)
            page.add(outcome)
            self._learn(record, outcome)
            if outcome.verdict is Verdict.CARRIED:
                carried.append(carry_record(record, outcome))
        self._pay(page.earned, page.seats, page.from_pot, page.to_treasury)
        if page.audit_fees:
            self.people.registry.apply_donate(replace(self.as_market, value=page.audit_fees))
        return carried

    def _fill(self, domain: bytes, record: CarryRecord) -> Ballot:
        """Draw a committee and let its seats speak."""
        table, tally, honest = self.table, self.tallies[record.bundle], self.feed.honest(record.bundle)
        rows = compute_committee(domain, record.bundle, self.plan.seats, table.units, len(table.members))
        ids = tuple(int(table.members[row].operator_id) for row in rows)
        standing = tuple((int(table.members[m].operator_id), record.vote or honest) for m in record.voters)
        sight = Sight(
            (self.feed.number, record.bundle), tally.rounds, self.people.era, honest, ids, self.liars, standing
        )
        tally.rounds += 1
        opened: dict[int, Vote] = {}
        acts: dict[int, Act] = {}
        for seat, operator in enumerate(ids):
            said = self.strategy.say(sight, seat) if operator in self.liars else Said(Act.VOTE, honest)
            tally.attacked |= said.act is not Act.VOTE or said.vote != honest
            acts[seat] = said.act
            if said.act in (Act.VOTE, Act.HIDE):
                tally.executed.add(operator)
            if said.act is Act.VOTE and said.vote is not None:
                opened[seat] = said.vote
        abstained = frozenset(seat for seat, act in acts.items() if act is Act.ABSTAIN)
        committed = frozenset(seat for seat, act in acts.items() if act is not Act.SILENT)
        return Ballot(record, rows, opened, abstained, committed)

    def _fine(self, fines: Sequence[Fine]) -> int:
        """Take what can be taken; wei that came of it."""
        registry, rows = self.people.registry, self.table.members
        before = registry.pots
        for fine in fines:
            operator = rows[fine.member].operator_id
            self.people.note(registry.apply_fine(self.as_market, operator, fine.amount, fine.kind))
        return registry.pots - before

    def _learn(self, record: CarryRecord, outcome: BundleOutcome) -> None:
        self._decide(record.bundle, outcome.verdict, outcome.vote)
        if outcome.verdict is Verdict.DISPUTED:
            conflict = DisputeKind.CONFLICT
            self.disputes.append(self.make_dispute(record, conflict, outcome.voters, outcome.pot, outcome.locked))
        elif outcome.verdict in (Verdict.ACCEPTED, Verdict.VOID):
            self.ended[record.bundle] = carry_record(record, outcome)

    def _decide(self, bundle: int, verdict: Verdict, vote: Vote | None) -> None:
        tally = self.tallies[bundle]
        tally.verdict, tally.vote = verdict, vote
        tally.was_wrong |= verdict is Verdict.ACCEPTED and vote != self.feed.honest(bundle)

    def make_dispute(
        self, record: CarryRecord, kind: DisputeKind, votes: tuple[tuple[int, Vote], ...], pot: int, escrow: int
    ) -> DisputeRecord:
        """What the class is asked about."""
        is_conflict = kind is DisputeKind.CONFLICT
        return DisputeRecord(
            kind=kind,
            batch_id=BatchId(self.feed.number),
            bundle=record.bundle,
            tasks=record.tasks,
            requester=record.requester,
            price=record.price,
            pot=pot,
            escrow=escrow,
            fee=0,
            audit_fee=compute_audit_fee(record.price, self.plan.params.audit_bps) if is_conflict else 0,
            collator=self.as_market.sender,
            class_id=CLASS,
            table=0,
            challenger=ZERO_ADDRESS,
            task=0,
            claim=ZERO32,
            round=0,
            votes=votes,
        )

    def _pay(self, earned: Mapping[int, int], seats: Mapping[int, int], from_pot: int, to_treasury: int) -> None:
        """Credit rows of the table with wei and with seats that they filled."""
        registry, rows = self.people.registry, self.table.members
        if earned or seats:
            members = sorted(earned.keys() | seats.keys())
            entries = sorted(Earning(rows[m].operator_id, earned.get(m, 0), seats.get(m, 0)) for m in members)
            registry.apply_credit(replace(self.as_market, value=sum(earned.values()) - from_pot), entries, from_pot)
        if to_treasury:
            registry.apply_release_pot(self.as_market, to_treasury)

    # class votes

    def judge(self, record: DisputeRecord) -> None:
        """Ask the class, window by window, and punish."""
        tally, honest = self.tallies[record.bundle], self.feed.honest(record.bundle)
        people, liars, roots = self.people, self.liars, record.roots
        vote = ClassVote(self.plan.params, record, self.table)
        while True:
            for row, member in enumerate(self.table.members):
                operator = int(member.operator_id)
                if operator not in liars:
                    vote.cast(row, honest)
                elif (said := self.strategy.class_vote(operator, honest, roots)) is not None:
                    vote.cast(row, said)
            if (ending := vote.close_window()) is not None:
                break
        tally.disputed, tally.class_votes = True, tally.class_votes + len(vote.votes)
        if ending.aftermath is Aftermath.UPHELD:
            ending = replace(ending, aftermath=Aftermath.REVERSED)  # it is the first that doubts this bundle
        self._decide(record.bundle, ending.verdict, ending.root)
        if record.kind is DisputeKind.CONFLICT:
            earned = {member: record.price for member, root in record.votes if root == ending.root}
            self._pay(earned, dict.fromkeys(earned, 1), 0, record.pot)
        people.note(punish(people.registry, self.as_disputes, record, self.table, ending))

    # results

    def rows(self) -> Iterator[Row]:
        """One row a bundle."""
        for index, tally in enumerate(self.tallies):
            is_accepted = tally.verdict is Verdict.ACCEPTED
            is_wrong = is_accepted and tally.vote != self.feed.honest(index)
            yield {
                "kind": "bundle",
                "bundle": tally.number,
                "era": self.people.era,
                "share": self.share,
                "attacked": tally.attacked,
                "rounds": tally.rounds,
                "executions": len(tally.executed),
                "class_votes": tally.class_votes,
                "disputed": tally.disputed,
                "extended": tally.extended,
                "audited": tally.audited,
                "verdict": tally.verdict.name if tally.verdict else "PENDING",
                "wrong_accepted": tally.was_wrong,
                "wrong_final": is_wrong,
            }
