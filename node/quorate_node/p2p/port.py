"""What the node sees of the network: a port, whoever carries it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NewType, Protocol

from quorate.protocol.errors import RecoverableError

PeerId = NewType("PeerId", str)
"""Base58 of a libp2p identity's public key; whoever we are connected to has proven to hold it."""


class NetworkDown(RecoverableError):
    """The libp2p host is not running now: it is restarted; the chain and HTTP go on."""


class Unreached(RecoverableError):
    """A peer did not answer: not connected, too slow, or it refused; `code` is one word for programs."""

    def __init__(self, message: str, code: str = "UNREACHED") -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Heard:
    """One gossip message. Its author signed it; that it is true is another matter."""

    topic: str
    author: PeerId
    data: bytes


Handler = Callable[[PeerId, bytes], Awaitable[bytes]]
"""Answers a peer's request; an exception refuses it without a word."""
Listener = Callable[[Heard], bool]
"""Hears gossip and says whether it is believed: only then it is passed on. Must not block."""


class PeerNetwork(Protocol):
    """Discovery, announcements and small requests between nodes."""

    @property
    def peer_id(self) -> PeerId:
        """This node's identity."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Multiaddrs under which this node is reached, without its identity."""

    async def publish(self, topic: str, data: bytes) -> None:
        """Say something to all who listen to a topic. Raises NetworkDown, or ValidationError when it is too large."""

    async def subscribe(self, topic: str, listener: Listener) -> None:
        """Hear a topic from now on, also after a restart of the host; each message once."""

    async def serve(self, protocol: str, handler: Handler, max_bytes: int) -> None:
        """Answer requests of a protocol, of at most `max_bytes`, from now on."""

    async def request(self, peer: PeerId, protocol: str, data: bytes, timeout_s: float = 10.0) -> bytes:
        """Ask a connected peer. Raises Unreached or NetworkDown."""

    async def connect(self, address: str, timeout_s: float = 10.0) -> PeerId:
        """Connect to a multiaddr that ends with /p2p/IDENTITY. Raises Unreached or NetworkDown."""

    def peers(self) -> tuple[PeerId, ...]:
        """Who is connected now."""
