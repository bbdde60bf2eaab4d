"""The registry by itself, model against contract: every error once, and a long walk through stake, eras and faults."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from tests.differential.actors import OUTSIDER, OWNERS, PARAMS, PRICE, SIGNERS, UNIT_WEI
from tests.differential.backend import AnvilBackend
from tests.differential.chain import running_chain
from tests.differential.driver import CAPACITY, CLASS
from tests.differential.parties import Parties
from tests.differential.projection import compare_tables

from quorate.chain.abi import Contract, load_artifact
from quorate.chain.rpc import JsonRpc
from quorate.chain.types import Deployment
from quorate.protocol.classes import Earning
from quorate.protocol.context import ZERO_ADDRESS
from quorate.protocol.types import Address, FineKind, OperatorId

ACTIONS = int(os.environ.get("QUORATE_DIFFERENTIAL_ACTIONS", "1200")) // 2
RUN = 150
WEIGHTS = {"registry": 10, "duty": 8, "era": 4, "slash": 0.3}

ELSEWHERE = {
    "TransferFailed",  # needs an owner with code: Attacks.t.sol
    "UnsafeParameters",  # of the constructor: SafeParams.t.sol, and tests/unit/protocol/test_params.py
    "MalformedPage",  # the guard of a buffer that is always large enough
    "DataNotStored",  # needs a call that is short of gas: StakeRegistry.t.sol
}

pytestmark = pytest.mark.anvil


@pytest.fixture(scope="module")
def chain() -> Iterator[tuple[JsonRpc, Deployment]]:
    with running_chain() as found:
        yield found


@pytest.fixture
def parties(chain: tuple[JsonRpc, Deployment]) -> Iterator[Parties]:
    rpc, deployment = chain
    snapshot = rpc.call("evm_snapshot")
    parties = Parties(AnvilBackend(rpc, deployment))
    parties.set_up()
    yield parties
    compare_tables(rpc, deployment, parties.world)
    rpc.call("evm_revert", snapshot)


class Refused:
    """Short names for calls that must end with a custom error's name."""

    def __init__(self, parties: Parties) -> None:
        self.parties, self.registry = parties, parties.world.registry

    def __call__(self, error: str, name: str, args: tuple[object, ...], sender: Address, value: int = 0) -> None:
        """The model's method has the name of the contract's, in snake case."""
        method = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
        model = getattr(self.registry, f"apply_{method}")
        found = self.parties.act(sender, Contract.REGISTRY, name, args, lambda call: model(call, *args), value)
        assert found is None, f"{name}{args} was accepted"
        assert self.parties.tally[f"{name} {error}"], f"{name}{args}: {self.parties.tally}"


def test_every_error_of_the_registry_once(parties: Parties) -> None:
    refused, owner, stranger = Refused(parties), OWNERS[0].address, OUTSIDER.address
    registry, key, protocol = parties.world.registry, SIGNERS[0].address, parties.backend.deployment.challenges
    profile, deposit = bytes(32), PARAMS.class_deposit
    refused("Unauthorized", "releasePot", (0,), stranger)
    refused("OperatorExists", "register", (key,), owner)
    refused("InvalidArgument", "register", (ZERO_ADDRESS,), stranger)
    refused("InvalidArgument", "setSigningKey", (ZERO_ADDRESS,), owner)
    refused("OperatorUnknown", "stake", (99,), stranger, 1)
    refused("EndpointTooLong", "announceEndpoint", ("x" * 257,), owner)
    refused("WrongValue", "createClass", (profile, UNIT_WEI, PRICE, True), stranger, deposit + 1)
    refused("InvalidArgument", "createClass", (profile, UNIT_WEI - 1, PRICE, True), stranger, deposit)
    refused("InvalidArgument", "createClass", (profile, UNIT_WEI, PARAMS.max_price + 1, True), stranger, deposit)
    refused("ClassUnknown", "leave", (99,), owner)
    refused("AlreadyMember", "join", (CLASS, 1, PRICE, 1), owner)
    parties.register(stranger, key, 20_000 * UNIT_WEI)
    refused("NotMember", "leave", (CLASS,), stranger)
    refused("NotMember", "setAsk", (CLASS, PRICE), stranger)
    refused("InvalidArgument", "join", (CLASS, 0, PRICE, 1), stranger)
    refused("InvalidArgument", "join", (CLASS, 1, PARAMS.max_price + 1, 1), stranger)
    refused("InvalidArgument", "join", (CLASS, 1, PRICE, 0), stranger)
    refused("LimitReached", "join", (CLASS, 10_240, PRICE, 1), stranger)
    refused("InsufficientStake", "unstake", (20_001 * UNIT_WEI,), stranger)
    refused("InvalidArgument", "unstake", (0,), stranger)
    refused("NothingToWithdraw", "withdraw", (), stranger)
    parties.act(stranger, Contract.REGISTRY, "unstake", (1,), lambda c: registry.apply_unstake(c, 1))
    refused("NotReleased", "withdraw", (), stranger)
    ask, capacity = registry.medians(CLASS)
    refused("EraNotOver", "advanceEra", (CLASS, ask, capacity), stranger)
    parties.wait(1, PARAMS.era_period)
    parties.join(stranger, CLASS, 1, PRICE, CAPACITY)
    ask, capacity = registry.medians(CLASS)
    refused("WrongMedian", "advanceEra", (CLASS, ask + 1, capacity), stranger)
    refused("WrongMedian", "advanceEra", (CLASS, ask, capacity - 1), stranger)
    refused("NothingToJudge", "judge", (1,), stranger)
    refused("NothingToJudge", "rejoin", (), stranger)
    _check_jail_and_ejection(parties, refused, protocol)
    provoked = {what.split()[1] for what in parties.tally if what.count(" ") == 1}
    errors = {entry["name"] for entry in load_artifact(Contract.REGISTRY)["abi"] if entry["type"] == "error"}
    assert errors - provoked == ELSEWHERE


def _check_jail_and_ejection(parties: Parties, refused: Refused, protocol: Address) -> None:
    registry, owner, whom = parties.world.registry, OWNERS[0].address, OperatorId(1)
    fine = (whom, 1, FineKind.UNREVEALED)
    for _ in range(4):
        parties.act(protocol, Contract.REGISTRY, "fine", fine, lambda c: registry.apply_fine(c, *fine))
    parties.wait(1, PARAMS.era_period)
    parties.act(protocol, Contract.REGISTRY, "judge", (whom,), lambda c: registry.apply_judge(c, whom))
    assert registry.operators[whom].offences == 1
    refused("Jailed", "rejoin", (), owner)
    parties.act(
        protocol, Contract.REGISTRY, "credit", ([Earning(whom, 5).encode()], 4),
        lambda c: registry.apply_credit(c, [Earning(whom, 5)], 4),
    )  # fmt: skip
    assert parties.tally["credit WrongValue"]
    parties.act(
        parties.backend.deployment.disputes, Contract.REGISTRY, "slash", (whom, True),
        lambda c: registry.apply_slash(c, whom, True),
    )  # fmt: skip
    refused("Ejected", "join", (CLASS, 1, PRICE, 1), owner)


def test_a_long_walk_through_stake_eras_and_faults(chain: tuple[JsonRpc, Deployment]) -> None:
    rpc, deployment = chain
    rng, sent = Random(os.environ.get("QUORATE_DIFFERENTIAL_SEED", "27")), 0
    reached: Counter[str] = Counter()
    while sent < ACTIONS:
        snapshot = rpc.call("evm_snapshot")
        parties = Parties(AnvilBackend(rpc, deployment))
        parties.set_up()
        while parties.actions < RUN:
            (action,) = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
            getattr(parties, action)(rng)
        compare_tables(rpc, deployment, parties.world)
        rpc.call("evm_revert", snapshot)
        sent += parties.actions
        reached += parties.tally
    print("\n".join(f"{count:6} {what}" for what, count in sorted(reached.items())))
    wanted = {"judge ok", "rejoin ok", "fine ok", "credit ok", "slashed", "advanceEra ok", "leave ok", "setAsk ok"}
    assert not (wanted - reached.keys() if ACTIONS >= 4 * RUN else ()), "not reached"
