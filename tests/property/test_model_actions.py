"""Random actions of many parties on the pure model alone: money is conserved, statuses stay on their tables."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.differential.backend import ModelBackend
from tests.differential.driver import Driver
from tests.differential.parties import Parties

from quorate.protocol import events as ev
from quorate.protocol.types import Address, Verdict

STEPS = 120
SEEDS = st.integers(0, 2**32 - 1)


def run(seed: int, steps: int = STEPS) -> Parties:
    rng, parties = Random(seed), Parties(ModelBackend())
    parties.set_up()
    for _ in range(steps):
        parties.step(rng)  # the driver checks the invariants after every action
    return parties


@given(SEEDS)
@settings(max_examples=60)
def test_money_is_conserved_and_no_ledger_goes_below_zero(seed: int) -> None:
    run(seed).world.check_invariants()


class Refusals(Parties):
    """Compares the whole world before and after every refused call."""

    def act(self, *args: object, **kwargs: object) -> list[ev.Event] | None:
        before = copy.deepcopy(observe(self))
        found = Driver.act(self, *args, **kwargs)  # type: ignore[arg-type]
        if found is None:
            assert observe(self) == before
        return found


def observe(driver: Driver) -> dict[str, object]:
    w, m = driver.world, driver.world.market
    accounts: set[Address] = {*m.free, *m.escrow}
    return {
        "operators": w.registry.operators, "classes": w.registry.classes, "slots": m.slots, "queue": m.settled_slots,
        "ledgers": (w.registry.pots, w.registry.treasury, w.registry.balance, m.bonds, m.balance, m.sequence),
        "free": {a: m.free[a] for a in accounts if m.free[a]},
        "escrow": {a: m.escrow[a] for a in accounts if m.escrow[a]},
        "nonces": {a: n for a, n in m.nonces.items() if n.used}, "fuel": m.backlog, "disputes": w.disputes.open,
    }  # fmt: skip


@given(SEEDS)
@settings(max_examples=15)
def test_a_refused_call_leaves_no_trace(seed: int) -> None:
    rng, parties = Random(seed), Refusals(ModelBackend())
    parties.set_up()
    for _ in range(60):
        parties.step(rng)


class Judged(Parties):
    """Looks at each class vote's slashes: they hit all who said something else, and nobody else."""

    judged = 0

    def _learn(self, events: Sequence[ev.Event]) -> None:
        for event in events:
            if isinstance(event, ev.DisputeSettled):
                self._judge(event, {e.operator_id for e in events if isinstance(e, ev.OperatorSlashed)})
        super()._learn(events)

    def _judge(self, event: ev.DisputeSettled, slashed: set[int]) -> None:
        known = self.disputes[event.dispute_id]
        table = self.world.registry.classes[known.decoded.class_id].tables[known.decoded.table].table
        wrong = {member for member, vote in known.decoded.votes if vote != event.vote}
        if event.verdict == Verdict.VOID:
            assert not slashed
            return
        must = {int(table.members[member].operator_id) for member in wrong}
        committed = (commit for page in known.pages for commit in page)
        may = must | {
            int(table.members[member].operator_id)
            for member, _, commitment in committed
            if known.openings[commitment].vote != event.vote
        }
        assert must <= slashed <= may
        self.judged += 1


@given(SEEDS)
@settings(max_examples=15)
def test_only_wrong_votes_are_slashed(seed: int) -> None:
    rng, parties = Random(seed), Judged(ModelBackend())
    parties.set_up()
    for _ in range(STEPS):
        parties.step(rng)


def test_runs_reach_every_verdict_and_many_refusals() -> None:
    tally: Counter[str] = Counter()
    for seed in range(40):
        tally += run(seed).tally
    wanted = (
        "verdict ACCEPTED", "verdict CARRIED", "verdict DISPUTED", "verdict VOID", "reveal ok", "settle SeatOmitted",
        "dispute verdict 1", "dispute verdict 4", "slashed",
    )  # fmt: skip
    missing = [what for what in wanted if not tally[what]]
    assert not missing, f"{missing} of {sorted(tally)}"
