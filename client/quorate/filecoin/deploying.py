"""Contracts on a chain: all three on a local one, the RetrievalOperator alone where Filecoin Pay is.

Whoever deploys pays gas and has no power over what it deploys.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

from eth_abi.abi import encode

from quorate.chain.abi import Contract, load_interface
from quorate.chain.account import Signer
from quorate.chain.errors import translate
from quorate.chain.rpc import JsonRpc, RpcError, check_chain_id
from quorate.chain.sender import GAS_MARGIN, POLL_S
from quorate.chain.transactions import Transaction
from quorate.chain.types import parse_hex, to_hex
from quorate.filecoin.networks import PaymentContracts, find_contracts
from quorate.protocol.errors import ChainUnavailable, ProtocolViolation
from quorate.protocol.types import Address

LOCKUP_PERIOD = 2880
"""Epochs; a day on Filecoin. So long a provider can redeem from a rail that its reader has closed."""
DEVNET_SUPPLY = 10**9 * 10**18
"""Base units of the local token; all are the deployer's."""


def deploy_local(
    rpc_url: str, deployer: Signer, lockup_period: int = LOCKUP_PERIOD, supply: int = DEVNET_SUPPLY
) -> PaymentContracts:
    """Token, Filecoin Pay and operator on a chain without value. The key must not be used elsewhere meanwhile."""
    with closing(JsonRpc(rpc_url)) as rpc:
        chain_id, block = (int(each, 16) for each in rpc.batch_strict([("eth_chainId", []), ("eth_blockNumber", [])]))
        token = create(rpc, chain_id, deployer, Contract.TOKEN, deployer.address, supply)
        pay = create(rpc, chain_id, deployer, Contract.PAY)
        operator = create(rpc, chain_id, deployer, Contract.OPERATOR, pay, lockup_period)
        return PaymentContracts(chain_id, token, pay, operator, block)


def deploy_operator(
    rpc_url: str, network: str, deployer: Signer, lockup_period: int = LOCKUP_PERIOD
) -> PaymentContracts:
    """The operator on a public network, for whoever wants one of their own; it costs gas.

    Raises ConfigurationError for no such network, ChainUnavailable when the endpoint is another's.
    """
    found = find_contracts(network, to_hex(bytes(20)))
    with closing(JsonRpc(rpc_url)) as rpc:
        check_chain_id(rpc, found.chain_id)
        block = int(rpc.call("eth_blockNumber"), 16)
        operator = create(rpc, found.chain_id, deployer, Contract.OPERATOR, found.pay, lockup_period)
    return find_contracts(network, to_hex(operator), block)


def create(
    rpc: JsonRpc, chain_id: int, deployer: Signer, contract: Contract, *args: Any, timeout_s: float = 300.0
) -> Address:
    """Create a contract with estimated gas; its address. Raises ProtocolViolation, ChainUnavailable."""
    interface, sender = load_interface(contract), to_hex(deployer.address)
    data = interface.bytecode + encode(interface.constructor, args)
    count, block, tip, gas = rpc.batch(
        [
            ("eth_getTransactionCount", [sender, "pending"]),
            ("eth_getBlockByNumber", ["latest", False]),
            ("eth_maxPriorityFeePerGas", []),
            ("eth_estimateGas", [{"from": sender, "data": to_hex(data)}]),
        ]
    )
    for answer in (count, block, gas):
        if isinstance(answer, RpcError):
            raise translate(answer)
    tip_wei = 1 if isinstance(tip, RpcError) else int(tip, 16)
    fee = 2 * int(block.get("baseFeePerGas", "0x0"), 16) + tip_wei
    limit = min(int(gas, 16) * GAS_MARGIN[0] // GAS_MARGIN[1], int(block["gasLimit"], 16))
    raw = Transaction(chain_id, int(count, 16), None, data, limit, fee, tip_wei).sign(deployer)
    return _wait(rpc, contract, str(rpc.call("eth_sendRawTransaction", to_hex(raw))), timeout_s)


def _wait(rpc: JsonRpc, contract: Contract, transaction: str, timeout_s: float) -> Address:
    deadline = time.monotonic() + timeout_s
    while (found := rpc.call("eth_getTransactionReceipt", transaction)) is None:
        if time.monotonic() >= deadline:
            raise ChainUnavailable(f"transaction {transaction} was not mined in {timeout_s:g} s: look, then repeat")
        time.sleep(POLL_S)
    if int(found["status"], 16) != 1:
        raise ProtocolViolation("CreationFailed", contract.value, hint="its constructor reverted, or gas ran out")
    return Address(parse_hex(found["contractAddress"]))
