"""Real libp2p hosts of one trio loop, on loopback, and what an attacker does with them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import trio

from quorate.protocol.types import Address
from quorate_node.p2p.child import host as host_module
from quorate_node.p2p.child.host import GuardedHost
from quorate_node.p2p.wire.limits import GossipLimits, Rate
from quorate_node.p2p.wire.messages import BatchMessage, seal
from quorate_node.p2p.wire.network import NetworkName
from quorate_node.p2p.wire.settings import HostSettings

NETWORK = NetworkName(31337, Address(b"\x11" * 20))
TOPIC = NETWORK.name_topic("batches")
ECHO = "/quorate/test/echo"
GENEROUS = GossipLimits(author=Rate(1e6, 1e6), forwarder=Rate(1e6, 1e6), total=Rate(1e6, 1e6))
PATIENCE_S = 15.0
DOUBTFUL = b"nobody-believes-this"
"""What the nodes of a crowd do not believe."""


class Crowd:
    """Hosts, and what each of them heard."""

    def __init__(self) -> None:
        self.hosts: list[GuardedHost] = []
        self.heard: list[list[bytes]] = []

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Until something holds; TooSlowError when it never does."""
        with trio.fail_after(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - the library tells nobody when it has changed
                await trio.sleep(0.02)


def make_settings(number: int, **changes: Any) -> HostSettings:
    return replace(HostSettings(bytes((number,)) * 32, "/ip4/127.0.0.1/tcp/0", NETWORK), **changes)


async def echo(peer: str, protocol: str, data: bytes) -> bytes | None:
    return data


@asynccontextmanager
async def open_crowd(count: int, *, first: int = 1, **changes: Any) -> AsyncIterator[Crowd]:
    """Hosts that echo and listen to one topic, all connected to the first of them."""
    crowd = Crowd()
    async with AsyncExitStack() as stack:
        for number in range(count):
            heard: list[bytes] = []

            async def hear(topic: str, author: str, data: bytes, heard: list[bytes] = heard) -> bool:
                heard.append(data)
                return DOUBTFUL not in data

            opened = host_module.open_host(make_settings(first + number, **changes), hear, echo)
            each = await stack.enter_async_context(opened)
            each.serve(ECHO, 1 << 20)
            await each.subscribe(TOPIC)
            crowd.hosts.append(each)
            crowd.heard.append(heard)
            if number:
                await each.connect(locate(crowd.hosts[0]), 5.0)
        if count > 1:
            hub = crowd.hosts[0]
            await crowd.wait(lambda: len(hub.pubsub.peer_topics.get(TOPIC, ())) == count - 1)
            for each in crowd.hosts[1:]:
                await crowd.wait(lambda each=each: hub.host.get_id() in each.pubsub.peer_topics.get(TOPIC, ()))
        yield crowd


def locate(host: GuardedHost) -> str:
    return f"{host.addresses[0]}/p2p/{host.peer_id}"


def announce(number: int) -> bytes:
    return seal(NETWORK, BatchMessage(batch_id=number))


def run(scenario: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Run a scenario to its end, with a limit that only a hanging one reaches."""

    async def limited() -> None:
        with trio.fail_after(60):
            await scenario(*arguments)

    try:
        trio.run(limited)
    except BaseExceptionGroup as group:  # nurseries within nurseries: what matters is at the bottom
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


async def speak(attacker: GuardedHost, victim: GuardedHost, protocol: str, data: bytes) -> None:
    """Open a stream by the bare library and say something on it."""
    stream = await attacker.host.new_stream(victim.host.get_id(), [protocol])
    await stream.write(data)
    await stream.close()
