"""A node's place in the network, on one in memory: whose records it signs and believes, and what they tell it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from quorate.chain.account import SigningAccount
from quorate.protocol.errors import ConfigurationError
from quorate.protocol.types import Address
from quorate_node.config import NodeConfig, build_config
from quorate_node.core.views import ChainView, OperatorView
from quorate_node.messaging import ChainLocator
from quorate_node.p2p import supervisor
from quorate_node.p2p.discovery import Pace
from quorate_node.p2p.membership import IDENTITY_FILE, MAX_NEIGHBOURS, RECORDS_FILE, Membership, load_seed
from quorate_node.p2p.memory import Hub, MemoryNetwork
from quorate_node.p2p.port import PeerId
from quorate_node.p2p.wire.digests import compute_roots_digest
from quorate_node.p2p.wire.network import NetworkName

NAME = NetworkName(31337, Address(b"\x11" * 20))
FIRST = "/ip4/127.0.0.1/tcp/4001/p2p/FirstNode123"
SETTINGS = {
    "rpc_url": "http://127.0.0.1:1",
    "deployment": "d.json",
    "keystore": "k.json",
    "p2p_listen": "/ip4/127.0.0.1/tcp/0",
}


def make_config(home: Path, **changes: object) -> NodeConfig:
    return build_config(home, SETTINGS | changes, "here")


def add_operator(view: ChainView, operator_id: int, owner: Address, signing_key: Address, url: str = "") -> None:
    view.operators[operator_id] = OperatorView(owner, signing_key, url)
    view.operator_by_address |= {owner: operator_id, signing_key: operator_id}


def make_member(
    home: Path, view: ChainView, hub: Hub, number: int, key: SigningAccount, **changes: object
) -> Membership:
    name = PeerId("FirstNode123" if number == 1 else "NodeNode" + "abcdefghijkmnopqrstuvwxyz"[number])
    network = MemoryNetwork(hub, name, f"/ip4/127.0.0.1/tcp/{4000 + number}")
    config = make_config(home, listen=f"127.0.0.1:{8000 + number}", **changes)
    return Membership(config, NAME, view, [key], is_local=True, network=network, pace=Pace(round_s=0.01, idle_s=0.02))


async def test_urls_of_all_nodes_are_found_from_one_address(tmp_path: Path) -> None:
    view, hub, count = ChainView(), Hub(), MAX_NEIGHBOURS + 4
    owners = [SigningAccount.from_key(bytes((100 + number,)) * 32) for number in range(count)]
    keys = [SigningAccount.from_key(bytes((1 + number,)) * 32) for number in range(count)]
    for number in range(count):
        add_operator(view, number + 1, owners[number].address, keys[number].address)
    members = [make_member(tmp_path, view, hub, 1, keys[0])]
    members += [make_member(tmp_path, view, hub, n + 1, keys[n], bootstrap=[FIRST]) for n in range(1, count)]
    found: list[list[str]] = [[] for _ in members]
    running = [asyncio.create_task(each.run(urls.append)) for each, urls in zip(members, found, strict=True)]
    try:
        async with asyncio.timeout(20):
            while not all(each.describe()["records"] == count for each in members):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            while not all(len(urls) == MAX_NEIGHBOURS for urls in found):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    assert all(f"http://127.0.0.1:{8001 + number}" not in urls for number, urls in enumerate(found))
    locator = ChainLocator(view, members[3].find_url)
    assert locator.locate_operator(5) == "http://127.0.0.1:8005"
    assert locator.locate_address(keys[4].address) == "http://127.0.0.1:8005"
    view.operators[5].url = "https://what.the.chain.says"
    assert locator.locate_operator(5) == "https://what.the.chain.says"
    assert locator.locate_operator(99) is None


async def test_a_node_without_stake_listens_and_is_not_believed(tmp_path: Path) -> None:
    view, hub = ChainView(), Hub()
    key, nobody = (SigningAccount.from_key(bytes((each,)) * 32) for each in (1, 2))
    add_operator(view, 1, key.address, key.address)
    first = make_member(tmp_path, view, hub, 1, key)
    poor = make_member(tmp_path, view, hub, 2, nobody, bootstrap=[FIRST])
    running = [asyncio.create_task(each.run(lambda url: None)) for each in (first, poor)]
    try:
        async with asyncio.timeout(20):
            while poor.describe()["records"] != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert first.describe()["records"] == 1
        assert first.describe() | {"records": 0} == {
            "identity": "FirstNode123", "addresses": [FIRST], "peers": 1, "records": 0, "problem": None, "restarts": 0,
            "neighbours": [], "collators": [], "with_datasets": [], "counts": {},
        }  # fmt: skip
        view.operators[1].ejected = True
        async with asyncio.timeout(20):
            while poor.describe()["records"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    assert poor.find_url(key.address) is None


async def test_a_dead_bootstrap_list_stands_in_the_status(tmp_path: Path) -> None:
    key = SigningAccount.from_key(bytes((1,)) * 32)
    alone = make_member(tmp_path, ChainView(), Hub(), 2, key, bootstrap=[FIRST])
    running = asyncio.create_task(alone.run(lambda url: None))
    async with asyncio.timeout(20):
        while alone.describe()["problem"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "none of 1 bootstrap addresses answers" in alone.describe()["problem"]
    assert FIRST in alone.describe()["problem"]


async def test_what_was_found_outlives_a_restart_and_a_bootstrap_node(tmp_path: Path) -> None:
    view, hub = ChainView(), Hub()
    keys = [SigningAccount.from_key(bytes((each,)) * 32) for each in (1, 2, 3)]
    for number, key in enumerate(keys):
        add_operator(view, number + 1, key.address, key.address)
    homes = [tmp_path / str(number) for number in range(3)]

    async def live(numbers: list[int], done: Callable[[list[Membership]], bool]) -> None:
        members = [make_member(homes[n], view, hub, n + 1, keys[n], bootstrap=[FIRST] if n else []) for n in numbers]
        running = [asyncio.create_task(each.run(lambda url: None)) for each in members]
        async with asyncio.timeout(20):
            while not done(members):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        hub.nodes.clear()

    await live([0, 1, 2], lambda members: all(each.describe()["records"] == 3 for each in members))
    await live([1, 2], lambda members: all(each.describe()["peers"] == 1 for each in members))
    for broken in ("", "[{}]", "[1]", "{}", '"x"', "[[[["):
        (homes[1] / RECORDS_FILE).write_text(broken)
        await live([1], lambda members: members[0].describe()["problem"] is not None)


async def test_a_record_that_nobody_would_take_is_told(tmp_path: Path) -> None:
    view, key = ChainView(), SigningAccount.from_key(bytes((1,)) * 32)
    add_operator(view, 1, key.address, key.address)
    member = make_member(tmp_path, view, Hub(), 1, key, announce="https://" + "x" * 300)
    with pytest.raises(ConfigurationError, match="no other node would take this node's record"):
        await member.run(lambda url: None)
    assert "url" in member.describe()["problem"]


async def test_where_libp2p_is_missing_the_status_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "is_installed", lambda: False)
    member = Membership(make_config(tmp_path), NAME, ChainView(), [], is_local=True)
    with pytest.raises(ConfigurationError, match=r"scripts/setup --p2p"):
        await member.run(lambda url: None)
    assert "libp2p is not installed" in member.describe()["problem"]


def test_the_identity_of_a_home_stays_and_is_its_owners_alone(tmp_path: Path) -> None:
    seed = load_seed(tmp_path)
    assert load_seed(tmp_path) == seed
    assert (tmp_path / IDENTITY_FILE).stat().st_mode & 0o777 == 0o600
    (tmp_path / IDENTITY_FILE).write_text(seed.hex()[2:])
    with pytest.raises(ConfigurationError, match="does not hold 32 bytes"):
        load_seed(tmp_path)
    (tmp_path / IDENTITY_FILE).write_text("no hex")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_seed(tmp_path)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"p2p_listen": "127.0.0.1:4001"}, "p2p_listen"),
        ({"p2p_listen": "/ip4/127.0.0.1/udp/4001"}, "p2p_listen"),
        ({"p2p_announce": ["/dns4/a/tcp/1"]}, "p2p_announce"),
        ({"bootstrap": ["/ip4/127.0.0.1/tcp/4001"]}, "bootstrap"),
        ({"bootstrap": [FIRST], "p2p_listen": None}, "p2p_listen"),
        ({"message_ways": ["p2p"], "p2p_listen": None}, "p2p_listen"),
        ({"message_ways": []}, "message_ways"),
        ({"message_ways": ["http", "pigeon"]}, "message_ways"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, changes: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        make_config(tmp_path, **changes)


async def test_a_record_tells_what_may_be_asked_for_and_a_twin_is_noticed(tmp_path: Path) -> None:
    view, hub = ChainView(), Hub()
    keys = [SigningAccount.from_key(bytes((each,)) * 32) for each in (1, 2)]
    for number, key in enumerate(keys):
        add_operator(view, number + 1, key.address, key.address)
    roots = [compute_roots_digest([])]
    one = make_member(tmp_path / "1", view, hub, 1, keys[0], collator=True)
    two = make_member(tmp_path / "2", view, hub, 2, keys[1], bootstrap=[FIRST])
    one._get_roots = lambda: roots[0]
    one._discovery._pace = replace(one._discovery._pace, renew_s=0.01)
    running = [asyncio.create_task(each.run(lambda url: None)) for each in (one, two)]
    try:
        async with asyncio.timeout(20):
            while two.describe()["records"] != 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert two.find_holders("bafyone") == []
            assert two.list_collators() == [keys[0].address]
            assert one.list_collators() == [], "not itself"
            assert two.find_peer(keys[0].address) == "FirstNode123"
            assert two.find_peer(keys[1].address) is None, "not itself"
            roots[0] = compute_roots_digest(["bafyone"])  # it has joined a dataset meanwhile, and says so
            while two.find_holders("bafyone") != ["http://127.0.0.1:8001"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert two.find_holders("bafyanother") == []
            assert one.describe()["problem"] is None
            twin = make_member(tmp_path / "3", view, hub, 3, keys[0], bootstrap=[FIRST])
            running.append(asyncio.create_task(twin.run(lambda url: None)))
            while "another node runs with the key" not in (one.describe()["problem"] or ""):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
