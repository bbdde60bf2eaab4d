"""Fetching content from providers that nobody trusts.

A provider is a base URL of a trustless gateway. Whatever it sends is verified while it comes in; one that lies, stalls
or stops is left for the next, and what it sent rightly is kept.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from quorate.protocol.errors import ContentUnavailable, DataError
from quorate.storage.base import MAX_BLOCK_BYTES, BlobStore
from quorate.storage.cid import Cid
from quorate.storage.gateway_request import CAR_TYPE, RAW_TYPE

_MAX_REDIRECTS = 3
_ACCEPT_CAR = f"{CAR_TYPE}; version=1; order=dfs; dups=n"
OnProgress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one fetch may cost.

    `max_bytes` received from one provider; `timeout_s` seconds in all, but for the start of a provider that is asked
    late; `stall_s` seconds without a byte, or with fewer than `min_bytes_s` a second; `connect_s` seconds for a
    connection.
    """

    max_bytes: int | None = 16 << 30
    timeout_s: float = 3600.0
    stall_s: float = 15.0
    connect_s: float = 5.0
    min_bytes_s: int = 256


@dataclass(frozen=True, slots=True)
class FetchReport:
    """`bytes` received from `provider` (None when all was here already) in `seconds`; who was dropped, and why."""

    bytes: int
    provider: str | None
    seconds: float
    rejected: tuple[tuple[str, str], ...]


class _Dropped(Exception):
    """A provider is left, for the reason that the message gives."""


def fetch_dag(
    store: BlobStore,
    root: Cid,
    providers: Sequence[str],
    *,
    limits: FetchLimits | None = None,
    on_progress: OnProgress | None = None,
) -> FetchReport:
    """Bring the whole DAG of `root` into `store`, from the first provider that serves it.

    `on_progress` gets the bytes received so far from the provider at work. ContentUnavailable, with everybody's reason,
    when nobody serves it; errors of the store itself (a full disk, a lock) pass through.
    """
    chosen = limits or FetchLimits()

    def take(url: str, deadline: float) -> int:
        target = f"{url}/ipfs/{root}?format=car&dag-scope=all"
        with closing(_receive(target, _ACCEPT_CAR, CAR_TYPE, chosen, deadline, on_progress)) as chunks:
            return store.import_car(chunks, root, max_bytes=chosen.max_bytes).received_bytes

    return _from_any(root, providers, chosen, lambda: store.is_complete(root), take)


def fetch_block(
    store: BlobStore, cid: Cid, providers: Sequence[str], *, limits: FetchLimits | None = None
) -> FetchReport:
    """Bring one block into `store`; errors as `fetch_dag`'s."""
    chosen = limits or FetchLimits()

    def take(url: str, deadline: float) -> int:
        received = bytearray()
        with closing(_receive(f"{url}/ipfs/{cid}?format=raw", RAW_TYPE, RAW_TYPE, chosen, deadline, None)) as chunks:
            for chunk in chunks:
                received += chunk
                if len(received) > MAX_BLOCK_BYTES:
                    raise _Dropped(f"sent more than the {MAX_BLOCK_BYTES} bytes that a block may have")
        store.put(cid, bytes(received))
        return len(received)

    return _from_any(cid, providers, chosen, lambda: store.has(cid), take)


async def fetch_dag_async(
    store: BlobStore,
    root: Cid,
    providers: Sequence[str],
    *,
    limits: FetchLimits | None = None,
    on_progress: OnProgress | None = None,
) -> FetchReport:
    """`fetch_dag` in a thread; `on_progress` is called in that thread."""
    return await asyncio.to_thread(fetch_dag, store, root, providers, limits=limits, on_progress=on_progress)


def _from_any(
    cid: Cid,
    providers: Sequence[str],
    limits: FetchLimits,
    is_here: Callable[[], bool],
    take: Callable[[str, float], int],
) -> FetchReport:
    cid.check_supported()
    started = time.monotonic()
    rejected: list[tuple[str, str]] = []
    for provider in providers:
        if is_here():
            break
        # One that is silent or slow uses up its own time alone: who comes next has some left, however late it is.
        least = min(limits.timeout_s, limits.connect_s + limits.stall_s)
        deadline = max(started + limits.timeout_s, time.monotonic() + least)
        try:
            received = take(_base_url(provider), deadline)
        except (_Dropped, DataError) as error:
            rejected.append((provider, str(error)))
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last of a name that nobody resolves
            rejected.append((provider, _explain(error, limits)))
        else:
            return FetchReport(received, provider, time.monotonic() - started, tuple(rejected))
    if is_here():
        return FetchReport(0, None, time.monotonic() - started, tuple(rejected))
    reasons = "; ".join(f"{provider}: {reason}" for provider, reason in rejected) or "no provider was named"
    raise ContentUnavailable(f"nobody served {cid} ({reasons}); name another provider or try again later")


def _base_url(provider: str) -> str:
    try:
        parts = urlsplit(provider)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.username is not None or parts.query or parts.fragment:
        raise _Dropped("is no http or https address of a gateway")
    return provider.rstrip("/")


def _receive(
    url: str, accept: str, kind: str, limits: FetchLimits, deadline: float, on_progress: OnProgress | None
) -> Generator[bytes, None, None]:
    """The body of an answer, piece by piece, redirected at most within its origin."""
    timeout = httpx.Timeout(limits.stall_s, connect=limits.connect_s)
    is_loopback = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    headers = {"Accept": accept, "Accept-Encoding": "identity"}
    # Reading the CA bundle takes 20 ms: only for https. A proxy from the environment must not see loopback.
    verify = url.startswith("https:")
    with (
        closing(_Watch()) as watch,
        httpx.Client(timeout=timeout, verify=verify, trust_env=not is_loopback, headers=headers) as client,
    ):
        for _ in range(_MAX_REDIRECTS + 1):
            with watch.limit(limits.connect_s + limits.stall_s):
                request = client.build_request("GET", url, extensions={"trace": watch.trace})
                response = client.send(request, stream=True)
            with closing(response):
                if response.is_redirect:
                    url = _redirected(url, response.headers.get("location", ""))
                    continue
                _check_answer(response, kind)
                yield from _paced(response, limits, deadline, on_progress)
                return
        raise _Dropped("redirects in circles")


class _Watch:
    """Cuts a connection whose answer has not begun in time: the client's limits are for each piece that it reads, so a
    sender that drips its headers would never meet one."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """For httpx: takes hold of each new connection, before TLS wraps it."""
        if event == "connection.connect_tcp.complete":
            self._sockets.append(info["return_value"].get_extra_info("socket").dup())

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in self._sockets:
            each.close()


def _paced(
    response: httpx.Response, limits: FetchLimits, deadline: float, on_progress: OnProgress | None
) -> Generator[bytes, None, None]:
    """The body as it comes in; a sender that drips bytes to stay under `stall_s` is dropped too."""
    received = counted = 0
    since = time.monotonic()
    for chunk in response.iter_raw():
        received += len(chunk)
        now = time.monotonic()
        if now > deadline:
            raise _Dropped(f"was too slow: the limit is {limits.timeout_s:g} s")
        if now - since > limits.stall_s:
            if received - counted < limits.min_bytes_s * (now - since):
                raise _Dropped(f"sent less than {limits.min_bytes_s} bytes a second for {limits.stall_s:g} s")
            since, counted = now, received
        if on_progress is not None:
            on_progress(received)
        yield chunk


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
        is_elsewhere = urlsplit(target)[:2] != urlsplit(url)[:2]
    except ValueError as error:
        raise _Dropped(f"redirects to {location[:80]!r}, which is no URL") from error
    if is_elsewhere:
        raise _Dropped(f"redirects to another host ({urlsplit(target).netloc or target[:80]}), which nobody named")
    return target


def _check_answer(response: httpx.Response, kind: str) -> None:
    if response.status_code != httpx.codes.OK:
        text = next(response.iter_raw(512), b"")[:200].decode("utf-8", "replace").strip()
        raise _Dropped(f"answered {response.status_code}{': ' + text if text else ''}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _Dropped("sent a content encoding that was not asked for")
    got = response.headers.get("content-type", "").partition(";")[0].strip()
    if got != kind:
        raise _Dropped(f"sent {got or 'an untyped answer'} instead of {kind}")


def _explain(error: Exception, limits: FetchLimits) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"did not connect within {limits.connect_s:g} s"
    if isinstance(error, httpx.TimeoutException):
        return f"sent nothing for {limits.stall_s:g} s"
    return f"{type(error).__name__}: {error}"
