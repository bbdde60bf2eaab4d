"""Gas of a job at full size stays what is committed, within 2 %, or 6 % where the draw decides.

scripts/bench gas measures the rest.
"""

from __future__ import annotations

from collections import Counter

import pytest
from tests.differential.chain import running_chain
from tests.differential.gas_snapshot import SNAPSHOT, compare_with_snapshot
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
        spent = [day.live(requesters, JOBS, JOBS) for _ in range(3)][-1]
    used: Counter[str] = Counter()
    for each in spent:
        used[each.name] += each.gas
    figures = {name: round(gas / JOBS) for name, gas in used.items()}
    differs = compare_with_snapshot({"per_job": {**figures, "total": round(sum(used.values()) / JOBS)}})
    assert not differs, "\n".join(differs)
    assert max(each.gas for each in spent) < MAX_TRANSACTION_GAS
