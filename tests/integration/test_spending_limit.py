"""Many processes on one limit, killed at every step: what `scripts/bench filecoin-limit` runs, in short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from tests.bench._redeeming import Market, open_market
from tests.bench._spending import STEPS, run_rounds

pytestmark = pytest.mark.anvil


@pytest.fixture(scope="module")
def market() -> Iterator[Market]:
    with open_market(1) as made:
        yield made


def test_no_cap_is_passed_by_processes_that_are_killed_at_every_step(market: Market) -> None:
    """Neither by what they signed, nor by what the chain says that providers redeemed of it, in any scope."""
    deaths: Counter[str] = Counter()
    for seed in range(40):  # chance kills: until it has done so at each step
        sums = run_rounds(market, 4, 0, seed, is_locked=True)
        assert sums.broken == []
        assert 0 < sums.redeemed == sums.signed <= sums.cap
        assert sums.redeemed <= sums.fees * 200
        deaths += Counter(sums.deaths)
        if seed >= 1 and all(deaths[name] for name in STEPS):
            return
    raise AssertionError(f"no process died at some step: {deaths}")


def test_without_the_lock_the_same_processes_pass_caps_and_the_chain_holds_the_total(market: Market) -> None:
    """Or the test above could not see it. What is allowed on the chain is never passed, whatever was signed."""
    for seed in range(20):
        sums = run_rounds(market, 3, 0, seed, is_locked=False)
        assert sums.redeemed <= sums.cap
        if any("signed" in each for each in sums.broken) and sums.signed > sums.cap:
            return
    raise AssertionError("a ledger without its lock passed as one with it")
