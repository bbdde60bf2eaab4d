"""One provider's answers, which nobody trusts: bounded, paced, and from nowhere but where they were asked for.

A `Channel` keeps one connection, to an IP address that was checked before (a name that changes its mind cannot lead
elsewhere), and reads into buffers that are given to it. It follows no redirect but, of what is not paid, one within the
provider's own origin; every other one is a lie or an accident, and the provider is left.
"""

from __future__ import annotations

import http.client
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from quorate.protocol.errors import DataError, RecoverableError
from quorate.storage.urls import check_address, resolve

MAX_REDIRECTS = 3
MAX_HEADER_BYTES = 64 << 10
READ_BYTES = 256 << 10
LOOK_S = 0.2
_AGENT = "quorate"


class ProviderFailed(RecoverableError):
    """A provider does not answer, is slow or was cut off; another one may be asked, or the same one later."""


class ProviderLied(DataError):
    """A provider broke its word: it is asked no more."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`connect_s` for a connection; `stall_s` without a byte, or with fewer than `min_bytes_s` a second."""

    connect_s: float = 5.0
    stall_s: float = 15.0
    min_bytes_s: int = 4096


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a provider answers. `url` has no slash at its end; `addresses` are what its host's name led to."""

    url: str
    addresses: tuple[str, ...]

    @classmethod
    def find(cls, url: str, *, is_named: bool, is_local: bool) -> Origin:
        """Resolve a provider's URL. Raises DataError for one that must not be asked.

        `is_named`: by the operator itself, who may have providers in its own network; others only on public addresses.
        """
        parts = urlsplit(url)
        if parts.query or parts.fragment:
            raise DataError(f"{url[:100]!r} is no provider: give its URL without query")
        addresses = resolve(url)
        for address in () if is_named else addresses:
            check_address(url, address, is_local=is_local)
        return cls(url.rstrip("/"), tuple(addresses))

    @property
    def is_tls(self) -> bool:
        return self.url.startswith("https:")


@dataclass(slots=True)
class Answer:
    """Status and headers (lower-case names), and the body as it is read. `url` is what was asked for in the end."""

    status: int
    headers: Mapping[str, str]
    url: str
    _response: http.client.HTTPResponse = field(repr=False)
    _pace: Pace = field(repr=False, default_factory=Pace)

    @property
    def length(self) -> int | None:
        """What the answer says of its own length, in bytes."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def read(self, most: int) -> bytes:
        """The whole body. Raises ProviderFailed when it is longer than `most` bytes, or cut off."""
        body = bytearray()
        for part in self.stream():
            body += part
            if len(body) > most:
                raise ProviderFailed(f"sent more than the {most} bytes that such an answer may have")
        return bytes(body)

    def fill(self, buffer: memoryview) -> Iterator[int]:
        """Read the body into a buffer, telling how much is there. Raises ProviderFailed when it stops before its end,
        ProviderLied when it goes on behind it."""
        at, began = 0, time.monotonic()
        while at < len(buffer):
            count = self._receive(buffer[at : at + READ_BYTES])
            if not count:
                raise ProviderFailed(f"was cut off after {at} of {len(buffer)} bytes")
            at += count
            self._check_pace(at, began)
            yield at
        if self._receive(memoryview(bytearray(1))):
            raise ProviderLied(f"sent more than the {len(buffer)} bytes that were asked for")

    def stream(self) -> Iterator[bytes]:
        """The body, part by part. Raises ProviderFailed when it is cut off."""
        received, began, buffer = 0, time.monotonic(), memoryview(bytearray(READ_BYTES))
        while count := self._receive(buffer):
            received += count
            self._check_pace(received, began)
            yield bytes(buffer[:count])
        if self.length is not None and received != self.length:
            raise ProviderFailed(f"was cut off after {received} of {self.length} bytes")

    def _receive(self, buffer: memoryview) -> int:
        try:
            return self._response.readinto(buffer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _explain(error, self._pace) from None

    def _check_pace(self, received: int, began: float) -> None:
        spent = time.monotonic() - began
        if spent > self._pace.stall_s and received < self._pace.min_bytes_s * spent:
            raise ProviderFailed(f"sent less than {self._pace.min_bytes_s} bytes a second for {spent:.0f} s")


class Channel:
    """A connection to one provider, made anew where it was lost. Belongs to one thread; close it."""

    def __init__(self, origin: Origin, pace: Pace | None = None) -> None:
        self.origin, self.pace = origin, pace or Pace()
        self._connection: http.client.HTTPConnection | None = None
        self._watch: _Watch | None = None

    def close(self) -> None:
        """Let the connection go; `ask` makes another."""
        if self._watch is not None:
            self._watch.end()
            self._watch = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def ask(self, method: str, path: str, headers: Mapping[str, str], *, is_paid: bool = False) -> Iterator[Answer]:
        """An answer to read from. Raises ProviderFailed, and ProviderLied for a redirect that must not be followed.

        `path` begins with a slash and follows the provider's URL.
        """
        target = self.origin.url + path
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._send(method, target, headers)
            if not 300 <= answer.status < 400 or answer.status == http.client.NOT_MODIFIED:
                try:
                    yield answer
                except BaseException:
                    self.close()  # whatever is left of it must not be taken for the next answer
                    raise
                self._drain(answer)
                return
            location = answer.headers.get("location", "")
            self.close()
            if is_paid:
                raise ProviderLied(f"took the payment and redirects to {location[:100]!r}")
            target = _follow(target, location)
        raise ProviderLied("redirects in circles")

    def _drain(self, answer: Answer) -> None:
        """Keep the connection only where the answer was read to its end."""
        if not answer._response.isclosed():
            self.close()

    def _send(self, method: str, target: str, headers: Mapping[str, str]) -> Answer:
        is_fresh = self._connection is None
        try:
            return self._send_once(method, target, headers)
        except ProviderFailed:
            self.close()
            if is_fresh:
                raise
        return self._send_once(method, target, headers)  # it had closed an old connection, as servers may

    def _send_once(self, method: str, target: str, headers: Mapping[str, str]) -> Answer:
        try:
            connection = self._connection or self._connect()
            self._connection = connection
            self._watch = self._watch or _Watch(connection.sock)
            parts = urlsplit(target)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            with self._watch.limit(self.pace.connect_s + self.pace.stall_s):
                sent = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers}
                connection.request(method, path, headers=sent)
                response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise _explain(error, self.pace) from None
        if found.get("content-encoding", "identity") != "identity":
            self.close()
            raise ProviderFailed("sent a content encoding that was not asked for")
        return Answer(response.status, found, target, response, self.pace)

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.origin.url)
        host, port = parts.hostname or "", parts.port or (443 if self.origin.is_tls else 80)
        problem: OSError = OSError("its name leads nowhere")
        for address in self.origin.addresses:
            try:
                made = socket.create_connection((address, port), timeout=self.pace.connect_s)
            except OSError as error:
                problem = error
                continue
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                if self.origin.is_tls:
                    made = ssl.create_default_context().wrap_socket(made, server_hostname=host)
            except BaseException:
                made.close()
                raise
            made.settimeout(self.pace.stall_s)
            connection = http.client.HTTPConnection(f"[{host}]" if ":" in host else host, port)
            connection.sock = made
            return connection
        raise problem


class _Watch:
    """Cuts a connection whose answer has not begun in time: one that drips its headers meets no other limit.

    One thread for all answers of a connection, as there may be a hundred a second, which looks now and then.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket, self._due, self._ended = connected, math.inf, threading.Event()
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """From now until this is left."""
        self._due = time.monotonic() + seconds
        try:
            yield
        finally:
            self._due = math.inf

    def end(self) -> None:
        """The connection is closed."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            if time.monotonic() > self._due:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                return


def _follow(target: str, location: str) -> str:
    try:
        found = urljoin(target, location)
        is_elsewhere = urlsplit(found)[:2] != urlsplit(target)[:2]
    except ValueError:
        raise ProviderLied(f"redirects to {location[:80]!r}, which is no URL") from None
    if is_elsewhere or not location:
        raise ProviderLied(f"redirects to {urlsplit(found).netloc or found[:80]!r}, which nobody named")
    return found


def _explain(error: Exception, pace: Pace) -> ProviderFailed:
    if isinstance(error, TimeoutError):
        return ProviderFailed(f"sent nothing for {pace.stall_s:g} s")
    if isinstance(error, ConnectionError | http.client.RemoteDisconnected):
        return ProviderFailed(f"cut the connection or refused it ({error.__class__.__name__})")
    return ProviderFailed(f"does not answer as it should ({error.__class__.__name__}: {str(error)[:100]})")
