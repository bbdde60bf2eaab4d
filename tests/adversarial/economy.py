"""A class under attack, on the pure model's own decisions: draws, settlement, class votes, fines, slashes, jail.

Nothing is decided here. Committees come from `committee`, verdicts and money from `settlement`, class votes from
`verdict`, and stake moves through `registry`; this only plays the parties and counts. No signature is made and no page
encoded, so ten thousand bundles take minutes instead of hours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.adversarial.population import CLASS, CLASS_PRICE, Population, make_address, split_equally, split_liars
from tests.adversarial.strategies import STRATEGIES, Act, Said, Sight, Strategy

from quorate.protocol.classes import Earning
from quorate.protocol.commitment import compute_round_domain
from quorate.protocol.committee import compute_committee
from quorate.protocol.context import ZERO_ADDRESS
from quorate.protocol.hashing import keccak
from quorate.protocol.params import FUEL_UNIT, MAX_BUNDLES, PRODUCTION, Params
from quorate.protocol.punishing import Punishment
from quorate.protocol.settlement import (
    Ballot,
    BundleOutcome,
    Fine,
    RoundTerms,
    carry_record,
    compute_fines,
    compute_task_price,
    decide_bundle,
)
from quorate.protocol.types import (
    BatchId,
    CarryRecord,
    DisputeKind,
    DisputeRecord,
    Question,
    Stage,
    Table,
    Verdict,
    Vote,
)
from quorate.protocol.verdict import Ending, WindowVotes, end_vote, find_winner

Row = dict[str, Any]
FUEL = 10**10
"""Fuel of a bundle."""
SEATS_PER_ERA = 10
"""Bundles of an era, so that an operator sits about so often: fault eras are judged by shares of what one did."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    nodes: int
    share: float
    seats: int
    strategy: str
    bundles: int
    rounds: int = 2
    deplete: bool = False
    seed: int = 1
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


class Economy:
    """Plays a plan era by era; `run` yields rows as they happen."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        divide = split_liars if plan.strategy == "split_liars" else split_equally
        self.split = divide(plan.nodes, plan.share)
        self.people = Population(plan.params, self.split, plan.deplete)
        self.strategy: Strategy = STRATEGIES[plan.strategy]()
        self.first_stakes = self._stakes()

    def run(self) -> Iterator[Row]:
        """A row of kind "era" for each era, and before it a row of kind "bundle" for each of its bundles."""
        done = 0
        while done < self.plan.bundles:
            count = min(self.plan.era_bundles, self.plan.bundles - done)
            batch = BatchPlay(self, done, count)
            batch.play()
            rows = list(batch.rows())
            yield from rows
            done += count
            honest, liars = self._stakes()
            yield {
                "kind": "era",
                "era": self.people.era,
                "bundles": done,
                "share": batch.share,
                "count": count,
                "all_theirs": self.people.compute_capture(batch.table, self.plan.seats),
                "void_share": sum(row["verdict"] == "VOID" for row in rows) / count,
                "void_first_share": sum(row["extended"] or row["verdict"] == "VOID" for row in rows) / count,
                "honest_stake": honest / self.first_stakes[0],
                "liar_stake": liars / self.people.invested if self.people.invested else 0.0,
                "liars_jailed": len(self.people.jailed & self.people.ever_liars),
                "liars_in_table": sum(m.operator_id in self.people.ever_liars for m in batch.table.members),
                "honest_slashed": len(self.people.honest_slashed),
                "treasury": self.people.registry.treasury,
            }
            self.people.pass_era()

    def _stakes(self) -> tuple[int, int]:
        return self.people.holdings(self.people.honest), self.people.holdings(self.people.ever_liars)

    def domain(self, batch: int, round_: int) -> bytes:
        """Round domain, from a beacon that follows from the seed."""
        beacon = keccak(f"{self.plan.seed} {self.plan.strategy} beacon {batch} {round_}".encode())
        market, post_hash = self.people.world.market.address, keccak(b"post hash %d" % batch)
        return compute_round_domain(31337, market, batch, post_hash, Stage.BUNDLE, round_, beacon)


class BatchPlay:
    """One batch of bundles, from its draw to the end of all its disputes."""

    def __init__(self, economy: Economy, first: int, count: int) -> None:
        self.economy, self.people, self.first = economy, economy.people, first
        self.plan, self.strategy = economy.plan, economy.strategy
        self.table: Table = self.people.table
        self.share = self.people.share_of(self.table)
        self.liars = frozenset(self.people.ever_liars)
        self.price = compute_task_price(FUEL, CLASS_PRICE, FUEL_UNIT)
        self.tallies = [Tally(first + i) for i in range(count)]
        self.disputes: list[DisputeRecord] = []
        self.void: dict[int, CarryRecord] = {}  # what can be extended
        self.as_market = self.people.call(self.people.world.market.address)
        self.as_disputes = self.people.call(self.people.world.disputes.address)

    def honest_vote(self, bundle: int) -> Vote:
        """What the program gives."""
        return Vote(keccak(b"result %d" % (self.first + bundle)))

    def play(self) -> None:
        """All rounds, then the disputes, then the rounds that requesters buy for what came to nothing, and theirs."""
        requester, shares = make_address("requester", 0), self.plan.seats * (1 + self.plan.rounds)
        bundles = range(len(self.tallies))
        self._play_rounds([CarryRecord(i, requester, self.price, 1, 0, shares) for i in bundles], 0, self.plan.rounds)
        self._judge_all()
        if extended := [record for record in self.void.values() if record.voters]:
            more = self.plan.rounds + 1
            self._play_rounds([self._extend(record, more) for record in extended], more, self.plan.rounds + more)
            self._judge_all()

    def _extend(self, record: CarryRecord, rounds: int) -> CarryRecord:
        """What `extend` makes of a VOID bundle: its votes stand, everything else begins anew."""
        self.tallies[record.bundle].extended = True
        shares = len(record.voters) + self.plan.seats * rounds
        return replace(record, pot=0, abstainers=(), shares=shares)

    def _judge_all(self) -> None:
        for record in self.disputes:
            self._judge(record)
        self.disputes.clear()

    def _play_rounds(self, pending: list[CarryRecord], first: int, last: int) -> None:
        for round_ in range(first, last + 1):
            terms = RoundTerms(self.plan.seats, round_, last, 0, self.plan.params.audit_bps)
            pending = self._play_round(terms, pending)

    def _play_round(self, terms: RoundTerms, pending: list[CarryRecord]) -> list[CarryRecord]:
        domain = self.economy.domain(self.first, terms.round)
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
        table, tally, honest = self.table, self.tallies[record.bundle], self.honest_vote(record.bundle)
        rows = compute_committee(domain, record.bundle, self.plan.seats, table.units, len(table.members))
        ids = tuple(int(table.members[row].operator_id) for row in rows)
        standing = tuple((int(table.members[m].operator_id), record.vote or honest) for m in record.voters)
        sight = Sight((self.first, record.bundle), tally.rounds, self.people.era, honest, ids, self.liars, standing)
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
        tally = self.tallies[record.bundle]
        tally.verdict, tally.vote = outcome.verdict, outcome.vote
        self.void.pop(record.bundle, None)
        if outcome.verdict is Verdict.DISPUTED:
            self.disputes.append(self._make_dispute(record, outcome))
        elif outcome.verdict is Verdict.VOID and not tally.extended:
            self.void[record.bundle] = carry_record(record, outcome)

    def _make_dispute(self, record: CarryRecord, outcome: BundleOutcome) -> DisputeRecord:
        return DisputeRecord(
            kind=DisputeKind.CONFLICT,
            batch_id=BatchId(self.first),
            bundle=record.bundle,
            tasks=record.tasks,
            requester=record.requester,
            price=record.price,
            pot=outcome.pot,
            escrow=outcome.locked,
            fee=0,
            audit_fee=0,
            collator=self.as_market.sender,
            class_id=CLASS,
            table=0,
            challenger=ZERO_ADDRESS,
            task=0,
            claim=bytes(32),
            votes=outcome.voters,
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

    def _judge(self, record: DisputeRecord) -> None:
        honest, tally = self.honest_vote(record.bundle), self.tallies[record.bundle]
        accused = sorted({vote for _, vote in record.votes})
        votes: dict[int, Vote] = {}
        for row, member in enumerate(self.table.members):
            operator = int(member.operator_id)
            vote = honest if operator not in self.liars else self.strategy.class_vote(operator, honest, accused)
            if vote is not None:
                votes[row] = vote
        windows = 1 if find_winner(self.table, votes) else self.plan.params.vote_windows
        window = WindowVotes(votes, {}, frozenset(), (windows - 1,) * len(self.table.members))
        ending = end_vote(record, Question((), record.roots), self.table, window)
        tally.disputed, tally.class_votes = True, len(votes)
        tally.verdict, tally.vote = ending.verdict, ending.root
        self._punish(record, ending)

    def _punish(self, record: DisputeRecord, ending: Ending) -> None:
        right = [member for member, vote in record.votes if vote == ending.root]
        self._pay(dict.fromkeys(right, record.price), dict.fromkeys(right, 1), 0, record.pot)
        work = Punishment(self.people.registry, self.as_disputes, record, self.table, ending.encoded_tally)
        taken = sum(work.punish_row(row) for row in range(len(ending.tally)))
        work.share_out(ending.aftermath, taken)
        self.people.note(work.events)

    # results

    def rows(self) -> Iterator[Row]:
        """One row a bundle."""
        for index, tally in enumerate(self.tallies):
            is_accepted = tally.verdict is Verdict.ACCEPTED
            is_wrong = is_accepted and tally.vote != self.honest_vote(index)
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
                "verdict": tally.verdict.name if tally.verdict else "PENDING",
                "wrong_accepted": is_wrong,
                "wrong_final": is_wrong,
            }
