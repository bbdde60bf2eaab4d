"""Where money is paid: chains, their Filecoin Pay contracts, tokens and our operator contract; and their file.

A ledger needs the token alone (`Currency`). Whoever reads or writes the chain needs `PaymentContracts`; a node keeps
those, with the endpoint, in HOME/filecoin/network.json (`Settings`). On a local chain all are deployed (`deploying`);
on the public ones Filecoin Pay and USDFC are there, and our RetrievalOperator has to be named.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.chain.abi import Contract
from quorate.chain.types import parse_address, to_hex, write_atomically
from quorate.filecoin.spending import Currency
from quorate.protocol.errors import ConfigurationError
from quorate.protocol.types import Address

DEVNET_CHAIN_ID = 31415926
FINALITY_EPOCHS = 900
"""Blocks after which Filecoin's chain does not change any more, even without its fast finality."""
HOW_TO_SET = "`filecoin network set` tells which"


@dataclass(frozen=True, slots=True)
class Network:
    """A public network: the token USDFC, and the contract FilecoinPayV1."""

    currency: Currency
    pay: str


NETWORKS = {
    "mainnet": Network(
        Currency(314, "0x80b98d3aa09ffff255c3ba4a241111ff1262f045"), "0x23b1e018f08bb982348b15a86ee926eebf7f4daa"
    ),
    "calibration": Network(
        Currency(314159, "0xb3042734b608a1b16e9e86b374a3f3e389b4cdf0"), "0x09a0fdc2723fad1a7b8e3e00ee5df73841df55a0"
    ),
}


@dataclass(frozen=True, slots=True)
class PaymentContracts:
    """A chain's token, Filecoin Pay and RetrievalOperator; 20 bytes each.

    `block` is the first that can hold the operator's events. What frees money is believed `confirmations` blocks deep.
    """

    chain_id: int
    token: Address
    pay: Address
    operator: Address
    block: int = 0
    confirmations: int = 0

    @property
    def currency(self) -> Currency:
        """The token, as ledgers name it."""
        return Currency(self.chain_id, to_hex(self.token))

    @property
    def caip2(self) -> str:
        """The network as x402 names it, like eip155:314."""
        return f"eip155:{self.chain_id}"

    def address_of(self, contract: Contract) -> Address:
        """Address of one of TOKEN, PAY and OPERATOR."""
        return {Contract.TOKEN: self.token, Contract.PAY: self.pay, Contract.OPERATOR: self.operator}[contract]

    def to_json(self) -> dict[str, int | str]:
        """Field → number or address."""
        addresses = {name: to_hex(getattr(self, name)) for name in ("token", "pay", "operator")}
        return {"chain_id": self.chain_id, **addresses, "block": self.block, "confirmations": self.confirmations}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PaymentContracts:
        """Inverse of to_json. Raises KeyError, ValueError, TypeError or ConfigurationError."""
        addresses = {name: parse_address(values[name]) for name in ("token", "pay", "operator")}
        chain_id, block, depth = (int(values[name]) for name in ("chain_id", "block", "confirmations"))
        return cls(chain_id, **addresses, block=block, confirmations=depth)


@dataclass(frozen=True, slots=True)
class Settings:
    """An endpoint and the contracts that are paid through it."""

    rpc_url: str
    contracts: PaymentContracts

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_atomically(path, json.dumps({"rpc_url": self.rpc_url} | self.contracts.to_json(), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Settings:
        """Read what `save` wrote. Raises ConfigurationError when it is missing or malformed."""
        try:
            values = json.loads(path.read_text())
            return cls(str(values["rpc_url"]), PaymentContracts.from_json(values))
        except OSError as error:
            raise ConfigurationError(f"no Filecoin network at {path} ({error.strerror}): {HOW_TO_SET}") from error
        except (ValueError, KeyError, TypeError, ConfigurationError) as error:
            raise ConfigurationError(f"{path} is not a network's file ({error!r}): {HOW_TO_SET}") from error


def find_contracts(network: str, operator: str, block: int = 0) -> PaymentContracts:
    """Contracts of a public network, with the RetrievalOperator that is named. Raises ConfigurationError."""
    if network not in NETWORKS:
        raise ConfigurationError(f"{network!r} is no public network: give one of {', '.join(NETWORKS)}")
    found = NETWORKS[network]
    token, pay = parse_address(found.currency.token), parse_address(found.pay)
    chain_id = found.currency.chain_id
    return PaymentContracts(chain_id, token, pay, parse_address(operator), block, FINALITY_EPOCHS)
