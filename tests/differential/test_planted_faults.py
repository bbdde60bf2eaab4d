"""A comparison that cannot fail shows nothing: with a rule of the model bent, the same run must differ.

Faults planted in the contracts themselves need a compiler: scripts/bench protocol --mutant NAME.
"""

from __future__ import annotations

import pytest
from tests.differential.campaign import run_campaign
from tests.differential.chain import running_chain
from tests.differential.mutants import MUTANTS, ROOT, plant

from quorate.protocol import settlement

ACTIONS = 900


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_every_fault_has_its_place_in_the_sources(name: str) -> None:
    mutant = MUTANTS[name]
    text = (ROOT / "contracts" / "src" / mutant.source).read_text()
    assert plant(mutant, text) != text


@pytest.mark.anvil
@pytest.mark.timeout(400)
def test_another_fine_in_the_model_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_chain() as (rpc, deployment):
        assert not run_campaign(rpc, deployment, 150, seed=5).mismatches
        monkeypatch.setattr(settlement, "FINE_PRICES", settlement.FINE_PRICES - 1)
        found = run_campaign(rpc, deployment, ACTIONS, seed=5, most_mismatches=1)
    assert "settle" in found.mismatches[0]["mismatch"]
