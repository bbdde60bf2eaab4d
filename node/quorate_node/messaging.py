"""Messages between nodes: the port, and HTTP. libp2p is to become another adapter.

Senders repeat what the chain does not show, so nothing here retries.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from quorate.protocol.errors import DataError, QuorateError, RecoverableError
from quorate.protocol.types import Address
from quorate_node.core.views import ChainView
from quorate_node.providers import check_url

if TYPE_CHECKING:
    import httpx

    from quorate.messages import Message

TIMEOUT_S = 5.0
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


class HttpMessenger(ChainLocator):
    """Messenger over HTTP."""

    def __init__(self, view: ChainView, *, is_local: bool) -> None:
        super().__init__(view)
        self._is_local = is_local
        self._client: httpx.AsyncClient | None = None
        self._checked: set[str] = set()

    async def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            await self._client.aclose()

    async def send(self, url: str, kind: str, message: Message) -> None:
        response = await self._request("POST", f"{url}/quorate/v1/{kind}", message.model_dump_json().encode())
        if response.status_code >= 400:
            code, text = _explain(response)
            raise Undelivered(f"{url} refused {kind}: {text}", code)

    async def ask_hints(self, url: str, job_id: bytes) -> list[str]:
        from quorate.messages import HintsMessage

        try:
            response = await self._request("GET", f"{url}/quorate/v1/hints/0x{job_id.hex()}")
            return HintsMessage.model_validate_json(response.content).providers if response.status_code == 200 else []
        except (QuorateError, ValueError):
            return []

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

        if self._client is None:
            self._client = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=not self._is_local)
        try:
            await self._check(url)
            async with self._client.stream(method, url, content=body) as response:
                content = b""
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        raise Undelivered(f"{url} answers with more than {MAX_ANSWER_BYTES} bytes")
            return httpx.Response(response.status_code, content=content)
        except DataError as error:
            raise Undelivered(str(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Undelivered(f"{url} does not answer: {type(error).__name__}") from error

    async def _check(self, url: str) -> None:
        origin = "/".join(url.split("/", 3)[:3])
        if origin not in self._checked:
            await asyncio.to_thread(check_url, origin, is_local=self._is_local)
            if len(self._checked) > 10_000:
                self._checked.clear()
            self._checked.add(origin)


def _explain(response: httpx.Response) -> tuple[str, str]:
    from quorate.messages import ErrorMessage

    try:
        detail = ErrorMessage.model_validate_json(response.content).error
    except ValueError:
        return "UNREACHABLE", f"status {response.status_code}"
    return detail.type, detail.message
