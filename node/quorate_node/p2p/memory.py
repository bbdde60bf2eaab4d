"""The port without any network: nodes of one process that hear each other at once. What tests and trials use."""

from __future__ import annotations

import asyncio

from quorate.protocol.errors import ValidationError
from quorate_node.p2p.port import Handler, Heard, Listener, PeerId, Unreached


class Hub:
    """Where all the nodes of a network in memory meet."""

    def __init__(self) -> None:
        self.nodes: dict[PeerId, MemoryNetwork] = {}


class MemoryNetwork:
    """PeerNetwork in memory: gossip reaches whoever is connected, directly or through others."""

    def __init__(self, hub: Hub, peer_id: PeerId, address: str) -> None:
        self._hub, self._peer_id, self._address = hub, peer_id, address
        self._connected: set[PeerId] = set()
        self._listeners: dict[str, list[Listener]] = {}
        self._handlers: dict[str, tuple[Handler, int]] = {}
        hub.nodes[peer_id] = self

    @property
    def peer_id(self) -> PeerId:
        """This node's identity."""
        return self._peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its one address."""
        return (self._address,)

    def peers(self) -> tuple[PeerId, ...]:
        """Who is connected now."""
        return tuple(sorted(peer for peer in self._connected if peer in self._hub.nodes))

    def leave(self) -> None:
        """Be gone, for everybody."""
        del self._hub.nodes[self._peer_id]

    async def publish(self, topic: str, data: bytes) -> None:
        heard, waiting, seen = Heard(topic, self._peer_id, data), list(self.peers()), {self._peer_id}
        while waiting:
            peer = waiting.pop()
            if peer not in seen:
                seen.add(peer)
                listeners = self._hub.nodes[peer]._listeners.get(topic, ())
                if all(listener(heard) for listener in listeners):
                    waiting += self._hub.nodes[peer].peers()

    async def subscribe(self, topic: str, listener: Listener) -> None:
        self._listeners.setdefault(topic, []).append(listener)

    async def serve(self, protocol: str, handler: Handler, max_bytes: int) -> None:
        self._handlers[protocol] = (handler, max_bytes)

    async def request(self, peer: PeerId, protocol: str, data: bytes, timeout_s: float = 10.0) -> bytes:
        if peer not in self.peers():
            raise Unreached(f"{peer} is not connected", "NOT_CONNECTED")
        handler, max_bytes = self._hub.nodes[peer]._handlers.get(protocol, (None, 0))
        if handler is None or len(data) > max_bytes:
            raise Unreached(f"{peer} did not answer", "REFUSED")
        try:
            async with asyncio.timeout(timeout_s):
                return await handler(self._peer_id, data)
        except TimeoutError as error:
            raise Unreached(f"{peer} did not answer within {timeout_s} s", "TIMEOUT") from error
        except Exception as error:  # what a stranger's handler raises stays with it
            raise Unreached(f"{peer} did not answer", "REFUSED") from error

    async def connect(self, address: str, timeout_s: float = 10.0) -> PeerId:
        place, found, name = address.rpartition("/p2p/")
        if not found:
            raise ValidationError(f"{address!r} is no multiaddr that ends with /p2p/IDENTITY")
        node = self._hub.nodes.get(PeerId(name))
        if node is None or node._address != place:
            raise Unreached(f"{address} cannot be reached", "UNREACHED")
        self._connected.add(node.peer_id)
        node._connected.add(self._peer_id)
        return node.peer_id
