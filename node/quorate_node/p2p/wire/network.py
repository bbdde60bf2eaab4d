"""Which network a message belongs to: one deployment of the contracts on one chain."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quorate.protocol.encoding import compute_domain_separator
from quorate.protocol.errors import DataError
from quorate.protocol.hashing import keccak
from quorate.protocol.types import Address

VERSION = 1
NETWORK_ID_BYTES = 16
_KIND = re.compile(r"[a-z][a-z-]{0,30}\Z")


class WireError(DataError):
    """Bytes of another node that are not taken; `code` is one word for programs."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class NetworkName:
    """A deployment: nodes of two of them share no topic and no protocol, and refuse each other's messages."""

    chain_id: int
    market: Address

    @property
    def separator(self) -> bytes:
        """EIP-712 domain separator of the market contract, 32 bytes: what records are signed under."""
        return compute_domain_separator(self.chain_id, self.market)

    @property
    def network_id(self) -> bytes:
        """16 bytes that stand for chain and contracts."""
        return keccak(b"quorate-network-v1" + self.separator)[:NETWORK_ID_BYTES]

    def name_topic(self, kind: str) -> str:
        """The gossip topic of a kind of announcement."""
        return self._name("topic", kind)

    def name_protocol(self, kind: str) -> str:
        """The libp2p protocol of a kind of request."""
        return self._name("request", kind)

    def _name(self, what: str, kind: str) -> str:
        if not _KIND.match(kind):
            raise ValueError(f"{kind!r} is no kind: lower-case letters and hyphens")
        return f"/quorate/v{VERSION}/{self.network_id.hex()}/{what}/{kind}"
