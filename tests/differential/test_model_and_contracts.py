"""The same random actions on the pure model and on the deployed contracts: state, money, events, errors must agree.

QUORATE_DIFFERENTIAL_ACTIONS sets about how many actions are sent in all (2000 when unset: about 25 s).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from tests.differential.backend import AnvilBackend
from tests.differential.chain import running_chain
from tests.differential.parties import Parties
from tests.differential.projection import compare_tables

from quorate.chain.rpc import JsonRpc
from quorate.chain.types import Deployment

ACTIONS = int(os.environ.get("QUORATE_DIFFERENTIAL_ACTIONS", "2000"))
STEPS = 60
"""Steps of one run; those of `mixed` are three, others find nothing to do. The start of each run is 18 actions."""
SEEDS = st.integers(0, 2**32 - 1)

pytestmark = [pytest.mark.anvil, pytest.mark.timeout(400)]


class Machine(RuleBasedStateMachine):
    """One rule for each kind of action; what exactly happens comes from a seed."""

    rpc: ClassVar[JsonRpc]
    deployment: ClassVar[Deployment]
    tally: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.snapshot = self.rpc.call("evm_snapshot")
        self.parties = Parties(AnvilBackend(self.rpc, self.deployment))
        self.parties.set_up()
        compare_tables(self.rpc, self.deployment, self.parties.world)

    def rng(self, seed: int) -> Random:
        """Chance from the seed and the run so far: hypothesis likes small seeds, and would repeat itself."""
        return Random(f"{seed} {self.parties.actions}")

    @rule(seed=SEEDS)
    def post(self, seed: int) -> None:
        self.parties.post(self.rng(seed))

    @rule(seed=SEEDS)
    def prove_beacon(self, seed: int) -> None:
        self.parties.prove_beacon(self.rng(seed))

    @rule(seed=SEEDS)
    def commit(self, seed: int) -> None:
        self.parties.commit(self.rng(seed))

    @rule(seed=SEEDS)
    def reveal(self, seed: int) -> None:
        self.parties.reveal(self.rng(seed))

    @rule(seed=SEEDS)
    def settle(self, seed: int) -> None:
        self.parties.settle(self.rng(seed))

    @rule(seed=SEEDS)
    def question(self, seed: int) -> None:
        rng = self.rng(seed)
        self.parties.publish(rng)
        self.parties.ask(rng)

    @rule(seed=SEEDS)
    def class_vote(self, seed: int) -> None:
        self.parties.commit_votes(self.rng(seed))

    @rule(seed=SEEDS)
    def punish(self, seed: int) -> None:
        self.parties.punish(self.rng(seed))

    @rule(seed=SEEDS)
    def settle_votes(self, seed: int) -> None:
        self.parties.settle_votes(self.rng(seed))

    @rule(seed=SEEDS)
    def mixed(self, seed: int) -> None:
        """Any action by its weight: whole lives of batches, and all that happens beside them."""
        rng = self.rng(seed)
        for _ in range(3):
            self.parties.step(rng)

    def teardown(self) -> None:
        compare_tables(self.rpc, self.deployment, self.parties.world)
        Machine.tally += self.parties.tally
        self.rpc.call("evm_revert", self.snapshot)


@pytest.fixture
def machine() -> Iterator[type[Machine]]:
    with running_chain() as (Machine.rpc, Machine.deployment):
        Machine.tally = Counter()
        yield Machine


def test_contracts_do_what_the_model_says(machine: type[Machine]) -> None:
    runs = max(1, round(ACTIONS / STEPS))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="QUORATE_DIFFERENTIAL_SEED" not in os.environ,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
    sent = sum(count for what, count in machine.tally.items() if what[0].islower() and what.count(" ") == 1)
    print(f"{sent} actions in {runs} runs")
    print("\n".join(f"{count:6} {what}" for what, count in sorted(machine.tally.items())))
    assert machine.tally["settle ok"]
