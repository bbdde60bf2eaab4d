"""Parameters at their limits: what the model's constructor and the contract's refuse, and under which name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from random import Random
from typing import Any

from eth_abi.abi import encode

from quorate.chain.abi import Contract, load_artifact, parse_interface
from quorate.chain.deploy import build_arguments
from quorate.chain.errors import translate
from quorate.chain.rpc import JsonRpc, RpcError
from quorate.chain.types import Deployment, to_hex
from quorate.protocol.errors import ProtocolViolation
from quorate.protocol.params import PRESETS, Params
from quorate.protocol.registry import Registry

DEPLOYMENTS = 60
"""How many are tried in a campaign."""


def check_deployments(
    rpc: JsonRpc, deployment: Deployment, rng: Random, load: Callable[[Contract], dict[str, Any]] = load_artifact
) -> Counter[str]:
    """Try to create registries under parameters of which one is changed; a tally of what they said.

    Raises AssertionError where contract and model differ, in the error or in what it names.
    """
    interface = parse_interface(load(Contract.REGISTRY))
    found: Counter[str] = Counter()
    for _ in range(DEPLOYMENTS):
        params = _change(rng, rng.choice(list(PRESETS.values())))
        wanted = _ask_model(params, deployment)
        arguments = build_arguments(params, deployment)[Contract.REGISTRY]
        data = interface.bytecode + encode(interface.constructor, arguments)
        said = _ask_contract(rpc, data)
        assert said == wanted, f"{params}: the contract says {said}, the model {wanted}"
        found[f"deploy {wanted[0] if wanted else 'ok'}"] += 1
    return found


def _change(rng: Random, params: Params) -> Params:
    name = rng.choice([field.name for field in fields(params)])
    value = getattr(params, name)
    # Widths are those of the smallest fields: everything here fits the struct.
    return replace(params, **{name: rng.choice((0, 1, 8, value // 2, min(value + value // 2 + 1, 255), value - 1))})


def _ask_model(params: Params, deployment: Deployment) -> tuple[str, ...] | None:
    try:
        Registry(params, deployment.market, deployment.disputes, deployment.challenges)
    except ProtocolViolation as violation:
        return violation.name, *map(str, violation.args_)
    return None


def _ask_contract(rpc: JsonRpc, data: bytes) -> tuple[str, ...] | None:
    (answer,) = rpc.batch([("eth_call", [{"data": to_hex(data)}, "latest"])])
    if not isinstance(answer, RpcError):
        return None
    violation = translate(answer)
    assert isinstance(violation, ProtocolViolation), violation
    return violation.name, *map(str, violation.args_)
