"""Ether between addresses of one operator's keys, and out of them."""

from __future__ import annotations

from dataclasses import dataclass

from quorate.chain.account import SigningAccount
from quorate.chain.gateway import JsonRpcGateway
from quorate.chain.rpc import RpcError
from quorate.chain.transactions import Transaction
from quorate.chain.types import parse_hex, to_hex
from quorate.cli.output import format_ether
from quorate.protocol.errors import ValidationError
from quorate.protocol.types import Address

MINED_S = 60.0
TRANSFER_GAS = 21_000
OPERATOR_GAS = 10_000_000  # what a farm's operator gets for transactions of its own, at the present highest fee


@dataclass(frozen=True, slots=True)
class _Terms:
    """What the chain asks for a plain transfer now; fees in wei for a gas."""

    nonce: int
    gas: int
    max_fee: int
    tip: int
    balance: int

    @property
    def affordable(self) -> int:
        """Wei that can be sent, once gas is paid."""
        return self.balance - self.gas * self.max_fee


def fund(gateway: JsonRpcGateway, payer: SigningAccount, address: Address, wei: int) -> None:
    """Send an operator's own address what it lacks to stake `wei` and to pay for transactions."""
    terms = _ask_terms(gateway, payer, address)
    missing = wei + OPERATOR_GAS * terms.max_fee - gateway.balance(address)
    if missing > 0:
        _transfer(gateway, payer, address, missing, terms)


def send_on(gateway: JsonRpcGateway, payer: SigningAccount, address: Address, most: int | None) -> tuple[int, str]:
    """Send at most `most` wei (None: all), as far as it reaches; what was sent, and the transaction.

    Of all, what gas might have cost more stays behind. Raises ValidationError when the payer cannot pay for gas.
    """
    terms = _ask_terms(gateway, payer, address)
    if terms.affordable <= 0:
        held = format_ether(terms.balance)
        raise ValidationError(f"{to_hex(payer.address)} holds {held}, which does not pay for a transfer")
    wei = terms.affordable if most is None else min(most, terms.affordable)
    return wei, _transfer(gateway, payer, address, wei, terms)


def _ask_terms(gateway: JsonRpcGateway, payer: SigningAccount, address: Address) -> _Terms:
    call = {"from": to_hex(payer.address), "to": to_hex(address), "value": "0x0"}
    count, balance, block, tip, gas = gateway.rpc.batch(
        [
            ("eth_getTransactionCount", [to_hex(payer.address), "pending"]),
            ("eth_getBalance", [to_hex(payer.address), "latest"]),
            ("eth_getBlockByNumber", ["latest", False]),
            ("eth_maxPriorityFeePerGas", []),
            ("eth_estimateGas", [call]),
        ]
    )
    for answer in (count, balance, block):
        if isinstance(answer, RpcError):
            raise answer
    if isinstance(gas, RpcError):
        raise ValidationError(f"{to_hex(address)} takes no ether: {gas}") from gas
    # A contract may need more than it says now; an address without code never does.
    limit = TRANSFER_GAS if int(gas, 16) <= TRANSFER_GAS else int(gas, 16) * 5 // 4
    tip_wei = 1 if isinstance(tip, RpcError) else int(tip, 16)
    max_fee = 2 * int(block.get("baseFeePerGas", "0x0"), 16) + tip_wei
    return _Terms(int(count, 16), limit, max_fee, tip_wei, int(balance, 16))


def _transfer(gateway: JsonRpcGateway, payer: SigningAccount, address: Address, wei: int, terms: _Terms) -> str:
    chain_id = gateway.deployment.chain_id
    transaction = Transaction(chain_id, terms.nonce, address, b"", terms.gas, terms.max_fee, terms.tip, wei)
    digest = parse_hex(gateway.rpc.call("eth_sendRawTransaction", to_hex(transaction.sign(payer))))
    gateway.wait(digest, MINED_S)
    return to_hex(digest)
