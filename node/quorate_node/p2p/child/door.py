"""Who may be connected of those that dial us: the library counts all that ever came, and keeps the first for ever.

An identity costs nothing, so whoever is at the door last comes in, and the stranger that has been in for longest goes;
whom the node has believed stays. Some places are left for those whom the node dials itself.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import trio
from libp2p.host.basic_host import BasicHost
from libp2p.network.exceptions import SwarmException
from multiaddr import Multiaddr

MAX_HANDSHAKES = 64


class Door:
    """Lets connections in: at most `places` at once, and `is_known` tells whose are kept."""

    def __init__(
        self, host: BasicHost, places: int, is_known: Callable[[str], bool], counts: Counter[str], patience_s: float
    ) -> None:
        swarm: Any = host.get_network()
        self._swarm, self._upgrade = swarm, swarm.upgrade_inbound_raw_conn
        self._places, self._is_known, self._counts, self._patience_s = places, is_known, counts, patience_s
        self._waiting: OrderedDict[Any, None] = OrderedDict()
        self._inside: OrderedDict[Any, None] = OrderedDict()

    def guard(self) -> None:
        """Have all who dial us come through here."""
        self._swarm._inbound_limiter = trio.CapacityLimiter(math.inf)
        self._swarm.upgrade_inbound_raw_conn = self._enter

    async def _enter(self, raw: Any, address: Multiaddr) -> None:
        connection = await self._greet(raw, address)
        self._inside[connection] = None
        try:
            await self._make_room()
            await connection.event_closed.wait()
        finally:
            self._inside.pop(connection, None)
        raise SwarmException("the connection has ended")  # else the library would hold on to it until the host ends

    async def _greet(self, raw: Any, address: Multiaddr) -> Any:
        """A connection whose other end has shown who it is; who takes long for it makes room for others."""
        if len(self._waiting) >= MAX_HANDSHAKES:
            longest, _ = self._waiting.popitem(last=False)
            self._counts["handshakes too many"] += 1
            await longest.close()
        self._waiting[raw] = None
        try:
            return await self._upgrade(raw, address)
        finally:
            self._waiting.pop(raw, None)

    async def _make_room(self) -> None:
        while len(self._inside) > self._places:
            newest = next(reversed(self._inside))
            leaving = next((each for each in self._inside if not self._is_known(str(each.peer_id))), newest)
            del self._inside[leaving]
            self._counts["connections too many"] += 1
            with trio.move_on_after(self._patience_s):
                await self._swarm.close_peer(leaving.peer_id)
