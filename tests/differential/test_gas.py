"""Gas of a job at full size stays what is committed, within 2 %; scripts/bench gas measures the rest."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.differential.chain import running_chain
from tests.differential.gas_snapshot import BATCHES, SNAPSHOT, compare_with_snapshot
from tests.differential.market_day import MarketDay

from quorate.protocol.paging import MAX_TRANSACTION_GAS
from quorate.protocol.params import PRODUCTION

JOBS = 500

pytestmark = [pytest.mark.anvil, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.mark.skipif(not SNAPSHOT.exists(), reason="no figures are committed yet: scripts/bench gas --write")
def test_a_job_costs_what_is_committed() -> None:
    with running_chain(params=PRODUCTION) as (rpc, deployment):
        day = MarketDay(rpc, deployment, operators=1000)
        requesters = day.make_requesters(50)
        lives = [day.live(requesters, JOBS, JOBS) for _ in range(2 + BATCHES)][2:]  # the first two write new slots
    used: Counter[str] = Counter()
    spent = [each for life in lives for each in life]
    for each in spent:
        used[each.name] += each.gas
    figures = {name: round(gas / (BATCHES * JOBS)) for name, gas in used.items()}
    differs = compare_with_snapshot({"per_job": {**figures, "total": round(sum(used.values()) / (BATCHES * JOBS))}})
    assert not differs, "\n".join(differs)
    assert max(each.gas for each in spent) < MAX_TRANSACTION_GAS
