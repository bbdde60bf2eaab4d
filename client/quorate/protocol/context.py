"""What a call sees of the chain, and what every model needs: block, sender, value, recovered signers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from quorate.protocol.errors import ProtocolViolation
from quorate.protocol.types import Address

Recover = Callable[[bytes, bytes], Address | None]
"""(digest, 65-byte signature) → signer, or None when a contract would see no valid signature."""

AskWallet = Callable[[Address, bytes, bytes], bool]
"""(account, digest, signature) → whether its contract says, within WALLET_GAS, that it signed (EIP-1271)."""


def no_wallets(account: Address, digest: bytes, signature: bytes) -> bool:
    """A chain on which no account has code."""
    return False


ZERO_ADDRESS = Address(bytes(20))


@dataclass(frozen=True, slots=True)
class Block:
    """The block that a call is mined in; `hashes` answers the EVM's `blockhash` for the last 256."""

    number: int
    timestamp: int
    hashes: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls in which block, with how many wei."""

    sender: Address
    block: Block
    value: int = 0

    @property
    def now(self) -> int:
        """Chain time in unix seconds."""
        return self.block.timestamp


def require(condition: bool, name: str, *args: object) -> None:
    """Raise ProtocolViolation named like the Solidity custom error unless the condition holds."""
    if not condition:
        refuse(name, *args)


def refuse(name: str, *args: object) -> NoReturn:
    """Raise ProtocolViolation named like the Solidity custom error."""
    raise ProtocolViolation(name, *args)
