"""Commands about stake: what is refused before anything is done, and a farm of which one operator cannot go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.node.registry_chain import UNIT, RegistryChain

from quorate.chain.account import SigningAccount
from quorate.chain.rpc import RpcError
from quorate.protocol.errors import ChainUnavailable, ProtocolViolation, RecoverableError, ValidationError
from quorate.protocol.params import ETHER, LOCAL
from quorate.protocol.types import Address
from quorate_node.cli import commands
from quorate_node.config import NodeConfig

HOME = Path("nowhere")
CONFIG = NodeConfig(HOME, "", HOME, HOME)
SAVINGS = "0x" + "77" * 20


@pytest.fixture
def keys() -> list[SigningAccount]:
    return [SigningAccount.from_key(bytes(31) + bytes((i,))) for i in (1, 2, 3)]


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch, keys: list[SigningAccount]) -> RegistryChain:
    """A chain, and a home with these keys."""
    found = RegistryChain()
    monkeypatch.setattr(commands, "_open_owners", lambda home, operators=None: (CONFIG, found, keys))
    return found


def _stake(wei: int, units: int = 0, **more: Any) -> dict[str, Any]:
    return commands.stake(HOME, wei, 1, units, more.get("ask", 10**9), more.get("capacity", 10**9))


def test_an_amount_that_is_not_there_leaves_no_class(chain: RegistryChain, keys: list[SigningAccount]) -> None:
    del keys[1:]
    chain.enroll(keys[0], ETHER, 10)
    with pytest.raises(ProtocolViolation, match=r"InsufficientStake.*1 ether"):
        commands.unstake(HOME, ETHER + 1, leave=True)
    assert chain.sent == []
    assert 1 in chain.class_members(1)
    assert commands.unstake(HOME, ETHER, leave=True)["unbonding_wei"] == ETHER, "what the class holds counts"
    assert chain.sent == ["leave", "unstake"]


def test_a_member_does_not_stake_more_by_mistake(chain: RegistryChain, keys: list[SigningAccount]) -> None:
    del keys[1:]
    chain.enroll(keys[0], ETHER, 5)
    chain.balances[keys[0].address] = 5 * ETHER
    with pytest.raises(ProtocolViolation, match=r"AlreadyMember.*nothing was staked.*without --units"):
        _stake(ETHER, 5)
    assert chain.sent == []
    assert _stake(ETHER)["stake_wei"] == 2 * ETHER


def test_the_others_of_a_farm_stake_where_one_is_a_member(chain: RegistryChain, keys: list[SigningAccount]) -> None:
    chain.enroll(keys[0], ETHER, 5)
    chain.balances[keys[0].address] = 3 * ETHER
    member, second, third = _stake(ETHER, 5)["operators"]
    assert "AlreadyMember" in member["problem"]
    assert [second["allocated_wei"], third["allocated_wei"]] == [5 * UNIT] * 2
    assert chain.operator(member["operator_id"]).stake == ETHER
    with pytest.raises(ValidationError, match="all 3 operators are refused; the first: AlreadyMember"):
        _stake(ETHER, 5)


@pytest.mark.parametrize("wish", [{"units": 11}, {"units": 5, "ask": LOCAL.max_price + 1}, {"units": 5, "capacity": 0}])
def test_what_cannot_be_joined_moves_no_money(chain: RegistryChain, keys: list[SigningAccount], wish: Any) -> None:
    chain.balances[keys[0].address] = 10 * ETHER
    with pytest.raises(ValidationError):
        _stake(ETHER, **wish)
    assert chain.sent == []


def test_a_farm_whose_money_does_not_reach_stakes_nothing(chain: RegistryChain, keys: list[SigningAccount]) -> None:
    chain.balances[keys[0].address] = 2 * ETHER
    with pytest.raises(ValidationError, match="holds 2 ether of the 3 ether"):
        _stake(ETHER, 5)
    assert chain.sent == []


def test_a_join_that_fails_after_all_is_told_with_the_stake(chain: RegistryChain, keys: list[SigningAccount]) -> None:
    del keys[1:]
    chain.balances[keys[0].address] = ETHER + 10**12  # for one transaction's gas, not for two
    with pytest.raises(RecoverableError, match=r"1 ether are staked, but class 1 is not joined.*insufficient funds"):
        _stake(ETHER, 5)
    assert chain.operator(1).stake == ETHER


@pytest.mark.parametrize("error", [ChainUnavailable("no answer"), RpcError("eth_call", -1, "busy")])
def test_a_farm_goes_on_past_an_operator_that_the_chain_does_not_answer(
    chain: RegistryChain, keys: list[SigningAccount], error: Exception
) -> None:
    for key in keys:
        chain.enroll(key, ETHER)
    chain.gone[keys[1].address] = error
    first, second, third = commands.unstake(HOME, ETHER, leave=False)["operators"]
    assert [first["unbonding_wei"], third["unbonding_wei"]] == [ETHER] * 2
    assert (second["operator_id"], second["problem"]) == (2, str(error))
    chain.gone |= {key.address: error for key in keys}
    with pytest.raises(RecoverableError, match="all 3 operators"):
        commands.withdraw(HOME)


def test_a_sweep_leaves_gas_for_the_withdraw_that_is_to_come(chain: RegistryChain, keys: list[SigningAccount]) -> None:
    """The second unbonds later than the others, the third has nothing to withdraw."""
    for key in keys[:2]:
        chain.enroll(key, ETHER)
    chain.balances[keys[2].address] = ETHER
    chain.now += 100
    chain.send(keys[0], commands.stakes.calls.unstake(ETHER))
    chain.now += LOCAL.unbonding_period
    chain.send(keys[1], commands.stakes.calls.unstake(ETHER))
    gas = chain.balance(keys[1].address)
    first, second, third = commands.withdraw(HOME, SAVINGS, sweep=True)["operators"]
    assert first["withdrawn_wei"] == ETHER
    release = chain.operator(2).release_at
    for words in ("NotReleased", "1 ether unbond until", str(release), "keeps what it holds"):
        assert words in second["problem"]
    assert chain.balance(keys[1].address) == gas
    assert "OperatorUnknown" in third["not_withdrawn"]
    assert chain.balance(Address(b"\x77" * 20)) == first["sent_wei"] + third["sent_wei"] > 2 * ETHER
    chain.now = release
    _, second, third = commands.withdraw(HOME, SAVINGS, sweep=True)["operators"]
    assert second["sent_wei"] > ETHER
    assert "OperatorUnknown" in third["problem"], "the refusal, not only that nothing is left for a transfer"
    assert "does not pay for a transfer" in third["problem"]


def test_one_who_is_no_operator_is_told_so(chain: RegistryChain, keys: list[SigningAccount]) -> None:
    del keys[1:]
    for command in (lambda: commands.rejoin(HOME), lambda: commands.unstake(HOME, 1, leave=True)):
        with pytest.raises(ProtocolViolation, match=r"OperatorUnknown.*`quorate-node stake AMOUNT`"):
            command()
    assert chain.sent == []
