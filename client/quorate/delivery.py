"""Handing an order to a collator, and content to a node, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx

from quorate.chain.types import to_hex
from quorate.messages import ExtensionMessage, OrderMessage
from quorate.protocol.errors import ConfigurationError, RecoverableError, ValidationError
from quorate.protocol.jsontext import load_json
from quorate.protocol.types import JobId, SignedOrder
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid

ORDERS_PATH = "/quorate/v1/orders"
EXTENSIONS_PATH = "/quorate/v1/extensions"
HINTS_PATH = "/quorate/v1/hints"
IMPORT_PATH = "/quorate/v1/import"
TIMEOUT_S = 15.0
HINTS_TIMEOUT_S = 1.0
PUSH_TIMEOUT_S = 120.0


class CollatorAway(RecoverableError):
    """No collator took the order; it was not refused either."""


class OrderRefused(ValidationError):
    """A collator looked at the order and will not post it."""


@contextmanager
def open_http(url: str, timeout_s: float = TIMEOUT_S) -> Iterator[httpx.Client]:
    """A client for one origin; a proxy from the environment never sees loopback."""
    parts = urlsplit(url)
    is_loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
    with httpx.Client(timeout=timeout_s, verify=parts.scheme == "https", trust_env=not is_loopback) as client:
        yield client


def check_provider_urls(providers: Sequence[str]) -> None:
    """Raises ValidationError for a provider that is not an HTTP URL."""
    for url in providers:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or any(each.isspace() for each in url):
            raise ValidationError(f"provider {url!r} is not a gateway's URL: it begins with http:// or https://")


def send_order(signed: SignedOrder, job_id: JobId, collators: Sequence[str], providers: Sequence[str]) -> str:
    """Hand an order to the first collator that takes it; returns that collator's URL.

    `providers` are URLs of gateways that have the spec, the module and the input. The same order may reach several
    collators: its nonce lets one of them post it. Raises OrderRefused when one refuses it, CollatorAway when nobody
    answers.
    """
    if not collators:
        raise ConfigurationError("no collator is configured: set QUORATE_COLLATORS to URLs of nodes that collate")
    body = OrderMessage.from_signed(signed, list(providers)).model_dump_json()
    problems = []
    for url in collators:
        try:
            with open_http(url) as client:
                answer = client.post(url + ORDERS_PATH, content=body, headers={"Content-Type": "application/json"})
        except httpx.HTTPError as error:
            problems.append(f"{url}: {type(error).__name__} {error}".strip())
            continue
        if answer.status_code == httpx.codes.ACCEPTED:
            if (named := _read_job_id(answer)) != to_hex(job_id):
                raise OrderRefused(f"{url} is on another deployment: it names the job {named}")
            return url
        if answer.is_client_error:
            raise OrderRefused(f"{url} refused the order: {read_error(answer)}")
        problems.append(f"{url}: {read_error(answer)}")
    raise CollatorAway(f"no collator took the order ({'; '.join(problems)}): try again, or name another")


def send_hints(signed: SignedOrder, nodes: Sequence[str], providers: Sequence[str]) -> None:
    """Tell nodes who has an order's input, as far as they answer: its collator may be gone, and cannot tell them."""
    body = OrderMessage.from_signed(signed, list(providers)).model_dump_json()
    for url in nodes:
        with suppress(httpx.HTTPError, httpx.InvalidURL, UnicodeError), open_http(url, HINTS_TIMEOUT_S) as client:
            client.post(url + HINTS_PATH, content=body, headers={"Content-Type": "application/json"})


def send_extension(message: ExtensionMessage, collators: Sequence[str]) -> str:
    """Hand a signed extension to the first collator that takes it; returns that collator's URL.

    Raises OrderRefused when one refuses it, CollatorAway when nobody answers.
    """
    problems = []
    for url in collators:
        try:
            with open_http(url) as client:
                headers = {"Content-Type": "application/json"}
                answer = client.post(url + EXTENSIONS_PATH, content=message.model_dump_json(), headers=headers)
        except httpx.HTTPError as error:
            problems.append(f"{url}: {type(error).__name__} {error}".strip())
            continue
        if answer.status_code == httpx.codes.ACCEPTED:
            return url
        problems.append(f"{url}: {read_error(answer)}")
        if answer.is_client_error and answer.status_code != httpx.codes.NOT_FOUND:
            raise OrderRefused(f"{url} refused the extension: {read_error(answer)}")
    raise CollatorAway(f"no collator took the extension ({'; '.join(problems) or 'none is configured'}): try again")


def push_content(store: BlobStore, roots: Sequence[Cid], url: str) -> None:
    """Copy whole DAGs to a node's store. Raises CollatorAway or OrderRefused."""
    for root in roots:
        try:
            with open_http(url, PUSH_TIMEOUT_S) as client:
                answer = client.post(f"{url}{IMPORT_PATH}", params={"root": str(root)}, content=store.export_car(root))
        except httpx.HTTPError as error:
            raise CollatorAway(f"{url} did not take {root}: {type(error).__name__} {error}; try again") from error
        if answer.is_error:
            raise OrderRefused(f"{url} refused {root}: {read_error(answer)}")


def _read_job_id(answer: httpx.Response) -> str:
    try:
        return str(load_json(answer.content)["job_id"])
    except (ValueError, KeyError, TypeError):
        return f"of an unreadable answer ({answer.text[:100]!r})"


def read_error(answer: httpx.Response) -> str:
    """What a node says went wrong."""
    try:
        return str(load_json(answer.content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code} {answer.text[:200]}".strip()
