"""Ten real hosts, each in its supervised process, find each other from one address, and go on when one of them dies."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.network import OUR_PATHS

pytest.importorskip("libp2p", reason="libp2p is not installed here (scripts/setup --p2p)")

from quorate.chain.account import SigningAccount
from quorate.chain.signing import recover
from quorate.protocol.errors import ConfigurationError, ValidationError
from quorate.protocol.types import Address
from quorate_node.p2p.discovery import BootstrapDead, Discovery, Pace
from quorate_node.p2p.port import Heard, NetworkDown, PeerId, Unreached
from quorate_node.p2p.supervisor import ChildNetwork, Patience
from quorate_node.p2p.wire.messages import ANNOUNCEMENTS, REQUESTS, BatchMessage, open_announcement, seal
from quorate_node.p2p.wire.network import NetworkName
from quorate_node.p2p.wire.records import NodeRecord, RecordBook, SignedRecord, sign_record
from quorate_node.p2p.wire.settings import HostSettings

NETWORK = NetworkName(31337, Address(b"\x22" * 20))
BABBLED = NetworkName(31337, Address(b"\x11" * 20))
"""The network that `tests.adversarial.babbling_peer` speaks in."""
TOPIC = NETWORK.name_topic("batches")
ECHO = NETWORK.name_protocol("echo")
HASTE = Pace(round_s=0.2, idle_s=1.0, announce_s=3600.0, redial_s=1.0, dial_s=5.0, peers=4)
LIMIT_S = 120.0
QUICK = Patience(start_s=LIMIT_S, first_restart_s=0.1)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - what changes are processes
            await asyncio.sleep(0.05)


def make_settings(number: int) -> HostSettings:
    return HostSettings(bytes((number + 1,)) * 32, "/ip4/127.0.0.1/tcp/0", NETWORK)


async def echo(peer: PeerId, data: bytes) -> bytes:
    if data == b"raise":
        raise RuntimeError("a handler's bug")
    return peer.encode() + b" said " + data


class Member:
    """A node of the test's network: a host, its book, and what it heard."""

    def __init__(self, number: int, keys: dict[Address, Address], bootstrap: list[str]) -> None:
        self.account = SigningAccount.from_key(bytes((number + 1,)) * 32)
        self.network = ChildNetwork(make_settings(number), QUICK)
        self.book = RecordBook(NETWORK, keys.get, recover)
        self.discovery = Discovery(
            self.network, self.book, self._make_own, lambda: time.time_ns() // 10**6, bootstrap=bootstrap,
            is_local=True, pace=HASTE, chance=random.Random(number),
        )  # fmt: skip
        self.heard: list[Heard] = []

    def _make_own(self) -> list[SignedRecord]:
        record = NodeRecord(
            NETWORK, self.account.address, time.time_ns() // 10**6, self.network.peer_id, self.network.addresses,
            f"http://127.0.0.1:{8000 + self.account.address[0]}",
        )  # fmt: skip
        return [sign_record(record, self.account.sign)]

    def _hear(self, heard: Heard) -> bool:
        self.heard.append(heard)
        return True

    async def join(self, stack: AsyncExitStack) -> None:
        """Start and look for the others until the test is over."""
        await stack.enter_async_context(self.network)
        await self.network.serve(ECHO, echo, 1 << 20)
        await self.network.subscribe(TOPIC, self._hear)
        task = asyncio.create_task(self.discovery.run())

        async def leave() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(leave)

    @property
    def address(self) -> str:
        return f"{self.network.addresses[0]}/p2p/{self.network.peer_id}"


@asynccontextmanager
async def gather_members(count: int) -> AsyncIterator[list[Member]]:
    keys: dict[Address, Address] = {}
    async with AsyncExitStack() as stack:
        first = Member(0, keys, [])
        await first.join(stack)
        members = [first, *(Member(number, keys, [first.address]) for number in range(1, count))]
        keys.update({each.account.address: each.account.address for each in members})
        first.discovery._renew()
        await asyncio.gather(*(each.join(stack) for each in members[1:]))
        yield members


@pytest.mark.slow
async def test_ten_hosts_find_one_another_and_outlive_their_bootstrap_host() -> None:
    async with gather_members(10) as members:
        await until(lambda: all(len(each.book) == 10 for each in members))
        await until(lambda: all(len(each.network.peers()) >= 3 for each in members))

        await members[7].network.publish(TOPIC, seal(NETWORK, BatchMessage(batch_id=7)))
        others = [each for each in members if each is not members[7]]
        await until(lambda: all(len(each.heard) == 1 for each in others))
        for each in others:
            assert each.heard[0].author == members[7].network.peer_id
            assert open_announcement(NETWORK, "batches", each.heard[0].data, 4096) == BatchMessage(batch_id=7)

        for asker in (members[1], members[9]):
            record = asker.book.get(members[4].account.address)
            assert record is not None
            peer = await asker.network.connect(record.list_dialable()[0])
            answer = await asker.network.request(peer, ECHO, b"hello")
            assert answer == asker.network.peer_id.encode() + b" said hello"

        # The host that everybody began with dies, and its node starts it again; the others keep talking.
        first = members[0].network
        pid = first.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await members[3].network.publish(TOPIC, seal(NETWORK, BatchMessage(batch_id=8)))
        rest = [each for each in members[1:] if each is not members[3]]
        await until(lambda: all(len(each.heard) == 2 - (each is members[7]) for each in rest))
        await until(lambda: first.is_up and first.pid != pid and len(first.peers()) >= 1)
        assert first.restarts >= 1
        peer = await members[5].network.connect(members[0].address)
        assert (await members[5].network.request(peer, ECHO, b"again")).endswith(b" said again")


async def test_a_host_that_hangs_is_killed_and_started_again() -> None:
    hasty = replace(QUICK, ping_s=0.3, pong_s=3.0)
    async with ChildNetwork(make_settings(0), hasty) as one, ChildNetwork(make_settings(1), QUICK) as two:
        await one.serve(ECHO, echo, 1000)
        address, identity, pid = f"{one.addresses[0]}/p2p/{one.peer_id}", one.peer_id, one.pid
        assert await two.connect(address) == identity
        with pytest.raises(Unreached):
            await two.request(identity, ECHO, b"raise")
        with pytest.raises(Unreached):
            await two.request(identity, ECHO, bytes(1001))
        assert (await two.request(identity, ECHO, b"x")).endswith(b"x")

        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises((NetworkDown, Unreached)):
            await one.publish(TOPIC, b"lost")
        await until(lambda: one.is_up and one.pid != pid)
        assert f"{one.addresses[0]}/p2p/{one.peer_id}" == address
        await two.connect(address)
        assert (await two.request(identity, ECHO, b"y")).endswith(b"y")


async def test_a_babbling_peer_never_ends_a_host_and_is_only_counted() -> None:
    asked: list[bytes] = []

    async def take(peer: PeerId, data: bytes) -> bytes:
        asked.append(data)
        return b"no"

    here = replace(make_settings(0), network=BABBLED)
    async with ChildNetwork(here, QUICK) as victim, ChildNetwork(replace(make_settings(1), network=BABBLED)) as friend:
        for kind, schemas in REQUESTS.items():
            await victim.serve(BABBLED.name_protocol(kind), take, schemas.max_bytes)
        await victim.serve(ECHO, echo, 1000)
        for kind in ANNOUNCEMENTS:
            await victim.subscribe(BABBLED.name_topic(kind), lambda heard: bool(asked.append(heard.data)))
        address, pid = f"{victim.addresses[0]}/p2p/{victim.peer_id}", victim.pid
        await friend.connect(address, LIMIT_S)
        command = [sys.executable, "-m", "tests.adversarial.babbling_peer", address, "7"]
        paths = {"PYTHONPATH": os.pathsep.join([*OUR_PATHS["PYTHONPATH"].split(os.pathsep), *sys.path])}
        process = await asyncio.create_subprocess_exec(
            *command, env=os.environ | paths, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(LIMIT_S):
            said, problems = await process.communicate()
        assert process.returncode == 0, problems.decode()
        assert int(said) >= 20
        await until(lambda: sum(victim.counts.values()) >= 20)
        assert (victim.pid, victim.restarts) == (pid, 0)
        assert (await friend.request(victim.peer_id, ECHO, b"well?", LIMIT_S)).endswith(b"well?")
        assert not asked, "nothing of it reached the node"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_host_is_not_told_the_nodes_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers talk to it, and unlike its node anybody of the same user can look into it."""
    monkeypatch.setenv("QUORATE_PASSPHRASE", "open sesame")
    monkeypatch.setenv("QUORATE_PASSPHRASE_FILE", "/secret/place")
    async with ChildNetwork(make_settings(0), QUICK) as host:
        told = await asyncio.to_thread(Path(f"/proc/{host.pid}/environ").read_bytes)
    assert b"PATH=" in told
    assert b"sesame" not in told
    assert b"PASSPHRASE" not in told


async def test_requests_fail_at_once_while_the_host_is_down() -> None:
    network = ChildNetwork(make_settings(0), replace(QUICK, first_restart_s=60.0))
    async with network:
        assert network.pid is not None
        os.kill(network.pid, signal.SIGKILL)
        await until(lambda: not network.is_up)
        for call in (
            network.publish(TOPIC, b"x"), network.connect("/ip4/127.0.0.1/tcp/1/p2p/x"),
            network.request(PeerId("x"), ECHO, b""),
        ):  # fmt: skip
            with pytest.raises(NetworkDown, match="being started again"):
                await call
        assert network.peers() == ()


async def test_what_it_cannot_do_is_told_by_name_and_no_host_outlives_its_node() -> None:
    async with ChildNetwork(make_settings(0), QUICK) as network:
        taken = ChildNetwork(replace(make_settings(1), listen=network.addresses[0]), QUICK)
        with pytest.raises(ConfigurationError, match="cannot listen on"):
            await taken.__aenter__()
        wrong = ChildNetwork(replace(make_settings(1), listen="127.0.0.1:1"), QUICK)
        with pytest.raises(ConfigurationError, match="is no address to listen on"):
            await wrong.__aenter__()
        with pytest.raises(ValidationError, match="at most 16384"):
            await network.publish(TOPIC, bytes(16385))
        with pytest.raises(ValidationError, match="is no multiaddr"):
            await network.connect("somewhere")
        dead = [
            f"/ip4/127.0.0.1/tcp/{port}/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp" for port in (1, 2)
        ]
        book = RecordBook(NETWORK, {}.get, recover)
        discovery = Discovery(network, book, list, lambda: 0, bootstrap=dead, is_local=True, pace=HASTE)
        with pytest.raises(BootstrapDead) as caught:
            await discovery.look_around()
        assert all(address in str(caught.value) for address in dead)
        pid = network.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_whom_the_node_knows_may_say_more() -> None:
    async with ChildNetwork(make_settings(0), QUICK) as server, ChildNetwork(make_settings(1), QUICK) as asker:
        known: set[PeerId] = set()
        server.is_known = known.__contains__
        await server.serve(ECHO, echo, 1 << 20)
        await asker.connect(f"{server.addresses[0]}/p2p/{server.peer_id}")
        much = bytes(make_settings(0).stranger_bytes + 1)
        with pytest.raises(Unreached):
            await asker.request(server.peer_id, ECHO, much)
        await asker.request(server.peer_id, ECHO, b"who I am")
        with pytest.raises(Unreached):
            await asker.request(server.peer_id, ECHO, much)
        known.add(asker.peer_id)
        await asker.request(server.peer_id, ECHO, b"who I am")
        assert (await asker.request(server.peer_id, ECHO, much)).endswith(much)
