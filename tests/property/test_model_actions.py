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
from quorate.protocol.dispute_pages import decode_cast, decode_question
from quorate.protocol.types import Address
from quorate.protocol.verdict import Conduct, decode_tally

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
    """Looks at each class vote's tally: it convicts all whose answer lost, and nobody else."""

    judged = 0

    def _learn(self, events: Sequence[ev.Event]) -> None:
        for event in events:
            if isinstance(event, ev.DisputeDecided):
                self._judge(event)
        super()._learn(events)

    def _judge(self, event: ev.DisputeDecided) -> None:
        known, rows = self.disputes[event.dispute_id], decode_tally(event.tally)
        wrong = {member for member, row in enumerate(rows) if row.conduct >= Conduct.WRONG}
        if not any(event.answer) or not known.question:
            assert not wrong
            return
        asked = decode_question(known.question)
        answers = dict(zip(known.decoded.roots, asked.answers, strict=True))
        must = {member for member, root in known.decoded.votes if answers[root] != event.answer}
        cast = decode_cast(known.cast, len(rows)).votes
        committed = (commit for page in known.pages for commit in page)
        may = must | {member for member, vote in cast.items() if vote != event.answer}
        may |= {
            member
            for member, _, commitment in committed
            if commitment in known.openings and known.openings[commitment].vote != event.answer
        }
        assert must <= wrong <= may
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
    for seed in range(80):
        tally += run(seed, 600).tally  # disputes come late in a run
    wanted = (
        "verdict ACCEPTED", "verdict CARRIED", "verdict DISPUTED", "verdict VOID", "reveal ok", "settle SeatOmitted",
        "slashed",
        "dispute CONFLICT verdict 1, a winner", "dispute CONFLICT verdict 4, none", "class vote window 2",
        "dispute CHALLENGE verdict 4, a winner", "dispute AUDIT verdict 1, a winner", "tasks in question 2",
    )  # fmt: skip
    missing = [what for what in wanted if not tally[what]]
    assert not missing, f"{missing} of {sorted(tally)}"
