"""Handing an order to a collator, and content to a node, over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from urllib.parse import urlsplit

import httpx

from quorate.answers import PLAIN, bound_answer
from quorate.chain.types import to_hex
from quorate.messages import ExtensionMessage, JobLogs, OrderMessage
from quorate.protocol.errors import ConfigurationError, RecoverableError, ValidationError
from quorate.protocol.jsontext import load_json
from quorate.protocol.spec import Limits
from quorate.protocol.types import JobId, SignedOrder
from quorate.spec import PreparedSpec
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.tls import find_context

ORDERS_PATH = "/quorate/v1/orders"
EXTENSIONS_PATH = "/quorate/v1/extensions"
HINTS_PATH = "/quorate/v1/hints"
LOGS_PATH = "/quorate/v1/logs"
IMPORT_PATH = "/quorate/v1/import"
TIMEOUT_S = 15.0
HINTS_TIMEOUT_S = 1.0
PUSH_TIMEOUT_S = 120.0
REMEMBER_S = 300.0
MOST_REMEMBERED = 10_000


class CollatorAway(RecoverableError):
    """No collator took the order; it was not refused either."""


class OrderRefused(ValidationError):
    """A collator looked at the order and will not post it."""


class Pushed:
    """What nodes have taken of late, and hold for days: it need not go there again. Safe between threads.

    A node that did not answer may come back with another store: it is to be forgotten.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._until: dict[tuple[str, Cid], float] = {}

    def note(self, url: str, root: Cid) -> None:
        """It was taken."""
        with self._lock:
            if len(self._until) >= MOST_REMEMBERED:
                self._until.clear()
            self._until[url, root] = self._clock() + REMEMBER_S

    def knows(self, url: str, root: Cid) -> bool:
        """Whether it was, in the last REMEMBER_S seconds."""
        with self._lock:
            return self._clock() < self._until.get((url, root), 0.0)

    def forget(self, url: str) -> None:
        """All that a node took."""
        with self._lock:
            self._until = {key: until for key, until in self._until.items() if key[0] != url}


@contextmanager
def open_http(url: str, timeout_s: float = TIMEOUT_S) -> Iterator[httpx.Client]:
    """A client for one origin, whose answers are bounded; a proxy from the environment never sees loopback."""
    trust_env = urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1")
    context, hooks = find_context(url, trust_env=trust_env), {"response": [bound_answer]}
    with httpx.Client(
        timeout=timeout_s, verify=context, trust_env=trust_env, headers=PLAIN, event_hooks=hooks
    ) as client:
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


def push_content(store: BlobStore, roots: Sequence[Cid], url: str, pushed: Pushed | None = None) -> None:
    """Copy whole DAGs to a node's store: the first, which tells whether it is there, and those that are not `pushed`.

    Raises CollatorAway or OrderRefused.
    """
    pushed = pushed or Pushed()
    for root in [*roots[:1], *(each for each in roots[1:] if not pushed.knows(url, each))]:
        try:
            with open_http(url, PUSH_TIMEOUT_S) as client:
                answer = client.post(f"{url}{IMPORT_PATH}", params={"root": str(root)}, content=store.export_car(root))
        except httpx.HTTPError as error:
            pushed.forget(url)
            raise CollatorAway(f"{url} did not take {root}: {type(error).__name__} {error}; try again") from error
        if answer.is_error:
            raise OrderRefused(f"{url} refused {root}: {read_error(answer)}")
        pushed.note(url, root)


def ask_logs(job_id: JobId, nodes: Sequence[str]) -> JobLogs:
    """What a job's seats did for it, as the first node that answers hears of them. Raises CollatorAway."""
    problems = []
    for url in nodes:
        try:
            with open_http(url) as client:
                answer = client.get(f"{url}{LOGS_PATH}/{to_hex(job_id)}")
            if answer.is_success:
                return JobLogs.model_validate_json(answer.content)
            problems.append(f"{url}: {read_error(answer)}")
        except (httpx.HTTPError, ValueError) as error:
            problems.append(f"{url}: {type(error).__name__} {error}".strip())
    raise CollatorAway(f"no node tells of the job ({'; '.join(problems) or 'set QUORATE_COLLATORS'}): try again")


def offer_content(
    store: BlobStore,
    prepared: PreparedSpec,
    providers: Sequence[str],
    collators: Sequence[str],
    pushed: Pushed | None = None,
) -> Sequence[str]:
    """Hold what a job needs, and see to it that somebody serves it: `providers`, or else the first collator, to which
    goes what is not `pushed`."""
    spec = Cid.parse(prepared.spec.cid)
    store.hold([spec, *prepared.roots])
    if not providers:
        return push_what_is_here(store, [spec, *prepared.roots], collators, pushed)
    if replace(prepared.spec.limits, fuel=Limits().fuel) != Limits():
        show_spec(store, spec, collators)
    return providers


def push_what_is_here(
    store: BlobStore, roots: Sequence[Cid], collators: Sequence[str], pushed: Pushed | None = None
) -> list[str]:
    """Push those of the roots that are in the store whole to the first collator that answers; its URL, which serves
    them then. Raises CollatorAway when none does, OrderRefused when one refuses."""
    whole, away = [root for root in roots if store.is_complete(root)], None
    for url in collators:
        try:
            push_content(store, whole, url, pushed)
            return [url]
        except CollatorAway as error:
            away = error
    if away is not None:
        raise away
    return []


def show_spec(store: BlobStore, spec: Cid, collators: Sequence[str]) -> None:
    """Let a collator see limits that are not the usual ones: it refuses at once what it would not execute."""
    for url in collators[:1]:
        with suppress(RecoverableError, ValidationError):  # the order itself tells what is wrong there
            push_content(store, [spec], url)


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
