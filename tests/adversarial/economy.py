"""A class under attack, on the pure model's own decisions: draws, settlement, class votes, fines, slashes, jail.

Nothing is decided here. Committees come from `committee`, verdicts and money from `settlement`, class votes from
`verdict`, and stake moves through `registry`; this only plays the parties and counts. No signature is made and no page
encoded, so ten thousand bundles take minutes instead of hours.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.adversarial.auditing import audit_batch
from tests.adversarial.batch_play import BatchPlay, Feed, Plan, Row
from tests.adversarial.population import Population, split_equally, split_liars
from tests.adversarial.strategies import STRATEGIES, Strategy

from quorate.protocol.commitment import compute_round_domain
from quorate.protocol.hashing import keccak
from quorate.protocol.types import (
    Stage,
    Vote,
)


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
            batch = BatchPlay(self.plan, self.strategy, self.people, self.feed(done, count))
            batch.play()
            audit_batch(batch, self.audit_domain(done))
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

    def audit_domain(self, batch: int) -> bytes:
        """Domain of a batch's audits."""
        beacon = keccak(f"{self.plan.seed} {self.plan.strategy} audits {batch}".encode())
        market, post_hash = self.people.world.market.address, keccak(b"post hash %d" % batch)
        return compute_round_domain(31337, market, batch, post_hash, Stage.AUDIT, self.plan.rounds, beacon)

    def feed(self, first: int, count: int) -> Feed:
        """A batch whose beacons follow from the seed."""
        market, post_hash = self.people.world.market.address, keccak(b"post hash %d" % first)

        def domain(round_: int) -> bytes:
            beacon = keccak(f"{self.plan.seed} {self.plan.strategy} beacon {first} {round_}".encode())
            return compute_round_domain(31337, market, first, post_hash, Stage.BUNDLE, round_, beacon)

        return Feed(first, first, count, self.people.table, domain, lambda b: Vote(keccak(b"result %d" % (first + b))))
