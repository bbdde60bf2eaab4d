"""Bytes on their way out: read in threads a part ahead, few streams at a time, and none for who does not read."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from quorate.protocol.errors import Busy
from quorate.storage.gateway_request import Refused
from quorate.storage.patience import STALL_S, PatientResponse

THREADS = 12
SLOW_THREADS = 8
MAX_STREAMS = 32
MAX_STREAMS_HOST = 8  # of one address, loopback aside
_T = TypeVar("_T")


class PromptResponse(Response):
    """A body that is in memory, sent with less ado than a stream; ends, too, when its reader stops reading."""

    def __init__(
        self, outlet: Outlet, data: bytes, status: int, headers: Mapping[str, str], kind: str, host: str
    ) -> None:
        super().__init__(data, status, headers, kind)
        self._outlet, self._host = outlet, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        with contextlib.suppress(TimeoutError, OSError), self._outlet.counting(self._host, len(self.body)):
            async with asyncio.timeout(STALL_S):
                await send(start)
                await send({"type": "http.response.body", "body": self.body, "more_body": True})
                await send({"type": "http.response.body", "body": b""})  # which waits until the body has left


class Outlet:
    """Threads for what blocks, and the streams that are open."""

    def __init__(self, on_bytes: Callable[[int], None] = lambda count: None) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="provider")
        self._slow = ThreadPoolExecutor(SLOW_THREADS, thread_name_prefix="settling")
        self._streams: Counter[str] = Counter()
        self._on_bytes = on_bytes

    async def run(self, work: Callable[..., _T], *args: object) -> _T:
        """What a function gives, called in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def run_slow(self, work: Callable[..., _T], *args: object) -> _T:
        """The same for what waits for the chain: nobody who reads is kept waiting by it."""
        return await asyncio.get_running_loop().run_in_executor(self._slow, work, *args)

    def check_room(self, host: str) -> None:
        """Raise Busy or Refused (429) when there is none for another stream: before anything is taken for it."""
        if self._streams.total() >= MAX_STREAMS:
            raise Busy(f"{MAX_STREAMS} answers are being sent already; try again in a moment")
        if self._streams[host] >= MAX_STREAMS_HOST and host not in ("127.0.0.1", "::1"):
            reason = f"{MAX_STREAMS_HOST} answers are being sent to {host} already; try again in a moment"
            raise Refused(429, reason, {"Retry-After": "5"})

    def respond(
        self, parts: Iterator[bytes], size: int, status: int, headers: Mapping[str, str], kind: str, host: str
    ) -> PatientResponse:
        """An answer of `size` bytes; what turns out missing cuts it off, which its reader notices."""
        named = {**headers, "Content-Length": str(size)}
        return PatientResponse(self._stream(parts, host), status, named, kind)

    def respond_once(
        self, data: bytes, status: int, headers: Mapping[str, str], kind: str, host: str
    ) -> PromptResponse:
        """An answer that is in memory."""
        return PromptResponse(self, data, status, headers, kind, host)

    @contextlib.contextmanager
    def counting(self, host: str, size: int) -> Iterator[None]:
        """A stream that is open, of an answer that is in memory."""
        self._streams[host] += 1
        try:
            yield
            self._on_bytes(size)
        finally:
            self._streams -= Counter((host,))

    async def _stream(self, parts: Iterator[bytes], host: str) -> AsyncIterator[bytes]:
        self._streams[host] += 1
        loop = asyncio.get_running_loop()
        ahead = loop.run_in_executor(self._threads, next, parts, None)
        try:
            while (part := await ahead) is not None:
                ahead = loop.run_in_executor(self._threads, next, parts, None)
                yield part
                self._on_bytes(len(part))
        finally:
            self._streams -= Counter((host,))
            if not ahead.cancel() and not ahead.cancelled():
                ahead.exception()  # looked at, so that nobody logs that it was not: who reads is gone

    def close(self) -> None:
        """End the threads; what they do is finished."""
        self._threads.shutdown()
        self._slow.shutdown()
