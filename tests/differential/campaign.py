"""Many random runs against deployed contracts, going on after a mismatch; and the same against a mutant of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.differential.backend import AnvilBackend
from tests.differential.deployments import DEPLOYMENTS, check_deployments
from tests.differential.projection import compare_tables
from tests.differential.rarities import provoke_rarities
from tests.differential.watching import WatchedParties

from quorate.chain.abi import Contract, load_artifact
from quorate.chain.rpc import JsonRpc
from quorate.chain.types import Deployment
from quorate.protocol.errors import QuorateError

RUN_ACTIONS = 500
"""Actions after which a run starts anew; disputes come late in a run."""


@dataclass(slots=True)
class Findings:
    """What a campaign has shown."""

    actions: int = 0
    runs: int = 0
    mismatches: list[dict[str, Any]] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)


def run_campaign(
    rpc: JsonRpc,
    deployment: Deployment,
    actions: int,
    seed: int,
    told: Callable[[dict[str, Any]], None] = lambda row: None,
    most_mismatches: int | None = None,
    load: Callable[[Contract], dict[str, Any]] = load_artifact,
) -> Findings:
    """Send about so many actions, each run on contracts that nobody has used.

    `told` gets a row for each run. Ends early with so many mismatches, if that is given. `load` gives what was
    deployed.
    """
    found = Findings()
    while found.actions < actions and (most_mismatches is None or len(found.mismatches) < most_mismatches):
        snapshot = rpc.call("evm_snapshot")
        parties = WatchedParties(AnvilBackend(rpc, deployment))
        row: dict[str, Any] = {"run": found.runs, "seed": f"{seed} {found.runs}", "mismatch": None}
        try:
            if found.runs == 0:
                parties.tally += check_deployments(rpc, deployment, Random(seed), load)
                parties.actions += DEPLOYMENTS
                before = rpc.call("evm_snapshot")
                rare = WatchedParties(AnvilBackend(rpc, deployment))
                rare.set_up()
                parties.tally += provoke_rarities(rare, rpc, deployment) + rare.tally
                parties.actions += rare.actions
                rpc.call("evm_revert", before)
                parties.backend.refresh()
            _play(parties, Random(row["seed"]), min(RUN_ACTIONS, actions - found.actions))
            compare_tables(rpc, deployment, parties.world)
        except (AssertionError, QuorateError) as error:
            row["mismatch"] = f"action {parties.actions}: {type(error).__name__}: {str(error)[:2000]}"
            found.mismatches.append(row)
        found.actions += parties.actions
        found.runs += 1
        found.tally += parties.tally
        found.seen += parties.seen
        told({**row, "actions": parties.actions, "tally": dict(parties.tally), "seen": dict(parties.seen)})
        rpc.call("evm_revert", snapshot)
    return found


def _play(parties: WatchedParties, rng: Random, actions: int) -> None:
    parties.set_up()
    while parties.actions < actions:
        parties.step(rng)
