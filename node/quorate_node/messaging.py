"""Messages between nodes: the port, where others answer, and an outbox that several ways may carry.

Where others answer is told by the chain, else by what libp2p found. Senders repeat what the chain does not show, so
nothing here retries; a way that does not get there is followed by the next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from quorate.protocol.errors import RecoverableError
from quorate.protocol.types import Address
from quorate_node.core.views import ChainView

if TYPE_CHECKING:
    from quorate.messages import Message, RootsMessage

PATIENCE_S = 10.0
"""For one message, the time in the queue for its host included."""
UNREACHABLE = "UNREACHABLE"
NEXT_WAY_CODES = frozenset({UNREACHABLE, "BUSY", "RATE", "STARTING", "UNSTAKED"})
"""Refusals of a way, not of the message: another way may do."""


class Undelivered(RecoverableError):
    """A message did not reach its receiver, or was refused; `code` is the receiver's word for it."""

    def __init__(self, message: str, code: str = UNREACHABLE) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a node answers: its URL, and its libp2p identity where it is known of the operator that is meant.

    Anybody may claim anybody's URL, so an identity is never looked up by it.
    """

    url: str | None
    peer: str | None = None

    def __str__(self) -> str:
        return self.url or f"peer {self.peer}"


class Locator(Protocol):
    """Where others can be reached."""

    def locate_operator(self, operator_id: int) -> str | None:
        """URL that an operator announced."""

    def locate_address(self, address: Address) -> str | None:
        """URL of the operator whose owner or signing key has this address."""

    def find_route(self, operator_id: int) -> Route | None:
        """How messages reach an operator."""

    def find_route_to(self, address: Address) -> Route | None:
        """How messages reach the operator whose owner or signing key has this address."""


class Messenger(Locator, Protocol):
    """Sends messages to nodes."""

    async def send(self, route: Route, kind: str, message: Message) -> None:
        """Deliver one message of a kind (`commitments`, `openings`, …). Raises Undelivered."""

    async def ask(self, route: Route, kind: str, message: Message) -> bytes:
        """Deliver a request that has an answer of its own (`orders`); the answer as JSON. Raises Undelivered."""

    async def ask_hints(self, url: str, job_id: bytes) -> list[str]:
        """URLs of gateways with a job's input, as a collator knows them; none when it does not answer."""

    async def ask_roots(self, url: str, epoch: str, since: int) -> RootsMessage:
        """What is whole at a node, from number `since` of a history on. Raises Undelivered."""

    async def ask_leaves(self, url: str, root: bytes) -> list[bytes]:
        """Leaves under a root as an operator serves them, unchecked; none when it does not answer."""


class ChainLocator:
    """Locator from EndpointAnnounced events; of operators that announced nothing, `find_url` may know (by owner).

    `find_peer` gives the libp2p identity by an owner's record.
    """

    def __init__(
        self,
        view: ChainView,
        find_url: Callable[[Address], str | None] = lambda owner: None,
        find_peer: Callable[[Address], str | None] = lambda owner: None,
    ) -> None:
        self._view, self._find_url, self._find_peer = view, find_url, find_peer

    def locate_operator(self, operator_id: int) -> str | None:
        operator = self._view.operators.get(operator_id)
        return (operator.url or self._find_url(operator.owner)) if operator else None

    def locate_address(self, address: Address) -> str | None:
        operator_id = self._view.operator_by_address.get(address)
        return None if operator_id is None else self.locate_operator(operator_id)

    def find_route(self, operator_id: int) -> Route | None:
        operator = self._view.operators.get(operator_id)
        if operator is None:
            return None
        route = Route(self.locate_operator(operator_id), self._find_peer(operator.owner))
        return route if route.url or route.peer else None

    def find_route_to(self, address: Address) -> Route | None:
        operator_id = self._view.operator_by_address.get(address)
        return None if operator_id is None else self.find_route(operator_id)


class Carrier(Protocol):
    """One way to nodes."""

    def reaches(self, route: Route) -> bool:
        """Whether it is worth a try."""

    async def ask(self, route: Route, kind: str, message: Message) -> bytes:
        """Bring a message; its answer as JSON. Raises Undelivered."""


@dataclass(slots=True)
class _Waiting:
    """A message that waits for its host; `taken` ends when it was taken or refused."""

    kind: str
    message: Message
    body: str
    taken: asyncio.Future[None]


class Outbox:
    """Brings messages by the first of some ways that gets there.

    One request at a time carries messages to a host, with all that waits for it by then: a farm's operators have
    hundreds of votes for one collator in a moment, and a request for each of them took most of a node's time.
    """

    def __init__(self, carriers: Sequence[Carrier]) -> None:
        self._carriers = tuple(carriers)
        self._queues: dict[Route, deque[_Waiting]] = {}
        self._carrying: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Give up what waits."""
        for task in self._carrying:
            task.cancel()

    async def ask(self, route: Route, kind: str, message: Message) -> bytes:
        """Bring one message by itself; its answer as JSON. Raises Undelivered."""
        problem = Undelivered(f"no way leads to {route}")
        for carrier in self._carriers:
            if not carrier.reaches(route):
                continue
            try:
                return await carrier.ask(route, kind, message)
            except Undelivered as error:
                problem = error
                if error.code not in NEXT_WAY_CODES:
                    raise
        raise problem

    async def send(self, route: Route, kind: str, message: Message) -> None:
        """Bring a message together with others for its host. Raises Undelivered."""
        waiting = _Waiting(kind, message, message.model_dump_json(), asyncio.get_running_loop().create_future())
        if route not in self._queues:
            self._queues[route] = deque()
            task = asyncio.create_task(self._carry(route, self._queues[route]))
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)
        self._queues[route].append(waiting)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await waiting.taken
        except TimeoutError as error:
            raise Undelivered(f"{route} does not answer: too much waits for it") from error

    async def _carry(self, route: Route, queue: deque[_Waiting]) -> None:
        """Bring all that waits for a host, as long as something does."""
        try:
            while queue:
                letters = _take_letters(queue)
                try:
                    refused = await self._bring(route, letters)
                except Undelivered as error:
                    refused = [error] * len(letters)
                for letter, reason in zip(letters, refused, strict=True):
                    if letter.taken.done():  # its sender has lost patience
                        continue
                    if reason is None:
                        letter.taken.set_result(None)
                    else:
                        letter.taken.set_exception(reason)
        finally:
            del self._queues[route]

    async def _bring(self, route: Route, letters: Sequence[_Waiting]) -> list[Undelivered | None]:
        from quorate.messages import Letter, MailAnswer, MailMessage

        if len(letters) == 1:
            await self.ask(route, letters[0].kind, letters[0].message)
            return [None]
        mail = MailMessage(letters=[Letter(kind=each.kind, body=each.body) for each in letters])
        answer = await self.ask(route, "mail", mail)
        try:
            refused = MailAnswer.model_validate_json(answer).refused
        except ValueError as error:
            raise Undelivered(f"{route} gives no answer to mail that makes sense") from error
        if len(refused) != len(letters):
            raise Undelivered(f"{route} answers {len(refused)} of {len(letters)} letters")
        return [
            Undelivered(f"{route} refused {letter.kind}: {each.message}", each.type) if each else None
            for letter, each in zip(letters, refused, strict=True)
        ]


def _take_letters(queue: deque[_Waiting]) -> list[_Waiting]:
    """As many as one request takes; at least one."""
    from quorate.messages import MAX_LETTERS, MAX_MAIL_BYTES

    taken = [queue.popleft()]
    size = 2 * len(taken[0].body)
    while queue and len(taken) < MAX_LETTERS and size + 2 * len(queue[0].body) < MAX_MAIL_BYTES:
        taken.append(queue.popleft())
        size += 2 * len(taken[-1].body)  # quotes within a text are escaped
    return taken
