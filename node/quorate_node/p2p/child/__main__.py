"""`python -m quorate_node.p2p.child FD`: a libp2p host that a node speaks to through an inherited socket.

It ends when the socket does, so no host outlives its node. The identity comes through the socket, never by arguments.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from quorate_node.p2p.child.host import GuardedHost, open_host
from quorate_node.p2p.child.requests import Failed
from quorate_node.p2p.wire.frames import LENGTH_BYTES, Frame, check_length, decode_frame
from quorate_node.p2p.wire.network import WireError
from quorate_node.p2p.wire.settings import HostSettings

MAX_WAITING = 512
"""Frames for the node that wait; gossip and calls beyond them are refused."""
MAX_CALLS = 256
REPORT_S = 1.0


class Service:
    """Carries words between the socket and the host."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._send, self._outbox = trio.open_memory_channel[Frame](MAX_WAITING)
        self._calls: dict[int, trio.MemorySendChannel[bytes | None]] = {}
        self._judged: dict[int, trio.MemorySendChannel[bool]] = {}
        self._next_call = 0
        self._dropped = 0

    async def run(self) -> None:
        """Until the node goes. Raises Failed when the host cannot start."""
        start = await self._read()
        if start is None:
            return
        settings = HostSettings.from_values(start.values["settings"])
        try:
            async with open_host(settings, self._on_gossip, self._on_call) as host, trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._send.send(Frame("ready", {"peer_id": host.peer_id, "addresses": host.addresses}))
                nursery.start_soon(self._report, host)
                await self._obey(host, nursery)
                nursery.cancel_scope.cancel()
        except Failed as error:
            await self._stream.send_all(Frame("failed", {"code": error.code, "message": str(error)}).encode())

    # the socket ---------------------------------------------------------------------------------------------------

    async def _read(self) -> Frame | None:
        prefix = await self._read_exactly(LENGTH_BYTES)
        if prefix is None:
            return None
        data = await self._read_exactly(check_length(prefix))
        return None if data is None else decode_frame(data)

    async def _read_exactly(self, size: int) -> bytes | None:
        parts: list[bytes] = []
        while size:
            part = await self._stream.receive_some(min(size, 1 << 16))
            if not part:
                return None
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    async def _write(self) -> None:
        async for each in self._outbox:
            await self._stream.send_all(each.encode())

    async def _report(self, host: GuardedHost) -> None:
        """Tell the node who is connected and what was counted, when that has changed."""
        last: dict[str, Any] = {}
        while True:
            counts = dict(host.watch.counts) | ({"node too slow": self._dropped} if self._dropped else {})
            now = {"peers": host.list_peers(), "counts": counts}
            if now != last:
                await self._send.send(Frame("peers", now))
                last = now
            await trio.sleep(REPORT_S)

    # the node's words ---------------------------------------------------------------------------------------------

    async def _obey(self, host: GuardedHost, nursery: trio.Nursery) -> None:
        while (word := await self._read()) is not None:
            values = word.values
            match word.kind:
                case "ping":
                    await self._send.send(Frame("pong"))
                case "serve":
                    host.serve(values["protocol"], values["max_bytes"])
                case "answer":
                    if "known" in values:
                        host.gate.note_believed(values["known"])
                    self._settle_call(values["call"], None if values.get("refused") else word.payload)
                case "verdict":
                    if (judged := self._judged.get(values["id"])) is not None:  # else it took too long
                        judged.send_nowait(bool(values["good"]))
                case "subscribe":
                    await host.subscribe(values["topic"])
                    await self._send.send(Frame("done", {"id": values["id"]}))
                case "publish" | "request" | "connect":
                    nursery.start_soon(self._answer, values["id"], self._choose(host, word))
                case _:
                    raise WireError("KIND", f"the node says {word.kind!r}")

    def _choose(self, host: GuardedHost, word: Frame) -> Callable[[], Awaitable[Frame]]:
        values = word.values

        async def act() -> Frame:
            match word.kind:
                case "publish":
                    await host.publish(values["topic"], word.payload)
                    return Frame("done", {"id": values["id"]})
                case "request":
                    answer = await host.request(values["peer"], values["protocol"], word.payload, values["timeout_s"])
                    return Frame("done", {"id": values["id"]}, answer)
            peer = await host.connect(values["address"], values["timeout_s"])
            return Frame("done", {"id": values["id"], "peer": peer})

        return act

    async def _answer(self, number: int, act: Callable[[], Awaitable[Frame]]) -> None:
        try:
            answer = await act()
        except Failed as error:
            answer = Frame("failed", {"id": number, "code": error.code, "message": str(error)})
        await self._send.send(answer)

    # the network's words ------------------------------------------------------------------------------------------

    async def _on_gossip(self, topic: str, author: str, data: bytes) -> bool:
        """Whether the node believes it; a node that is too slow to say so hears less, and passes on less."""
        if len(self._judged) >= MAX_CALLS:
            self._dropped += 1
            return False
        self._next_call += 1
        number = self._next_call
        send, receive = trio.open_memory_channel[bool](1)
        self._judged[number] = send
        try:
            self._send.send_nowait(Frame("heard", {"id": number, "topic": topic, "author": author}, data))
            return await receive.receive()
        except trio.WouldBlock:
            self._dropped += 1
            return False
        finally:
            del self._judged[number]

    async def _on_call(self, peer: str, protocol: str, data: bytes) -> bytes | None:
        if len(self._calls) >= MAX_CALLS:
            self._dropped += 1
            return None
        self._next_call += 1
        number = self._next_call
        send, receive = trio.open_memory_channel[bytes | None](1)
        self._calls[number] = send
        try:
            self._send.send_nowait(Frame("call", {"call": number, "peer": peer, "protocol": protocol}, data))
            return await receive.receive()
        except trio.WouldBlock:
            self._dropped += 1
            return None
        finally:
            del self._calls[number]

    def _settle_call(self, number: int, answer: bytes | None) -> None:
        if (waiting := self._calls.get(number)) is not None:  # else it took too long
            waiting.send_nowait(answer)


async def main() -> None:
    """Serve the node at the other end of the inherited socket."""
    inherited = socket.socket(fileno=int(sys.argv[1]))
    await Service(trio.SocketStream(trio.socket.from_stdlib_socket(inherited))).run()


if __name__ == "__main__":
    if not os.environ.get("LIBP2P_DEBUG"):  # it tells of every stranger's mistake; ours are counted
        logging.getLogger("libp2p").addHandler(logging.NullHandler())
    trio.run(main)
