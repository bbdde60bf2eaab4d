"""Requests and answers over libp2p: one frame each way, again and again on a stream that stays open.

To open a stream costs as much as four answers do, so whoever asks keeps a few for each peer until they have been idle
for a while. What a kept stream's other end has closed meanwhile is asked again on a new one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID

from quorate_node.p2p.child import guards
from quorate_node.p2p.wire.messages import MAX_ANSWER_BYTES
from quorate_node.p2p.wire.network import WireError
from quorate_node.p2p.wire.settings import HostSettings

LENGTH_BYTES = 4
IDENTITY_BYTES = 34
"""The shortest: sha2-256 of a key, with the two bytes that say so."""
ANSWERED = b"\x01"
SWEEP_S = 1.0

OnCall = Callable[[str, str, bytes], Awaitable[bytes | None]]
"""(peer, protocol, data) → answer, or None to refuse."""


class Failed(Exception):
    """Something that was asked for did not work; `code` is one word for programs."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass(slots=True)
class Line:
    """A stream that is kept open for the next request, idle since a moment of the loop's clock."""

    stream: INetStream
    protocol: str
    idle_since: float


class Requests:
    """Asks peers and answers them."""

    def __init__(
        self, host: BasicHost, settings: HostSettings, on_call: OnCall, is_known: Callable[[str], bool]
    ) -> None:
        self._host, self._settings, self._on_call, self._is_known = host, settings, on_call, is_known
        self._lines: dict[ID, list[Line]] = {}
        self._kept: OrderedDict[trio.CancelScope, None] = OrderedDict()
        self.opened = 0
        """Streams that were opened to ask, since the start."""

    # answering ----------------------------------------------------------------------------------------------------

    def serve(self, protocol: str, max_bytes: int) -> None:
        """Answer a protocol's requests."""

        def limit(stream: INetStream) -> int:
            is_known = self._is_known(str(stream.muxed_conn.peer_id))
            return max_bytes if is_known else min(max_bytes, self._settings.stranger_bytes)

        async def handle(stream: INetStream) -> None:
            with trio.fail_after(self._settings.idle_s):
                data = await read_frame(stream, limit(stream))
            while await self._answer(stream, protocol, data):
                following = await self._wait_for_next(stream, limit(stream))
                if following is None:
                    await close(stream, self._settings.idle_s)
                    return
                data = following
            await guards.reset(stream)

        self._host.set_stream_handler(TProtocol(protocol), handle)

    async def _answer(self, stream: INetStream, protocol: str, data: bytes) -> bool:
        with trio.fail_after(self._settings.answer_s):
            answer = await self._on_call(str(stream.muxed_conn.peer_id), protocol, data)
        if answer is None or len(answer) > MAX_ANSWER_BYTES:
            return False
        with trio.fail_after(self._settings.idle_s):
            await stream.write(ANSWERED + frame(answer))
        return True

    async def _wait_for_next(self, stream: INetStream, max_bytes: int) -> bytes | None:
        """The next request on a stream; None when there is none: to end it here is no offence."""
        first = b""
        with trio.move_on_after(self._settings.kept_s) as scope:
            self._kept[scope] = None
            try:
                first = await stream.read(1)
            except StreamError:
                return None
            finally:
                self._kept.pop(scope, None)
        if not first:
            return None
        with trio.fail_after(self._settings.idle_s):
            return await read_frame(stream, max_bytes, first)

    def end_oldest(self) -> None:
        """Another stream is wanted more than the one on which the next request has been waited for longest."""
        if self._kept:
            scope, _ = self._kept.popitem(last=False)
            scope.cancel()

    # asking -------------------------------------------------------------------------------------------------------

    async def ask(self, peer: str, protocol: str, data: bytes, timeout_s: float) -> bytes:
        """Ask a connected peer. Raises Failed."""
        identity = parse_identity(peer)
        if not self._host.get_network().get_connections(identity):
            raise Failed("NOT_CONNECTED", f"{peer} is not connected")
        try:
            with trio.fail_after(timeout_s):
                if (line := self._take_line(identity, protocol)) is not None:
                    try:
                        return await self._ask_on(line.stream, identity, protocol, data)
                    except StreamError:  # it was closed meanwhile, unanswered
                        pass
                stream = await self._host.new_stream(identity, [TProtocol(protocol)])
                self.opened += 1
                return await self._ask_on(stream, identity, protocol, data)
        except trio.TooSlowError as error:
            raise Failed("TIMEOUT", f"{peer} did not answer within {timeout_s} s") from error
        except Failed:
            raise
        except Exception as error:
            raise Failed("REFUSED", f"{peer} did not answer: {type(error).__name__}") from error

    async def _ask_on(self, stream: INetStream, peer: ID, protocol: str, data: bytes) -> bytes:
        """One request; the stream is kept or closed afterwards, and reset when that fails."""
        is_done = False
        try:
            await stream.write(frame(data))
            if await read_exactly(stream, 1) != ANSWERED:
                raise Failed("REFUSED", f"{peer} gives no answer that makes sense")
            answer = await read_frame(stream, MAX_ANSWER_BYTES)
            is_done = True
        finally:
            if not is_done:
                await guards.reset(stream)
        lines = self._lines.setdefault(peer, [])
        if len(lines) < self._settings.max_lines:
            lines.append(Line(stream, protocol, trio.current_time()))
        else:
            self._forget_empty(peer)
            await close(stream, self._settings.idle_s)
        return answer

    def _take_line(self, peer: ID, protocol: str) -> Line | None:
        lines = self._lines.get(peer, [])
        found = next((each for each in lines if each.protocol == protocol), None)
        if found is not None:
            lines.remove(found)
        return found

    def _forget_empty(self, peer: ID) -> None:
        if not self._lines.get(peer):
            self._lines.pop(peer, None)

    async def sweep(self) -> None:
        """Until cancelled: close lines that have been idle for half of what the other end allows."""
        while True:
            await trio.sleep(SWEEP_S)
            before = trio.current_time() - self._settings.kept_s / 2
            for peer, lines in list(self._lines.items()):
                for line in [each for each in lines if each.idle_since < before]:
                    lines.remove(line)
                    await close(line.stream, self._settings.idle_s)
                self._forget_empty(peer)


async def close(stream: INetStream, timeout_s: float) -> None:
    """End a stream in order, or at least end it."""
    with trio.move_on_after(timeout_s):
        try:
            await stream.close()
            return
        except Exception:  # the connection has gone before
            pass
    await guards.reset(stream)


def parse_identity(peer: str) -> ID:
    """Raises Failed (ADDRESS) for a text that is no identity."""
    try:
        identity = ID.from_base58(peer)
    except Exception as error:
        raise Failed("ADDRESS", f"{peer[:100]!r} is no identity") from error
    if len(identity.to_bytes()) < IDENTITY_BYTES:
        raise Failed("ADDRESS", f"{peer[:100]!r} is no identity")
    return identity


def frame(data: bytes) -> bytes:
    """With its length before it."""
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


async def read_frame(stream: INetStream, max_bytes: int, begun: bytes = b"") -> bytes:
    """One frame, of which `begun` is read already. Raises WireError (SIZE) before anything of one that is too large."""
    size = int.from_bytes(begun + await read_exactly(stream, LENGTH_BYTES - len(begun)), "big")
    if size > max_bytes:
        raise WireError("SIZE", f"a message of {size} bytes, and at most {max_bytes} are taken")
    return await read_exactly(stream, size)


async def read_exactly(stream: INetStream, size: int) -> bytes:
    """Raises an error of the stream, or WireError (SCHEMA) when it ends before."""
    parts: list[bytes] = []
    while size:
        part = await stream.read(size)
        if not part:
            raise WireError("SCHEMA", "a stream ends within a message")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
