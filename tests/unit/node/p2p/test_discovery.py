"""Finding everybody from one address, by the rules alone: the network is in memory, so nothing is left to chance."""

from __future__ import annotations

import asyncio
import random

import pytest

from quorate.chain.account import SigningAccount
from quorate.chain.signing import recover
from quorate.messages import ErrorDetail
from quorate.protocol.errors import ConfigurationError
from quorate.protocol.types import Address
from quorate_node.p2p.discovery import BootstrapDead, Discovery, Pace
from quorate_node.p2p.memory import Hub, MemoryNetwork
from quorate_node.p2p.port import PeerId, Unreached
from quorate_node.p2p.wire.addresses import check_bootstrap, is_dialable
from quorate_node.p2p.wire.messages import MAX_PAGE, RecordMessage, RecordsAnswer, RecordsQuery, open_answer, seal
from quorate_node.p2p.wire.network import NetworkName
from quorate_node.p2p.wire.records import NodeRecord, RecordBody, RecordBook, SignedRecord, sign_record

HERE = NetworkName(31337, Address(b"\x11" * 20))
PROTOCOL, TOPIC = HERE.name_protocol("records"), HERE.name_topic("records")
NOW_MS = 1_700_000_000_000
DIGITS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Member:
    """A node with some operators, on a network in memory."""

    def __init__(self, world: World, number: int, bootstrap: list[str], operators: int = 1, **pace: float) -> None:
        self.world, self.sequence = world, NOW_MS
        keys = (f"{number}.{index}".encode().rjust(32, b"k") for index in range(operators))
        self.accounts = [SigningAccount.from_key(key) for key in keys]
        world.keys.update({each.address: each.address for each in self.accounts})
        name = PeerId("Node" + DIGITS[number // 58] + DIGITS[number % 58] * 8)
        self.network = MemoryNetwork(world.hub, name, f"/ip4/127.0.0.1/tcp/{4000 + number}")
        self.book = RecordBook(HERE, world.keys.get, recover)
        self.discovery = Discovery(
            self.network, self.book, self.make_own, lambda: NOW_MS, bootstrap=bootstrap, is_local=True,
            pace=Pace(round_s=0.01, idle_s=0.02, **pace), chance=random.Random(number),
        )  # fmt: skip

    def make_own(self) -> list[SignedRecord]:
        self.sequence += 1
        return [
            sign_record(
                NodeRecord(HERE, each.address, self.sequence, self.network.peer_id, self.network.addresses, "http://127.0.0.1:1"),
                each.sign,
            )
            for each in self.accounts
        ]  # fmt: skip

    @property
    def address(self) -> str:
        return f"{self.network.addresses[0]}/p2p/{self.network.peer_id}"


class World:
    """The chain, as far as anybody asks it, and the network."""

    def __init__(self) -> None:
        self.keys: dict[Address, Address] = {}
        self.hub = Hub()

    def add(self, number: int, *, knows: Member | None = None, operators: int = 1) -> Member:
        return Member(self, number, [knows.address] if knows else [], operators)


async def test_all_find_all_from_one_address() -> None:
    world = World()
    first = world.add(0)
    members = [first, *(world.add(number, knows=first) for number in range(1, 12))]
    tasks = [asyncio.create_task(each.discovery.run()) for each in members]
    try:
        async with asyncio.timeout(20):
            while not all(len(each.book) == 12 and len(each.network.peers()) >= 8 for each in members):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert all(each.discovery.problem is None for each in members)


async def test_whoever_joins_is_announced_to_all() -> None:
    world = World()
    first = world.add(0)
    old, new = world.add(1, knows=first), world.add(2, knows=first)
    for each in (first, old, new):
        await each.discovery.start()
    await old.discovery.look_around()
    await new.discovery.look_around()
    assert len(old.book) == 2
    await new.discovery.announce()
    assert len(old.book) == 3


async def test_a_farm_of_many_operators_is_told_page_by_page() -> None:
    world = World()
    first = world.add(0, operators=2 * MAX_PAGE + 1)
    farm = world.add(1, knows=first, operators=MAX_PAGE + 3)
    for each in (first, farm):
        await each.discovery.start()
    (peer,) = await farm.discovery.knock()
    assert await farm.discovery.exchange(peer) == 2 * MAX_PAGE + 1
    assert len(first.book) == len(farm.book) == 3 * MAX_PAGE + 4
    assert await farm.discovery.exchange(peer) == 0


async def test_a_dead_bootstrap_list_is_told_clearly_and_tried_again() -> None:
    world = World()
    dead = [f"/ip4/127.0.0.1/tcp/{port}/p2p/Nobody12345" for port in (1, 2)]
    node = Member(world, 0, dead)
    with pytest.raises(BootstrapDead, match="none of 2 bootstrap addresses answers") as caught:
        await node.discovery.look_around()
    assert all(address in str(caught.value) for address in dead)
    running = asyncio.create_task(node.discovery.run())
    async with asyncio.timeout(20):
        while node.discovery.problem is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        late = MemoryNetwork(world.hub, PeerId("Nobody12345"), "/ip4/127.0.0.1/tcp/2")
        while not late.peers() or node.discovery.problem is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_one_live_address_of_a_list_is_enough() -> None:
    world = World()
    first = world.add(0)
    node = Member(world, 1, ["/ip4/127.0.0.1/tcp/1/p2p/Nobody12345", first.address])
    await first.discovery.start()
    assert await node.discovery.knock() == [first.network.peer_id]


async def test_records_of_impostors_are_not_handed_on() -> None:
    world = World()
    honest, liar = world.add(0), world.add(1)
    await honest.discovery.start()
    stolen = NodeRecord(
        HERE, honest.accounts[0].address, NOW_MS + 9, liar.network.peer_id, liar.network.addresses, "http://127.0.0.1:1"
    )
    forged = RecordBody.from_signed(sign_record(stolen, liar.accounts[0].sign))
    await liar.network.connect(honest.address)
    query = seal(HERE, RecordsQuery(own=[forged]))
    await liar.network.request(honest.network.peer_id, PROTOCOL, query)
    await liar.network.publish(TOPIC, seal(HERE, RecordMessage(record=forged)))
    await liar.network.publish(TOPIC, b"nonsense")
    record = honest.book.get(honest.accounts[0].address)
    assert record is not None
    assert record.peer_id == honest.network.peer_id
    assert len(honest.book) == 1


async def test_by_gossip_nobody_speaks_for_another() -> None:
    world = World()
    listener, speaker, other = world.add(0), world.add(1), world.add(2)
    await listener.discovery.start()
    await speaker.network.connect(listener.address)
    (signed,) = other.make_own()
    await speaker.network.publish(TOPIC, seal(HERE, RecordMessage(record=RecordBody.from_signed(signed))))
    assert listener.book.get(other.accounts[0].address) is None
    await other.network.connect(listener.address)
    await other.network.publish(TOPIC, seal(HERE, RecordMessage(record=RecordBody.from_signed(signed))))
    assert listener.book.get(other.accounts[0].address) == signed.record


async def test_who_asks_senselessly_or_too_often_is_told_so() -> None:
    world = World()
    asked, asker = world.add(0), world.add(1)
    await asked.discovery.start()
    peer = await asker.network.connect(asked.address)

    async def ask(data: bytes) -> str:
        answer = open_answer(HERE, "records", await asker.network.request(peer, PROTOCOL, data))
        return answer.type if isinstance(answer, ErrorDetail) else "answered"

    assert await ask(b"{}") == "SCHEMA"
    assert await ask(seal(NetworkName(1, HERE.market), RecordsQuery())) == "CHAIN"
    said = [await ask(seal(HERE, RecordsQuery())) for _ in range(60)]
    assert said[0] == "answered"
    assert "RATE" in said


async def test_a_peer_that_repeats_a_page_for_ever_is_left() -> None:
    world = World()
    honest, liar = world.add(0), world.add(1, operators=MAX_PAGE)
    page = [RecordBody.from_signed(each) for each in liar.make_own()]

    async def repeat(peer: PeerId, data: bytes) -> bytes:
        return seal(HERE, RecordsAnswer(records=page))

    await liar.network.serve(PROTOCOL, repeat, 1 << 20)
    peer = await honest.network.connect(liar.address)
    with pytest.raises(Unreached, match="again and again"):
        await honest.discovery.exchange(peer)


async def test_nobody_is_dialled_into_a_private_network() -> None:
    world = World()
    node, lure = world.add(0), world.add(1)
    node.discovery._is_local = False
    (signed,) = lure.make_own()
    node.book.add(signed, NOW_MS)
    await node.discovery.look_around()
    assert node.network.peers() == ()
    node.discovery._is_local = True
    node.discovery._not_before.clear()
    await node.discovery.look_around()
    assert node.network.peers() == (lure.network.peer_id,)


@pytest.mark.parametrize(
    ("address", "public", "local"),
    [
        ("/ip4/8.8.8.8/tcp/1", True, False),
        ("/ip4/127.0.0.1/tcp/1", False, True),
        ("/ip4/10.0.0.1/tcp/1", False, False),
        ("/ip4/169.254.169.254/tcp/80", False, False),
        ("/ip6/::1/tcp/1", False, True),
        ("/ip6/::ffff:10.0.0.1/tcp/1", False, False),
        ("/ip4/999.1.1.1/tcp/1", False, False),
        ("/ip4/224.0.0.1/tcp/1", False, False),
    ],
)
def test_which_addresses_may_be_dialled(address: str, public: bool, local: bool) -> None:
    assert is_dialable(address, is_local=False) is public
    assert is_dialable(address, is_local=True) is local


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:4001", "/ip4/127.0.0.1/tcp/4001", "/ip4/1.2.3.4/tcp/1/p2p/", "http://x"]
)
def test_a_bootstrap_address_that_is_none_is_named(address: str) -> None:
    good = "/dns4/node.example/tcp/4001/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
    assert check_bootstrap([good]) == (good,)
    with pytest.raises(ConfigurationError, match="bootstrap: "):
        check_bootstrap([good, address])
