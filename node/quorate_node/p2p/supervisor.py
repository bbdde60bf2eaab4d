"""Keeps a libp2p host alive in a process of its own, and speaks to it: the port as the node uses it.

A host that dies, or that does not answer pings, is started again with the same identity and port, and told again what
is served and heard. What waited for an answer meanwhile fails with NetworkDown; nothing here retries.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from quorate.protocol.errors import ConfigurationError, ValidationError
from quorate_node.logs import get_logger
from quorate_node.p2p.port import Handler, Heard, Listener, NetworkDown, PeerId, Unreached
from quorate_node.p2p.wire.frames import LENGTH_BYTES, Frame, check_length, decode_frame
from quorate_node.p2p.wire.network import WireError
from quorate_node.p2p.wire.settings import HostSettings

STDERR_TAIL_BYTES = 4096
MAX_WAITING = 4096
"""Answers that are waited for; more is refused at once."""
MAX_WRITE_BYTES = 8 << 20
PUBLISH_S = 10.0

SECRET_VARIABLES = ("QUORATE_PASSPHRASE",)
"""How names begin in the environment that the host, which strangers talk to, has no business with."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: for a start, between pings, for a pong, before the first restart and at most before a later one."""

    start_s: float = 60.0
    ping_s: float = 5.0
    pong_s: float = 15.0
    first_restart_s: float = 0.2
    last_restart_s: float = 10.0


def is_installed() -> bool:
    """Whether libp2p is there; it is optional, for it wants a compiler (scripts/setup --p2p)."""
    return importlib.util.find_spec("libp2p") is not None


class ChildNetwork:
    """PeerNetwork through a supervised child. Use it as an asynchronous context manager."""

    def __init__(self, settings: HostSettings, patience: Patience = Patience()) -> None:
        self._settings, self._patience = settings, patience
        self._log = get_logger()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._listeners: dict[str, list[Listener]] = {}
        self._handlers: dict[str, tuple[Handler, int]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._running: asyncio.Task[None] | None = None
        self._pong = asyncio.Event()
        self._peer_id, self._addresses, self._peers = PeerId(""), (), ()  # type: tuple[PeerId, tuple[str, ...], tuple[PeerId, ...]]
        self.counts: Mapping[str, int] = {}
        """What the host counted since its start: offences, bans, what was dropped."""
        self.restarts = 0
        self.is_known: Callable[[PeerId], bool] = lambda peer: False
        """Whether a peer is a staked operator's node: its connection is kept where there are too many."""

    # life ---------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> ChildNetwork:
        """Start. Raises ConfigurationError when libp2p is missing or the address cannot be listened on."""
        if not is_installed():
            raise ConfigurationError("libp2p is not installed: scripts/setup --p2p (it wants gcc and GMP's headers)")
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._supervise(ready))
        try:
            await ready
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._answering, *([self._running] if self._running else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def pid(self) -> int | None:
        """Process of the host, when there is one."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def is_up(self) -> bool:
        """Whether the host is running now."""
        return self._writer is not None

    async def _supervise(self, ready: asyncio.Future[None]) -> None:
        pause = self._patience.first_restart_s
        while True:
            began = asyncio.get_running_loop().time()
            try:
                reason = await self._live(ready)
            except ConfigurationError as error:
                if not ready.done():
                    ready.set_exception(error)
                    return
                reason = str(error)
            if asyncio.get_running_loop().time() - began > self._patience.last_restart_s:
                pause = self._patience.first_restart_s
            self._log.warning("libp2p host ended; starting it again", reason=reason, after_s=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._patience.last_restart_s)
            self.restarts += 1

    async def _live(self, ready: asyncio.Future[None]) -> str:
        """One life of the host; why it ended. Raises ConfigurationError when it cannot start as it is set."""
        ours, its = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "quorate_node.p2p.child", str(its.fileno()), pass_fds=[its.fileno()],
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
                env={name: value for name, value in os.environ.items() if not name.startswith(SECRET_VARIABLES)},
            )  # fmt: skip
        except OSError as error:
            ours.close()
            return f"it cannot be started: {error}"
        finally:
            its.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        tail = asyncio.create_task(_read_tail(self._process.stderr))
        try:
            reason = await self._converse(reader, writer, ready)
        finally:
            self._writer, self._peers = None, ()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(NetworkDown("the libp2p host has ended; it is started again"))
            self._waiting.clear()
            writer.close()
            await _end(self._process)
            with contextlib.suppress(asyncio.CancelledError):
                text = await tail
        return f"{reason}; {text.splitlines()[-1]}" if text else reason

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ready: asyncio.Future[None]
    ) -> str:
        writer.write(Frame("start", {"settings": self._settings.to_values()}).encode())
        try:
            async with asyncio.timeout(self._patience.start_s):
                first = await _read_frame(reader)
        except TimeoutError:
            return "it did not start in time"
        except (OSError, WireError, asyncio.IncompleteReadError) as error:
            return f"it ended while it started: {type(error).__name__}"
        if first.kind == "failed":
            raise ConfigurationError(f"p2p: {first.values['message']}")
        self._be_ready(first, writer)
        if not ready.done():
            ready.set_result(None)
        pinging = asyncio.create_task(self._ping(writer))
        try:
            while True:
                self._take(await _read_frame(reader))
        except (OSError, WireError, asyncio.IncompleteReadError) as error:
            return "it does not answer" if pinging.done() else f"its socket closed: {type(error).__name__}"
        finally:
            pinging.cancel()

    def _be_ready(self, first: Frame, writer: asyncio.StreamWriter) -> None:
        self._peer_id = PeerId(first.values["peer_id"])
        self._addresses = tuple(first.values["addresses"])
        self._settings = replace(self._settings, listen=self._addresses[0])  # the same port after a restart
        self._writer = writer
        for protocol, (_, max_bytes) in self._handlers.items():
            writer.write(Frame("serve", {"protocol": protocol, "max_bytes": max_bytes}).encode())
        for topic in self._listeners:
            writer.write(Frame("subscribe", {"id": 0, "topic": topic}).encode())

    async def _ping(self, writer: asyncio.StreamWriter) -> None:
        """Kill a host that no longer answers: what reads its socket then sees the end."""
        while True:
            await asyncio.sleep(self._patience.ping_s)
            self._pong.clear()
            writer.write(Frame("ping").encode())
            try:
                async with asyncio.timeout(self._patience.pong_s):
                    await self._pong.wait()
            except TimeoutError:
                if self._process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        self._process.kill()
                return

    # the host's words ---------------------------------------------------------------------------------------------

    def _take(self, word: Frame) -> None:
        values = word.values
        match word.kind:
            case "pong":
                self._pong.set()
            case "peers":
                self._peers = tuple(map(PeerId, values["peers"]))
                self.counts = values["counts"]
            case "heard":
                self._hear(values["id"], Heard(values["topic"], PeerId(values["author"]), word.payload))
            case "call":
                task = asyncio.create_task(
                    self._answer(values["call"], PeerId(values["peer"]), values["protocol"], word.payload)
                )
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            case "done" | "failed":
                future = self._waiting.pop(values["id"], None)
                if future is not None and not future.done():
                    future.set_result(word)

    def _hear(self, number: int, heard: Heard) -> None:
        listeners = self._listeners.get(heard.topic, ())
        good = bool(listeners) and all(self._tell(listener, heard) for listener in listeners)
        if self._writer is not None:
            self._writer.write(Frame("verdict", {"id": number, "good": good}).encode())

    def _tell(self, listener: Listener, heard: Heard) -> bool:
        try:
            return listener(heard)
        except Exception as error:  # one listener must not keep the others from hearing
            self._log.error("a listener to gossip failed", topic=heard.topic, error=repr(error))
            return False

    async def _answer(self, call: int, peer: PeerId, protocol: str, data: bytes) -> None:
        handler, _ = self._handlers[protocol]
        try:
            answer = await handler(peer, data)
            known = {"known": peer} if self.is_known(peer) else {}
            encoded = Frame("answer", {"call": call} | known, answer).encode()
        except Exception as error:  # whatever a stranger's request provoked: refused, told, and the node lives on
            self._log.warning("a peer's request was refused", protocol=protocol, peer=peer, error=repr(error)[:300])
            encoded = Frame("answer", {"call": call, "refused": True}).encode()
        if self._writer is not None:
            self._writer.write(encoded)

    # the port -----------------------------------------------------------------------------------------------------

    @property
    def peer_id(self) -> PeerId:
        """This node's identity."""
        return self._peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """Multiaddrs that the host listens on."""
        return self._addresses

    def peers(self) -> tuple[PeerId, ...]:
        """Who is connected, as of a second ago."""
        return self._peers

    async def publish(self, topic: str, data: bytes) -> None:
        await self._ask("publish", {"topic": topic}, data, PUBLISH_S)

    async def subscribe(self, topic: str, listener: Listener) -> None:
        listeners = self._listeners.setdefault(topic, [])
        listeners.append(listener)
        if len(listeners) == 1 and self._writer is not None:
            await self._ask("subscribe", {"topic": topic}, b"", PUBLISH_S)

    async def serve(self, protocol: str, handler: Handler, max_bytes: int) -> None:
        self._handlers[protocol] = (handler, max_bytes)
        if self._writer is not None:
            self._writer.write(Frame("serve", {"protocol": protocol, "max_bytes": max_bytes}).encode())

    async def request(self, peer: PeerId, protocol: str, data: bytes, timeout_s: float = 10.0) -> bytes:
        values = {"peer": peer, "protocol": protocol, "timeout_s": timeout_s}
        return (await self._ask("request", values, data, timeout_s)).payload

    async def connect(self, address: str, timeout_s: float = 10.0) -> PeerId:
        answer = await self._ask("connect", {"address": address, "timeout_s": timeout_s}, b"", timeout_s)
        return PeerId(answer.values["peer"])

    async def _ask(self, kind: str, values: dict[str, Any], data: bytes, timeout_s: float) -> Frame:
        writer = self._writer
        if writer is None:
            raise NetworkDown("the libp2p host is being started again")
        if len(self._waiting) >= MAX_WAITING or writer.transport.get_write_buffer_size() > MAX_WRITE_BYTES:
            raise Unreached("too much waits for the libp2p host", "BUSY")
        number = next(self._numbers)
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            writer.write(Frame(kind, {"id": number, **values}, data).encode())
            async with asyncio.timeout(timeout_s + self._patience.ping_s):
                answer = await future
        except TimeoutError as error:
            raise Unreached(f"no answer to {kind} within {timeout_s} s", "TIMEOUT") from error
        finally:
            self._waiting.pop(number, None)
        if answer.kind == "failed":
            code, message = answer.values["code"], answer.values["message"]
            raise ValidationError(message) if code in ("SIZE", "ADDRESS") else Unreached(message, code)
        return answer


async def _read_frame(reader: asyncio.StreamReader) -> Frame:
    size = check_length(await reader.readexactly(LENGTH_BYTES))
    return decode_frame(await reader.readexactly(size))


async def _read_tail(stream: asyncio.StreamReader | None) -> str:
    """The end of what a process wrote."""
    tail = b""
    while stream is not None and (part := await stream.read(STDERR_TAIL_BYTES)):
        tail = (tail + part)[-STDERR_TAIL_BYTES:]
    return tail.decode(errors="replace").strip()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Its socket is closed: it goes by itself, or is killed."""
    try:
        async with asyncio.timeout(2.0):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
