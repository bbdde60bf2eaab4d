"""Questions about other nodes that are passed on to them, by whatever way leads there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from quorate.messages import StatusAnswer, StatusQuery
from quorate_node.messaging import Messenger, Undelivered

MAX_INQUIRIES = 4  # at once


@dataclass(slots=True)
class Inquirer:
    """Asks nodes how they are; `own_url` is where this very node is for others, which it does not ask."""

    messenger: Messenger
    own_url: str
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_INQUIRIES))

    def is_own(self, operator: int) -> bool:
        """Whether this node runs an operator."""
        route = self.messenger.find_route(operator)
        return route is not None and route.url == self.own_url

    async def ask_status(self, operator: int) -> dict[str, Any]:
        """What an operator's node says of itself; nobody vouches for it. Raises Undelivered."""
        route = self.messenger.find_route(operator)
        if route is None:
            raise Undelivered(f"nobody knows where operator {operator} answers: it has announced no address")
        async with self.slots:
            answer = await self.messenger.ask(route, "status", StatusQuery())
        try:
            return StatusAnswer.model_validate_json(answer).status
        except ValueError:
            raise Undelivered(f"what operator {operator} answers makes no sense") from None
