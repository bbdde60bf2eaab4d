"""A TCP proxy that stands before nodes and loses, delays, swallows or cuts what others send them.

It is a process of its own: `FaultProxy` starts it and tells it, line by line, what to do. A *link* is a pair of names,
who connects and whom it wants; who connects is told by the process that owns the other end of the connection
(tests/faults/owners.py), so nodes need no setting of their own beyond the address that they announce. Faults go by
*message*: what one side sends before the other side answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.faults.owners import ANYBODY, Owners

OPEN, REFUSED, SILENT = "open", "refused", "silent"
CHUNK_BYTES = 1 << 16
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Faults:
    """What befalls the messages of a link; shares of all messages, 0 to 1.

    `drop`: the connection is reset, and the message gone. `swallow`: it is gone and nothing else is said on that
    connection. `delay`: it comes `delay_s[0]` to `delay_s[1]` seconds later. `state` is that of the whole link: OPEN;
    REFUSED: every connection is reset; SILENT: bytes wait until it opens, as while a cable is out.
    """

    drop: float = 0.0
    swallow: float = 0.0
    delay: float = 0.0
    delay_s: tuple[float, float] = (0.1, 1.0)
    state: str = OPEN


NONE = Faults()


class FaultProxy:
    """The proxy's process. As a context manager it is ended at the end, with all its connections."""

    def __init__(self, seed: int = 1) -> None:
        command = [sys.executable, "-m", "tests.faults.proxy", str(seed)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
        )  # fmt: skip

    def front(self, name: str, target: int, listen: int) -> str:
        """Stand before the loopback port `target` of `name`, on the port `listen`; the URL that others are to use."""
        self._tell("front", name=name, target=target, listen=listen)
        return f"http://127.0.0.1:{listen}"

    def know(self, name: str, group: int) -> None:
        """Connections of processes of this process group come from `name`."""
        self._tell("know", name=name, group=group)

    def set(self, faults: Faults, source: str = ANYBODY, target: str = ANYBODY) -> None:
        """From now on; the rule that names most counts, and of two that name one that with the target."""
        self._tell("set", source=source, target=target, faults=asdict(faults))

    def split(self, sides: Sequence[Iterable[str]], state: str = SILENT) -> None:
        """Part those who are known: nothing goes from a side to another until `heal`."""
        names = [list(side) for side in sides]
        for here in names:
            for there in names:
                for source in here if here is not there else ():
                    for target in there:
                        self.set(Faults(state=state), source, target)

    def heal(self) -> None:
        """No faults any more, and no rules."""
        self._tell("heal")

    def count(self) -> dict[str, int]:
        """Connections and messages so far, and what befell them, by name."""
        found: dict[str, int] = self._tell("count")
        return found

    def count_links(self) -> dict[str, int]:
        """Messages by link, written `source>target`."""
        found: dict[str, int] = self._tell("links")
        return found

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _tell(self, do: str, **values: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"do": do, **values}) + "\n")
        stdin.flush()
        answer = json.loads(stdout.readline() or '{"error": "the proxy has ended"}')
        if "error" in answer:
            raise RuntimeError(f"the proxy cannot {do}: {answer['error']}")
        return answer["found"]


# the process --------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Connection:
    """One connection through the proxy; `last` is the side that spoke last."""

    link: tuple[str, str]
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    last: int | None = None
    is_mute: bool = False


class _Proxy:
    """What runs in the process."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._owners = Owners()
        self._rules: dict[tuple[str, str], Faults] = {}
        self._counts: Counter[str] = Counter()
        self._links: Counter[str] = Counter()
        self._open: set[_Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._changed = asyncio.Event()

    async def answer(self, do: str, values: dict[str, Any]) -> Any:
        """Do what a line says."""
        match do:
            case "front":
                await self._front(values["name"], values["target"], values["listen"])
            case "know":
                self._owners.know(values["name"], values["group"])
            case "set":
                faults = values["faults"]
                faults["delay_s"] = tuple(faults["delay_s"])
                self._rules[values["source"], values["target"]] = Faults(**faults)
                self._follow_rules()
            case "heal":
                self._rules.clear()
                self._follow_rules()
            case "count":
                return dict(self._counts)
            case "links":
                return dict(self._links)
        return None

    def _faults(self, link: tuple[str, str]) -> Faults:
        source, target = link
        for key in (link, (ANYBODY, target), (source, ANYBODY), (ANYBODY, ANYBODY)):
            if key in self._rules:
                return self._rules[key]
        return NONE

    def _follow_rules(self) -> None:
        for connection in list(self._open):
            if self._faults(connection.link).state == REFUSED:
                self._cut(connection)
        self._changed.set()
        self._changed = asyncio.Event()

    async def _front(self, name: str, target: int, listen: int) -> None:
        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._take(reader, writer, name, target, listen)

        self._servers.append(await asyncio.start_server(take, "127.0.0.1", listen, backlog=512))

    async def _take(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str, target: int, listen: int
    ) -> None:
        connection = _Connection((self._owners.find(writer.get_extra_info("peername")[1], listen), name), [writer])
        self._counts["connections"] += 1
        self._open.add(connection)
        try:
            await self._wait_open(connection)
            if self._faults(connection.link).state == REFUSED:
                self._counts["refused"] += 1
                self._cut(connection)
                return
            there, back = await asyncio.open_connection("127.0.0.1", target)
            connection.writers.append(back)
            pumps = [self._pump(connection, 0, reader, back), self._pump(connection, 1, there, writer)]
            await asyncio.gather(*pumps)
        except OSError:
            self._cut(connection)  # the target is not there, or one side has reset it
        finally:
            self._open.discard(connection)
            for each in connection.writers:
                each.close()

    async def _pump(
        self, connection: _Connection, side: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            if connection.last != side:
                connection.last = side
                if not await self._pass_message(connection):
                    return
            await self._wait_open(connection)
            if connection.is_mute:
                continue
            writer.write(chunk)
            await writer.drain()
        # The other direction may still have something to say.
        with contextlib.suppress(OSError):
            if writer.can_write_eof() and not connection.is_mute:
                writer.write_eof()

    async def _pass_message(self, connection: _Connection) -> bool:
        """Decide what befalls a message that begins; False when the connection is cut."""
        faults, lot = self._faults(connection.link), self._chance.random()
        self._counts["messages"] += 1
        self._links[">".join(connection.link)] += 1
        if lot < faults.drop:
            self._counts["dropped"] += 1
            self._cut(connection)
            return False
        lot -= faults.drop
        if lot < faults.swallow:
            self._counts["swallowed"] += 1
            connection.is_mute = True
            return True
        lot -= faults.swallow
        if lot < faults.delay:
            self._counts["delayed"] += 1
            await asyncio.sleep(self._chance.uniform(*faults.delay_s))
        return True

    async def _wait_open(self, connection: _Connection) -> None:
        while self._faults(connection.link).state == SILENT:
            await self._changed.wait()

    @staticmethod
    def _cut(connection: _Connection) -> None:
        """Reset both sides: a peer must not take it for an end."""
        for writer in connection.writers:
            with contextlib.suppress(OSError):
                opened = writer.get_extra_info("socket")
                if opened is not None and not writer.transport.is_closing():
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()


async def _serve(seed: int) -> None:
    proxy, lines = _Proxy(seed), asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        values = json.loads(line)
        try:
            answer = {"found": await proxy.answer(values.pop("do"), values)}
        except (OSError, KeyError, TypeError) as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1])))
