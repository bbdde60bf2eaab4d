"""Messages between nodes over HTTP, and the questions of the data plane, which go by HTTP alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from quorate.protocol.errors import DataError, QuorateError
from quorate.protocol.types import Address
from quorate_node.core.views import ChainView
from quorate_node.messaging import PATIENCE_S, Carrier, ChainLocator, Outbox, Route, Undelivered
from quorate_node.providers import check_url

if TYPE_CHECKING:
    import httpx

    from quorate.messages import Message, RootsMessage

TIMEOUT_S = 5.0
MAX_AT_ONCE = 8
MAX_HOSTS = 10_000
MAX_ANSWER_BYTES = 1 << 20
REQUESTERS_KINDS = frozenset({"orders", "extensions"})


class HttpMessenger(ChainLocator):
    """Messenger over HTTP; `carriers` are other ways, which are tried first. Without `is_mail` they are the only ones
    for messages. `requests` counts what it asked of others over HTTP, by the name of the path.
    """

    def __init__(
        self, view: ChainView, *, is_local: bool, find_url: Callable[[Address], str | None] = lambda owner: None,
        find_peer: Callable[[Address], str | None] = lambda owner: None, carriers: Sequence[Carrier] = (),
        is_mail: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(view, find_url, find_peer)
        self._is_local = is_local
        self.requests = Counter[str]()
        self._client: httpx.AsyncClient | None = None
        self._lines: dict[str, asyncio.Semaphore] = {}  # by origin; those that are there were checked
        self._outbox = Outbox([*carriers, *([_HttpCarrier(self)] if is_mail else ())])

    async def close(self) -> None:
        """Give the connections back."""
        self._outbox.close()
        if self._client is not None:
            await self._client.aclose()

    async def send(self, route: Route, kind: str, message: Message) -> None:
        await self._outbox.send(route, kind, message)

    async def ask(self, route: Route, kind: str, message: Message) -> bytes:
        return await self._outbox.ask(route, kind, message)

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

    async def post(self, url: str, kind: str, body: bytes) -> bytes:
        """POST to a node's own routes; the answer's body. Raises Undelivered."""
        response = await self._request("POST", f"{url}/quorate/v1/{kind}", body)
        if (error := _find_refusal(url, kind, response)) is not None:
            raise error
        return response.content

    async def _request(self, method: str, url: str, body: bytes | None = None) -> httpx.Response:
        import httpx

        self.requests[url.partition("/quorate/v1/")[2].partition("?")[0].partition("/")[0]] += 1
        try:
            async with asyncio.timeout(PATIENCE_S), await self._line(url):
                return await self._answer(method, url, body)
        except DataError as error:
            raise Undelivered(str(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise Undelivered(f"{url} does not answer: {type(error).__name__}") from error

    async def _answer(self, method: str, url: str, body: bytes | None) -> httpx.Response:
        import httpx

        from quorate.answers import PLAIN, check_encoding

        if self._client is None:
            is_checked = not self._is_local
            self._client = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=is_checked, headers=PLAIN)
        async with self._client.stream(method, url, content=body) as response:
            check_encoding(response)
            content = b""
            async for chunk in response.aiter_raw():
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


class _HttpCarrier:
    """The way over HTTP."""

    def __init__(self, messenger: HttpMessenger) -> None:
        self._messenger = messenger

    def reaches(self, route: Route) -> bool:
        return route.url is not None

    async def ask(self, route: Route, kind: str, message: Message) -> bytes:
        assert route.url is not None
        # Who gets a requester's wish from a node does not hand it on: else it could go round.
        path = f"{kind}?passed_on=1" if kind in REQUESTERS_KINDS else kind
        return await self._messenger.post(route.url, path, message.model_dump_json().encode())


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
