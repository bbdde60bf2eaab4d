"""One answer of one provider that nobody trusts: paced, bounded, redirected at most within its origin."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from quorate.storage.tls import find_context
from quorate.storage.traffic import Meter

_MAX_REDIRECTS = 3
OnProgress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one fetch may cost.

    `max_bytes` received from one provider, and kept of what all of them bring; `timeout_s` seconds in all, but for the
    start of a provider that is asked late; `stall_s` seconds without a byte, or with fewer than `min_bytes_s` a second;
    `connect_s` seconds for a connection. `meter` counts and paces what comes, for whoever fetches.
    """

    max_bytes: int | None = 16 << 30
    timeout_s: float = 3600.0
    stall_s: float = 15.0
    connect_s: float = 5.0
    min_bytes_s: int = 256
    meter: Meter | None = None


class Dropped(Exception):
    """A provider is left, for the reason that the message gives."""


def base_url(provider: str) -> str:
    """A gateway's address without its last slash. Raises Dropped."""
    try:
        parts = urlsplit(provider)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.username is not None or parts.query or parts.fragment:
        raise Dropped("is no http or https address of a gateway")
    return provider.rstrip("/")


def receive(
    url: str, accept: str, kind: str, limits: FetchLimits, deadline: float, on_progress: OnProgress | None = None
) -> Generator[bytes, None, None]:
    """The body of an answer, piece by piece. Raises Dropped and errors of httpx; `deadline` is monotonic."""
    timeout = httpx.Timeout(limits.stall_s, connect=limits.connect_s)
    trust_env = urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1")
    headers = {"Accept": accept, "Accept-Encoding": "identity"}
    # A proxy from the environment must not see loopback.
    with (
        closing(_Watch()) as watch,
        httpx.Client(
            timeout=timeout, verify=find_context(url, trust_env=trust_env), trust_env=trust_env, headers=headers
        ) as client,
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
        raise Dropped("redirects in circles")


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
    since, waited = time.monotonic(), 0.0
    for chunk in response.iter_raw():
        received += len(chunk)
        now = time.monotonic()
        if now > deadline:
            own = f", of which {limits.meter.name}_bytes_s took {waited:.0f}" if limits.meter and waited else ""
            raise Dropped(f"was too slow: the limit is {limits.timeout_s:g} s{own}")
        if now - since > limits.stall_s:
            if received - counted < limits.min_bytes_s * (now - since):
                raise Dropped(f"sent less than {limits.min_bytes_s} bytes a second for {limits.stall_s:g} s")
            since, counted = now, received
        if on_progress is not None:
            on_progress(received)
        if limits.meter is not None and (pause := limits.meter.take(len(chunk))) > 0:
            time.sleep(pause)  # ours, so the sender is not blamed for it
            since, waited = since + pause, waited + pause
        yield chunk


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
        is_elsewhere = urlsplit(target)[:2] != urlsplit(url)[:2]
    except ValueError as error:
        raise Dropped(f"redirects to {location[:80]!r}, which is no URL") from error
    if is_elsewhere:
        raise Dropped(f"redirects to another host ({urlsplit(target).netloc or target[:80]}), which nobody named")
    return target


def _check_answer(response: httpx.Response, kind: str) -> None:
    if response.status_code != httpx.codes.OK:
        text = next(response.iter_raw(512), b"")[:200].decode("utf-8", "replace").strip()
        raise Dropped(f"answered {response.status_code}{': ' + text if text else ''}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Dropped("sent a content encoding that was not asked for")
    got = response.headers.get("content-type", "").partition(";")[0].strip()
    if got != kind:
        raise Dropped(f"sent {got or 'an untyped answer'} instead of {kind}")


def explain(error: Exception, limits: FetchLimits) -> str:
    """An error of httpx for people."""
    if isinstance(error, httpx.ConnectTimeout):
        return f"did not connect within {limits.connect_s:g} s"
    if isinstance(error, httpx.TimeoutException):
        return f"sent nothing for {limits.stall_s:g} s"
    return f"{type(error).__name__}: {error}"
