"""Messages to nodes over libp2p: one of the ways of an outbox, the first where it is used at all.

A peer that does not answer is left to the other ways for a while, for what has a deadline must not wait for it twice.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from quorate.messages import ErrorDetail, Message
from quorate.protocol.errors import QuorateError
from quorate_node.messaging import Route, Undelivered
from quorate_node.p2p.discovery import Discovery
from quorate_node.p2p.port import PeerId, PeerNetwork
from quorate_node.p2p.wire.messages import open_answer, seal
from quorate_node.p2p.wire.network import NetworkName, WireError

if TYPE_CHECKING:
    from pydantic import BaseModel

REQUEST_S = 3.0
REACH_S = 3.0
REST_S = 20.0
MAX_RESTING = 4096


class PeerCarrier:
    """Asks the nodes whose identities routes name, and connects to them first where need be."""

    def __init__(self, network: PeerNetwork, name: NetworkName, discovery: Discovery) -> None:
        self._network, self._name, self._discovery = network, name, discovery
        self._reaching: dict[str, asyncio.Task[None]] = {}
        self._resting: dict[str, float] = {}
        self.sent, self.failed = 0, 0

    def reaches(self, route: Route) -> bool:
        """Whether a peer is known, and not just now out of reach."""
        if route.peer is None or route.peer == self._network.peer_id:
            return False
        return self._resting.get(route.peer, 0.0) <= asyncio.get_running_loop().time()

    async def ask(self, route: Route, kind: str, message: Message) -> bytes:
        """Bring a message; its answer as JSON. Raises Undelivered."""
        assert route.peer is not None
        peer = PeerId(route.peer)
        try:
            answer = await self._ask(peer, kind, message)
        except (QuorateError, TimeoutError) as error:
            self.failed += 1
            self._rest(peer)
            raise Undelivered(f"peer {peer} does not answer: {str(error) or type(error).__name__}") from error
        self.sent += 1
        if isinstance(answer, ErrorDetail):
            if answer.type == "UNSTAKED":
                self._discovery.forget(peer)
            raise Undelivered(f"peer {peer} refused {kind}: {answer.message}", answer.type)
        return answer.model_dump_json().encode()

    async def _ask(self, peer: PeerId, kind: str, message: Message) -> BaseModel | ErrorDetail:
        """Raises Unreached, NetworkDown, WireError for an answer that makes no sense, ValidationError for too much."""
        async with asyncio.timeout(REACH_S):
            await self._reach(peer)
        data = await self._network.request(
            peer, self._name.name_protocol(kind), seal(self._name, message), REQUEST_S
        )  # fmt: skip
        try:
            return open_answer(self._name, kind, data)
        except WireError as error:
            raise WireError(error.code, f"it answers senselessly: {error}") from error

    async def _reach(self, peer: PeerId) -> None:
        """Several messages wait for one dial."""
        task = self._reaching.get(peer)
        if task is None:
            task = asyncio.create_task(self._discovery.reach(peer))
            self._reaching[peer] = task
            task.add_done_callback(lambda _: self._reaching.pop(peer, None))
        await asyncio.shield(task)

    def _rest(self, peer: PeerId) -> None:
        self._resting[peer] = asyncio.get_running_loop().time() + REST_S
        while len(self._resting) > MAX_RESTING:
            self._resting.pop(next(iter(self._resting)))
