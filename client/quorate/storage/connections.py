"""Connections that a server bears: how many, and for how long one may say nothing.

Everything here that serves HTTP is set up by `configure` and run by `GuardedServer`, so that no number of idle
connections takes away the descriptors that files and honest requests need.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from quorate.protocol.errors import QuorateError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

MOST_DESCRIPTORS = 65536
MOST_CONNECTIONS = 4096
BACKLOG = 512
TELL_EVERY_S = 60.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger("uvicorn.error")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Connections in `total`, of one address (`host`; an IPv6 /64 is one), and of this machine (`local`).

    A request's line and headers come within `head_s` seconds and `head_bytes`; who takes nothing of an answer for
    `stall_s` seconds is dropped. At most `burst` are accepted at once, before any of them can be shed.
    """

    total: int
    host: int
    local: int
    burst: int = BACKLOG
    head_s: float = 10.0
    stall_s: float = 30.0
    head_bytes: int = 64 * 1024

    @classmethod
    def within(cls, descriptors: int) -> ConnectionLimits:
        """Half of the descriptors at most, and an eighth for a burst."""
        total = max(8, min(MOST_CONNECTIONS, descriptors // 2))
        return cls(total, max(1, total // 8), total - total // 8, max(8, min(BACKLOG, descriptors // 8)))


def raise_descriptor_limit() -> int:
    """Lift the soft limit of open files to the hard one, at most to 65536; the limit that holds then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return count_descriptors()


def count_descriptors() -> int:
    """How many files this process may have open; 65536 for no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def configure(
    app: ASGIApp, *, limits: ConnectionLimits | None = None, protocol: type[asyncio.Protocol] = AutoHTTPProtocol,
    **options: Any,
) -> uvicorn.Config:  # fmt: skip
    """Settings of a server whose connections are bounded: by `limits`, else by this process's open files.

    `options` are further ones of uvicorn's.
    """
    limits = limits or ConnectionLimits.within(count_descriptors())
    guarded = type("GuardedProtocol", (_Guard, protocol), {"crowd": _Crowd(limits)})
    # Without `ws`, an upgrade would take the connection out of the count.
    quiet: dict[str, Any] = {"log_level": "error", "access_log": False, "ws": "none", "backlog": limits.burst}
    config = uvicorn.Config(app, http=guarded, **quiet | options)
    _log.addFilter(_shorten)
    return config


class GuardedServer(uvicorn.Server):
    """Tells of descriptors that run out once a minute, and not for each connection."""

    async def startup(self, sockets: Any = None) -> None:
        """As uvicorn's."""
        asyncio.get_running_loop().set_exception_handler(_Hush())
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)  # uvicorn's number is also how many are accepted at once


class _Hush:
    """An event loop's handler of errors that nobody waits for."""

    def __init__(self) -> None:
        self._told_at: float | None = None

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, now = context.get("exception"), loop.time()
        if not isinstance(error, OSError) or error.errno not in _EXHAUSTED:
            loop.default_exception_handler(context)
        elif self._told_at is None or now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            _log.error("connections wait: %s; allow more open files (`ulimit -n`)", error.strerror)


def _shorten(record: logging.LogRecord) -> bool:
    """An answer that a known error cuts off, a missing block for example, is a line; a fault of ours has its trace."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, QuorateError):
        record.msg, record.args, record.exc_info = "answer cut off: %s", (str(error),), None
    return True


def _find_place(client: tuple[str, int] | None) -> tuple[str, bool]:
    """What one address counts as, and whether it is this machine."""
    try:
        address = ip_address(client[0] if client else "127.0.0.1")
    except ValueError:
        return str(client), False
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback:
        return "", True
    if isinstance(address, IPv6Address):
        return address.packed[:8].hex(), False
    return str(address), False


class _Crowd:
    """The connections of one server. Where no more may be, a new one takes the place of that which waits longest."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: dict[_Guard, str] = {}
        self._hosts: Counter[str] = Counter()
        self._waiting: dict[_Guard, None] = {}
        self._waiting_of: dict[str, dict[_Guard, None]] = {}

    def admit(self, guard: _Guard, client: tuple[str, int] | None) -> bool:
        """Whether it may stay: not, when all those in its way are being answered."""
        host, is_local = _find_place(client)
        if self._hosts[host] >= (self.limits.local if is_local else self.limits.host):
            others = self._waiting_of.get(host, {})
        elif len(self._open) >= self.limits.total:
            others = self._waiting
        else:
            others = None
        if others is not None:
            if not others:
                return False
            next(iter(others)).drop()
        self._open[guard] = host
        self._hosts[host] += 1
        self.put(guard, is_waiting=True)
        return True

    def put(self, guard: _Guard, *, is_waiting: bool) -> None:
        """Note that it waits for a request, from now on unless it did before, or that one is being answered."""
        host = self._open.get(guard)
        if host is None:
            return
        if is_waiting:
            self._waiting[guard] = None
            self._waiting_of.setdefault(host, {})[guard] = None
        elif guard in self._waiting:
            del self._waiting[guard], self._waiting_of[host][guard]
            if not self._waiting_of[host]:
                del self._waiting_of[host]

    def leave(self, guard: _Guard) -> None:
        """Forget it; may be called twice."""
        self.put(guard, is_waiting=False)
        if (host := self._open.pop(guard, None)) is not None:
            self._hosts -= Counter((host,))


class _Guard(asyncio.Protocol):
    """Stands before one of uvicorn's protocols, and drops who makes it wait."""

    crowd: _Crowd
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    client: tuple[str, int] | None
    cycle: Any  # the request, None before the first

    _head: asyncio.TimerHandle | None = None
    _draining: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _is_dropped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.crowd.admit(self, self.client):
            self._expect_head()
        else:
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self.crowd.leave(self)
        self._unset_head()
        if self._draining is not None:
            self._draining.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_dropped:
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._unset_head()
            self.crowd.put(self, is_waiting=False)
            return
        if self.cycle is None or not self.cycle.more_body:  # else it is the rest of what was refused
            self._head_bytes += len(data)
        if self._head_bytes > self.crowd.limits.head_bytes:
            self.drop()
        elif self._head is None:
            self._expect_head()

    def on_message_complete(self) -> None:
        super().on_message_complete()  # type: ignore[misc]  # uvicorn's
        if self.cycle is not None:
            self.cycle.more_body = False  # also where the answer was over before

    def on_response_complete(self) -> None:
        super().on_response_complete()  # type: ignore[misc]  # uvicorn's
        if self.cycle.response_complete:
            self._head_bytes = 0
            self.crowd.put(self, is_waiting=True)
            self._look(None)

    def drop(self) -> None:
        """Close it at once, whatever is still to be sent."""
        self._is_dropped = True
        self.crowd.leave(self)
        self.transport.abort()

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(self.crowd.limits.head_s, self.drop)

    def _unset_head(self) -> None:
        self._head_bytes = 0
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _look(self, before: int | None) -> None:
        """Whether what is still to be sent has become less."""
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
        left = self.transport.get_write_buffer_size()
        if before is not None and left >= before > 0:
            self.drop()
        elif left:
            self._draining = self.loop.call_later(self.crowd.limits.stall_s, self._look, left)
