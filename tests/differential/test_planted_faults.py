"""A comparison that cannot fail shows nothing: with a rule of the model bent, the same run must differ.

Faults planted in the contracts themselves need a compiler: scripts/bench protocol --mutant NAME.
"""

from __future__ import annotations

import pytest
from tests.differential.campaign import run_campaign
from tests.differential.chain import running_chain

from quorate.protocol import settlement

pytestmark = pytest.mark.anvil
ACTIONS = 900


def test_another_fine_in_the_model_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_chain() as (rpc, deployment):
        assert not run_campaign(rpc, deployment, 150, seed=5).mismatches
        monkeypatch.setattr(settlement, "FINE_PRICES", settlement.FINE_PRICES - 1)
        found = run_campaign(rpc, deployment, ACTIONS, seed=5, most_mismatches=1)
    assert "settle" in found.mismatches[0]["mismatch"]
