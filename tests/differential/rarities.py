"""Errors that chance does not reach, provoked on purpose: limits, an unjudged class, and what only the EVM knows.

The first are actions like all others, in model and contracts. The last depend on gas or on a receiver's code, which no
model foresees: the contracts alone are asked, by calls that change nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Any

from tests.differential.actors import COLLATORS, OUTSIDER, OWNERS, PARAMS, PRICE, SIGNERS, STAKE, UNIT_WEI, WALLETS
from tests.differential.driver import CAPACITY, CLASS
from tests.differential.parties import Parties

from quorate.chain.abi import Contract, load_interface
from quorate.chain.errors import translate
from quorate.chain.rpc import JsonRpc, RpcError
from quorate.chain.types import Deployment, to_hex
from quorate.protocol.encoding import encode_post_page
from quorate.protocol.errors import ProtocolViolation
from quorate.protocol.outcomes import Proof
from quorate.protocol.params import MAX_UNITS
from quorate.protocol.posting import apply_post
from quorate.protocol.types import ZERO32, Address, SignatureKind, SignedOrder, Terms

REFUSES_MONEY = "0x5f5ffd"
GAS_STEPS = tuple(range(2_000_000, 40_000, -4_000))
NOTHING = Proof(ZERO32, b"", (), ZERO32, b"", ())


def provoke_rarities(parties: Parties, rpc: JsonRpc, deployment: Deployment) -> Counter[str]:
    """Provoke each; a tally of what the contracts alone were asked. `parties` were set up, and nothing more."""
    _exceed_limits(parties)
    _challenge_where_nobody_judges(parties)
    found: Counter[str] = Counter()
    found["withdraw " + _pay_who_refuses(parties, rpc, deployment)] += 1
    # One after the other: what makes the second possible ends the first.
    for name, wanted, contract, prepare in (
        ("advanceEra", "DataNotStored", Contract.REGISTRY, _overdue_era),
        ("post", "MoreGas", Contract.MARKET, _wallet_page),
    ):
        said = set(_ask_with_less_and_less_gas(rpc, deployment.address_of(contract), prepare(parties)))
        assert wanted in said, f"{name} with little gas says {sorted(said)}, never {wanted}"
        found[f"{name} {wanted}"] += 1
    return found


def _exceed_limits(parties: Parties) -> None:
    owner = OWNERS[6].address
    parties.register(owner, SIGNERS[6].address, STAKE)
    parties.join(owner, CLASS, MAX_UNITS, PRICE, CAPACITY)
    assert parties.tally["join LimitReached"]


def _challenge_where_nobody_judges(parties: Parties) -> None:
    registry, market = parties.world.registry, parties.world.market
    parties.act(
        OUTSIDER.address, Contract.REGISTRY, "createClass", (bytes(32), UNIT_WEI, PRICE, False),
        lambda c: registry.apply_create_class(c, bytes(32), UNIT_WEI, PRICE, False), PARAMS.class_deposit,
    )  # fmt: skip
    class_id = len(registry.classes)
    parties.register(OWNERS[7].address, SIGNERS[7].address, STAKE)
    for owner in OWNERS[6:8]:
        parties.join(owner.address, class_id, 1, PRICE, CAPACITY)
    parties.advance_era(class_id)
    terms = Terms(class_id, 1, 0, 7, 0)
    values = (terms.class_id, terms.seats, terms.rounds, terms.commit_period, terms.fee_wei)
    parties.act(
        COLLATORS[0].address, Contract.MARKET, "post", (0, values, b"", False),
        lambda c: apply_post(market, c, 0, terms, b"", False)[1],
    )  # fmt: skip
    batch_id = market.slots[-1].batch_id
    parties.act(
        OUTSIDER.address, Contract.CHALLENGES, "challenge", (batch_id, NOTHING.as_tuple(), 0, 0, bytes(32)),
        lambda c: parties.world.challenges.apply_challenge(c, batch_id, NOTHING, 0, 0, bytes(32)),
    )  # fmt: skip
    assert parties.tally["challenge NotJudged"]


def _pay_who_refuses(parties: Parties, rpc: JsonRpc, deployment: Deployment) -> str:
    """Withdraw to a contract that takes no money."""
    who = Address(b"refuses money" + bytes(7))
    rpc.call("anvil_setCode", to_hex(who), REFUSES_MONEY)
    parties.deposit_for(who, 5)
    data = to_hex(load_interface(Contract.MARKET).encode_call("withdraw", 1))
    said = _ask(rpc, [{"from": to_hex(who), "to": to_hex(deployment.market), "data": data}])
    assert said == ["TransferFailed"], said
    return said[0]


def _overdue_era(parties: Parties) -> str:
    """A call that builds a table and would succeed with enough gas."""
    state = parties.world.registry.classes[CLASS]
    parties.act(
        OWNERS[0].address, Contract.REGISTRY, "setAsk", (CLASS, PRICE),
        lambda c: parties.world.registry.apply_set_ask(c, CLASS, PRICE),
    )  # fmt: skip
    if parties.now < state.era_end:
        parties.wait(2, state.era_end - parties.backend.timestamp + 2)
    medians = parties.world.registry.medians(CLASS)
    return to_hex(load_interface(Contract.REGISTRY).encode_call("advanceEra", CLASS, *medians))


def _wallet_page(parties: Parties) -> str:
    """A call that posts an order of a wallet."""
    parties.advance_era()
    terms = Terms(CLASS, 1, 0, 7, 0)
    order = parties._draw_order(Random(0), terms, WALLETS[0].address)
    page = encode_post_page([SignedOrder(order, bytes(32), SignatureKind.WALLET)])
    values = (terms.class_id, terms.seats, terms.rounds, terms.commit_period, terms.fee_wei)
    return to_hex(load_interface(Contract.MARKET).encode_call("post", 0, values, page, True))


def _ask_with_less_and_less_gas(rpc: JsonRpc, to: Address, data: str) -> Iterable[str]:
    caller = to_hex(COLLATORS[0].address)
    return _ask(rpc, [{"from": caller, "to": to_hex(to), "data": data, "gas": hex(gas)} for gas in GAS_STEPS])


def _ask(rpc: JsonRpc, calls: list[dict[str, Any]]) -> list[str]:
    """Names of the custom errors that calls end with; those that end otherwise are left out."""
    answers = rpc.batch([("eth_call", [call, "latest"]) for call in calls])
    said = [translate(answer) for answer in answers if isinstance(answer, RpcError)]
    return [each.name for each in said if isinstance(each, ProtocolViolation)]
