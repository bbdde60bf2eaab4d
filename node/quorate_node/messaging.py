"""Messages between nodes: the port, and HTTP. libp2p is to become another adapter.

Senders repeat what the chain does not show, so nothing here retries.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from quorate.protocol.errors import DataError, QuorateError, RecoverableError
from quorate.protocol.types import Address
from quorate_node.core.views import ChainView
from quorate_node.providers import check_url

if TYPE_CHECKING:
    import httpx

    from quorate.messages import Message, RootsMessage

TIMEOUT_S = 5.0
PATIENCE_S = 2 * TIMEOUT_S  # with the time in the queue for a host
MAX_AT_ONCE = 8
MAX_HOSTS = 10_000
MAX_ANSWER_BYTES = 1 << 20


class Undelivered(RecoverableError):
    """A message did not reach its receiver, or was refused; `code` is the receiver's word for it."""

    def __init__(self, message: str, code: str = "UNREACHABLE") -> None:
        self.code = code
        super().__init__(message)


class Locator(Protocol):
    """Where others can be reached."""

    def locate_operator(self, operator_id: int) -> str | None:
        """URL that an operator announced."""

    def locate_address(self, address: Address) -> str | None:
        """URL of the operator whose owner or signing key has this address."""


class Messenger(Locator, Protocol):
    """Sends messages to nodes."""

    async def send(self, url: str, kind: str, message: Message) -> None:
        """Deliver one message of a kind (`commitments`, `openings`, …). Raises Undelivered."""

    async def ask_hints(self, url: str, job_id: bytes) -> list[str]:
        """URLs of gateways with a job's input, as a collator knows them; none when it does not answer."""

    async def ask_roots(self, url: str, epoch: str, since: int) -> RootsMessage:
        """What is whole at a node, from number `since` of a history on. Raises Undelivered."""

    async def ask_leaves(self, url: str, root: bytes) -> list[bytes]:
        """Leaves under a root as an operator serves them, unchecked; none when it does not answer."""


class ChainLocator:
    """Locator from EndpointAnnounced events."""

    def __init__(self, view: ChainView) -> None:
        self._view = view

    def locate_operator(self, operator_id: int) -> str | None:
        operator = self._view.operators.get(operator_id)
        return operator.url or None if operator else None

    def locate_address(self, address: Address) -> str | None:
        operator_id = self._view.operator_by_address.get(address)
        return None if operator_id is None else self.locate_operator(operator_id)


@dataclass(slots=True)
class _Letter:
    """A message that waits for its host; `taken` ends when it was taken or refused."""

    kind: str
    body: str
    taken: asyncio.Future[None]


class HttpMessenger(ChainLocator):
    """Messenger over HTTP.

    One request at a time carries messages to a host, with all that waits for it by then: a farm's operators have
    hundreds of votes for one collator in a moment, and a request for each of them took most of a node's time.
    """

    def __init__(self, view: ChainView, *, is_local: bool) -> None:
        super().__init__(view)
        self._is_local = is_local
        self._client: httpx.AsyncClient | None = None
        self._lines: dict[str, asyncio.Semaphore] = {}  # by origin; those that are there were checked
        self._outbox: dict[str, deque[_Letter]] = {}
        self._carrying: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Give the connections back."""
        for task in self._carrying:
            task.cancel()
        if self._client is not None:
            await self._client.aclose()

    async def send(self, url: str, kind: str, message: Message) -> None:
        body = message.model_dump_json()
        if url not in self._outbox:
            self._outbox[url] = deque()
            task = asyncio.create_task(self._carry(url, self._outbox[url]))
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)
        letter = _Letter(kind, body, asyncio.get_running_loop().create_future())
        self._outbox[url].append(letter)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await letter.taken
        except TimeoutError as error:
            raise Undelivered(f"{url} does not answer: too much waits for it") from error

    async def _carry(self, url: str, waiting: deque[_Letter]) -> None:
        """Bring all that waits for a host, as long as something does."""
        try:
            while waiting:
                letters = _take_letters(waiting)
                try:
                    refused = await self._bring(url, letters)
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
            del self._outbox[url]

    async def _bring(self, url: str, letters: Sequence[_Letter]) -> list[Undelivered | None]:
        from quorate.messages import Letter, MailAnswer, MailMessage

        if len(letters) == 1:
            response = await self._request("POST", f"{url}/quorate/v1/{letters[0].kind}", letters[0].body.encode())
            return [_find_refusal(url, letters[0].kind, response)]
        mail = MailMessage(letters=[Letter(kind=each.kind, body=each.body) for each in letters])
        response = await self._request("POST", f"{url}/quorate/v1/mail", mail.model_dump_json().encode())
        if (error := _find_refusal(url, "mail", response)) is not None:
            raise error
        try:
            refused = MailAnswer.model_validate_json(response.content).refused
        except ValueError as error:
            raise Undelivered(f"{url} gives no answer to mail that makes sense") from error
        if len(refused) != len(letters):
            raise Undelivered(f"{url} answers {len(refused)} of {len(letters)} letters")
        return [
            Undelivered(f"{url} refused {letter.kind}: {each.message}", each.type) if each else None
            for letter, each in zip(letters, refused, strict=True)
        ]

    async def ask_hints(self, url: str, job_id: bytes) -> list[str]:
        from quorate.messages import HintsMessage

        try:
            response = await self._request("GET", f"{url}/quorate/v1/hints/0x{job_id.hex()}")
            return HintsMessage.model_validate_json(response.content).providers if response.status_code == 200 else []
        except (QuorateError, ValueError):
            return []

    async def ask_roots(self, url: str, epoch: str, since: int) -> RootsMessage:
        from quorate.messages import RootsMessage

        response = await self._request("GET", f"{url}/quorate/v1/roots?epoch={epoch}&since={since}")
        if (error := _find_refusal(url, "roots", response)) is not None:
            raise error
        try:
            return RootsMessage.model_validate_json(response.content)
        except ValueError as error:
            raise Undelivered(f"{url} does not tell its roots in a way that makes sense") from error

    async def ask_leaves(self, url: str, root: bytes) -> list[bytes]:
        from quorate.messages import LeavesMessage

        try:
            response = await self._request("GET", f"{url}/quorate/v1/leaves/{root.hex()}")
            found = LeavesMessage.model_validate_json(response.content).leaves if response.status_code == 200 else []
            return [bytes.fromhex(leaf) for leaf in found]
        except (QuorateError, ValueError):
            return []

    async def _request(self, method: str, url: str, body: bytes | None = None) -> httpx.Response:
        import httpx

        try:
            async with asyncio.timeout(PATIENCE_S), await self._line(url):
                return await self._answer(method, url, body)
        except DataError as error:
            raise Undelivered(str(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise Undelivered(f"{url} does not answer: {type(error).__name__}") from error

    async def _answer(self, method: str, url: str, body: bytes | None) -> httpx.Response:
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=not self._is_local)
        async with self._client.stream(method, url, content=body) as response:
            content = b""
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise Undelivered(f"{url} answers with more than {MAX_ANSWER_BYTES} bytes")
        return httpx.Response(response.status_code, content=content)

    async def _line(self, url: str) -> asyncio.Semaphore:
        """Who may speak to a host now; of one that was not asked before its address is looked at first."""
        origin = "/".join(url.split("/", 3)[:3])
        if origin not in self._lines:
            await asyncio.to_thread(check_url, origin, is_local=self._is_local)
            if len(self._lines) > MAX_HOSTS:
                self._lines.clear()
            self._lines.setdefault(origin, asyncio.Semaphore(MAX_AT_ONCE))
        return self._lines[origin]


def _take_letters(waiting: deque[_Letter]) -> list[_Letter]:
    """As many as one request takes; at least one."""
    from quorate.messages import MAX_LETTERS, MAX_MAIL_BYTES

    taken = [waiting.popleft()]
    size = 2 * len(taken[0].body)
    while waiting and len(taken) < MAX_LETTERS and size + 2 * len(waiting[0].body) < MAX_MAIL_BYTES:
        taken.append(waiting.popleft())
        size += 2 * len(taken[-1].body)  # quotes within a text are escaped
    return taken


def _find_refusal(url: str, kind: str, response: httpx.Response) -> Undelivered | None:
    if response.status_code < 400:
        return None
    code, text = _explain(response)
    return Undelivered(f"{url} refused {kind}: {text}", code)


def _explain(response: httpx.Response) -> tuple[str, str]:
    from quorate.messages import ErrorMessage

    try:
        detail = ErrorMessage.model_validate_json(response.content).error
    except ValueError:
        return "UNREACHABLE", f"status {response.status_code}"
    return detail.type, detail.message
