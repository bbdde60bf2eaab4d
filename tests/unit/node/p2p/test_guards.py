"""Each guard of the libp2p host does what the stock library does not: without its guard, a scenario goes badly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("libp2p", reason="libp2p is not installed here (scripts/setup --p2p)")

import libp2p.network.swarm as swarm_module
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from libp2p import new_host
from libp2p.network.stream.exceptions import StreamError
from libp2p.pubsub import gossipsub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux
from libp2p.utils.varint import encode_uvarint
from tests.unit.node.p2p import hosts as p2p_hosts
from tests.unit.node.p2p.hosts import (
    ECHO,
    GENEROUS,
    NETWORK,
    TOPIC,
    announce,
    locate,
    make_settings,
    open_crowd,
    run,
    speak,
)  # fmt: skip

from quorate_node.p2p.child import door, guards
from quorate_node.p2p.child import host as host_module
from quorate_node.p2p.child.host import GOSSIPSUB, Failed
from quorate_node.p2p.wire.limits import GossipLimits, Rate
from quorate_node.p2p.wire.messages import REQUESTS, BatchMessage, seal

Patch = pytest.MonkeyPatch
SLOTS = 16


def check_guard(patch: Patch, scenario: Callable[..., Any], remove: Callable[[Patch], None]) -> None:
    """A scenario goes well, and badly once a guard is taken away."""
    run(scenario)
    with patch.context() as without:
        remove(without)
        with pytest.raises(BaseException) as caught:
            run(scenario)
    assert not isinstance(caught.value, KeyboardInterrupt)


def replace_by_nothing(name: str) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(guards, name, lambda *arguments: None)


def change_argument(target: str, name: str, value: object) -> Callable[[Patch], None]:
    """A constructor that host.py calls gets another value."""
    inner = getattr(host_module, target)

    def construct(*arguments: object, **named: object) -> object:
        return inner(*arguments, **(named | {name: value}))

    return lambda patch: patch.setattr(host_module, target, construct)


def remove_validator(patch: Patch) -> None:
    """Whoever speaks is heard, and passed on."""

    def make(topic: str, *arguments: Any) -> Callable[..., Any]:
        hear = arguments[-1]

        async def validate(forwarder: Any, message: Any) -> bool:
            if forwarder != arguments[2]:
                await hear(topic, str(forwarder), message.data)
            return True

        return validate

    patch.setattr(guards, "make_validator", make)


async def is_alive(crowd: Any) -> bool:
    _victim, _, friend = crowd.hosts
    return bool(await friend.request(crowd.hosts[0].peer_id, ECHO, b"still there?", 5.0) == b"still there?")


# malformed --------------------------------------------------------------------------------------------------------


async def send_malformed_gossip() -> None:
    async with open_crowd(3) as crowd:
        victim, attacker, _ = crowd.hosts
        garbage = b"\x0a\xff\xff\xff\xff\x0f" + bytes(40)
        await speak(attacker, victim, GOSSIPSUB, encode_uvarint(len(garbage)) + garbage)
        await trio.sleep(0.2)
        assert await is_alive(crowd)
        await crowd.wait(lambda: victim.watch.counts.total() > 0)


def test_a_malformed_frame_resets_a_stream_and_not_the_host(monkeypatch: Patch) -> None:
    check_guard(monkeypatch, send_malformed_gossip, replace_by_nothing("guard_streams"))


async def raise_in_a_handler() -> None:
    async with open_crowd(3) as crowd:
        victim, attacker, _ = crowd.hosts

        async def fail(stream: object) -> None:
            raise RuntimeError("a bug of ours")

        victim.host.set_stream_handler("/quorate/test/bug", fail)
        with pytest.raises(Failed):
            await attacker.request(victim.peer_id, "/quorate/test/bug", b"x", 2.0)
        assert await is_alive(crowd)


def test_an_exception_in_a_handler_is_counted_and_survived(monkeypatch: Patch) -> None:
    check_guard(monkeypatch, raise_in_a_handler, replace_by_nothing("guard_streams"))


async def send_unreadable_message() -> None:
    async with open_crowd(3) as crowd:
        victim, attacker, _ = crowd.hosts
        message = rpc_pb2.Message(
            data=announce(1), topicIDs=[TOPIC], from_id=b"\x01nobody", seqno=b"1", key=b"\xff" * 9
        )
        message.signature = b"none"
        packet = rpc_pb2.RPC(publish=[message]).SerializeToString()
        await speak(attacker, victim, GOSSIPSUB, encode_uvarint(len(packet)) + packet)
        await crowd.wait(lambda: victim.watch.counts.total() > 0)
        assert await is_alive(crowd)
        await crowd.hosts[2].publish(TOPIC, announce(2))
        await crowd.wait(lambda: announce(2) in crowd.heard[0])


def test_an_unreadable_message_does_not_end_gossip(monkeypatch: Patch) -> None:
    check_guard(monkeypatch, send_unreadable_message, replace_by_nothing("guard_push"))


async def send_garbage_everywhere(words: list[bytes]) -> None:
    async with open_crowd(3, patience=10_000) as crowd:
        victim, attacker, _ = crowd.hosts
        served = {NETWORK.name_protocol(kind): schemas.max_bytes for kind, schemas in REQUESTS.items()}
        for protocol, max_bytes in served.items():
            victim.serve(protocol, max_bytes)
        for protocol in (GOSSIPSUB, ECHO, *served, "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0"):
            for data in words:
                await speak(attacker, victim, protocol, data)
        assert await is_alive(crowd)
        await crowd.hosts[2].publish(TOPIC, announce(4))
        await crowd.wait(lambda: announce(4) in crowd.heard[0])
        assert [each for each in crowd.heard[0] if each != announce(4)] == []
        assert victim.watch.counts.total() > 0
        assert victim.watch.counts["banned"] == 0


@settings(max_examples=3, deadline=None)
@given(words=st.lists(st.binary(max_size=300), min_size=3, max_size=5))
@example(words=[b"", b"\x00", b"\xff" * 64, b"\x80" * 12, bytes(range(256)) * 8, b"\x05GET /"])
def test_garbage_on_every_protocol_is_survived(words: list[bytes]) -> None:
    run(send_garbage_everywhere, words)


# transport --------------------------------------------------------------------------------------------------------


async def dial_in_plaintext() -> None:
    async with open_crowd(1) as crowd:
        pair = host_module.create_new_key_pair(bytes(32))
        bare = new_host(key_pair=pair, sec_opt={PLAINTEXT_PROTOCOL_ID: InsecureTransport(pair)})
        async with bare.run([]):
            with pytest.raises(Exception, match="unable to connect"):
                await bare.connect(
                    host_module.info_from_p2p_addr(host_module.multiaddr.Multiaddr(locate(crowd.hosts[0])))
                )
            await bare.close()


def test_nobody_speaks_plaintext_to_it(monkeypatch: Patch) -> None:
    check_guard(monkeypatch, dial_in_plaintext, change_argument("new_host", "sec_opt", None))


async def dial_with_slow_eyeballs() -> None:
    async with open_crowd(1) as crowd, open_crowd(1, first=9) as other:
        await other.hosts[0].connect(locate(crowd.hosts[0]), p2p_hosts.PATIENCE_S)
        assert other.hosts[0].list_peers() == [crowd.hosts[0].peer_id]


def test_a_dial_does_not_wait_for_a_second_connection(monkeypatch: Patch) -> None:
    monkeypatch.setattr(swarm_module, "_HAPPY_EYEBALLS_DELAY", 30.0)  # the quarter of a second that each dial costs

    def remove(patch: Patch) -> None:
        change_argument("ConnectionConfig", "max_connections_per_peer", 3)(patch)
        patch.setattr(p2p_hosts, "PATIENCE_S", 0.7)

    check_guard(monkeypatch, dial_with_slow_eyeballs, remove)


async def dial_again() -> None:
    async with open_crowd(1) as crowd:
        with pytest.raises(Failed):
            await crowd.hosts[0].connect(await _reserve(), 1.0)
        (address, _, identity) = (await _reserve()).partition("/p2p/")
        late = make_settings(9, listen=address)
        async with host_module.open_host(late, lambda *_: None, _refuse) as host:
            assert host.peer_id == identity
            await crowd.hosts[0].connect(locate(host), 10.0)


async def _refuse(*_: object) -> bytes | None:
    return None


async def _reserve() -> str:
    """Address of the host with key 9, which does not run; the same one each time."""
    global _reserved
    if not _reserved:
        async with host_module.open_host(make_settings(9), lambda *_: None, _refuse) as host:
            _reserved = locate(host)
    return _reserved


_reserved = ""


def test_a_failed_dial_may_be_tried_again_at_once(monkeypatch: Patch) -> None:
    check_guard(
        monkeypatch,
        dial_again,
        lambda patch: patch.setattr(swarm_module._NegativePeerCache, "evict", lambda *_: None),
    )


async def know_of_a_stranger() -> None:
    async with open_crowd(1) as crowd, open_crowd(1, first=9) as other:
        host, stranger = crowd.hosts[0].host, other.hosts[0]
        place = host_module.multiaddr.Multiaddr(stranger.addresses[0])
        host.get_peerstore().add_addrs(stranger.host.get_id(), [place], 600)
        await host.get_network().auto_connector.maybe_connect()
        await trio.sleep(0.3)
        assert not crowd.hosts[0].list_peers()


def test_nobody_is_dialled_unless_the_node_says_so(monkeypatch: Patch) -> None:
    check_guard(monkeypatch, know_of_a_stranger, replace_by_nothing("keep_from_dialling"))


async def listen_twice() -> None:
    async with open_crowd(1) as crowd:
        with pytest.raises(Failed, match="cannot listen on"):
            async with host_module.open_host(make_settings(9, listen=crowd.hosts[0].addresses[0]), print, _refuse):
                pass


def test_a_port_that_is_taken_is_not_shared(monkeypatch: Patch) -> None:
    check_guard(
        monkeypatch, listen_twice, lambda patch: patch.setattr(host_module, "check_listen", lambda address: None)
    )


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:4001", "/ip4/127.0.0.1", "/ip4/127.0.0.1/tcp/x", "/dns/example.org/tcp/1"]
)
def test_an_address_to_listen_on_must_be_one(address: str) -> None:
    with pytest.raises(Failed, match="is no address to listen on"):
        host_module.check_listen(address)


def test_window_updates_come_in_batches(monkeypatch: Patch) -> None:
    async def scenario() -> None:
        async with open_crowd(1):
            assert not yamux._yamux_release_on_read()

    monkeypatch.delenv("PY_YAMUX_RELEASE_ON_READ", raising=False)
    check_guard(
        monkeypatch,
        scenario,
        lambda patch: (patch.delenv("PY_YAMUX_RELEASE_ON_READ"), replace_by_nothing("tune_yamux")(patch))[1],
    )


# gossip -----------------------------------------------------------------------------------------------------------


async def publish_a_burst() -> None:
    async with open_crowd(3, gossip=GENEROUS) as crowd:
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(crowd.hosts[1].publish, TOPIC, announce(number))
        count = -1
        while count != len(crowd.heard[2]) < 100:  # as long as more of them come
            count = len(crowd.heard[2])
            await trio.sleep(0.7)
        assert len(crowd.heard[2]) == 100


def test_a_burst_of_announcements_is_paced(monkeypatch: Patch) -> None:
    def remove(patch: Patch) -> None:
        async def publish(self: Any, topic: str, data: bytes) -> None:
            await self.pubsub.publish(topic, data)

        patch.setattr(host_module.GuardedHost, "publish", publish)

    check_guard(monkeypatch, publish_a_burst, remove)


def test_the_librarys_own_limit_of_messages_is_off(monkeypatch: Patch) -> None:
    check_guard(monkeypatch, publish_a_burst, change_argument("GossipSub", "spam_protection_enabled", True))


async def count_heartbeats() -> None:
    beats = 0
    inner = gossipsub.GossipSub.mesh_heartbeat

    def beat(self: object) -> object:
        nonlocal beats
        beats += 1
        return inner(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gossipsub.GossipSub, "mesh_heartbeat", beat)
        async with open_crowd(1) as crowd:
            await crowd.wait(lambda: beats >= 2)


def test_the_mesh_is_mended_every_second(monkeypatch: Patch) -> None:
    def remove(patch: Patch) -> None:
        change_argument("GossipSub", "heartbeat_interval", 120)(patch)
        patch.setattr(p2p_hosts, "PATIENCE_S", 0.7)

    check_guard(monkeypatch, count_heartbeats, remove)


def test_only_one_version_of_gossip_is_spoken() -> None:
    async def scenario() -> None:
        async with open_crowd(1) as crowd:
            spoken = {str(each) for each in crowd.hosts[0].host.get_mux().get_protocols() if each}
            assert {each for each in spoken if "sub" in each} == {"/meshsub/1.1.0"}

    run(scenario)


def sign(author: Any, data: bytes) -> rpc_pb2.Message:
    """A message as the library makes it, but not sent."""
    pubsub = author.pubsub
    message = rpc_pb2.Message(
        data=data, topicIDs=[TOPIC], from_id=author.host.get_id().to_bytes(), seqno=pubsub._next_seqno()
    )
    message.signature = pubsub.sign_key.sign(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString())
    message.key = author.host.get_public_key().serialize()
    return message


async def flood() -> None:
    limits = GossipLimits(author=Rate(0.01, 20.0), forwarder=Rate(0.1, 60.0))
    async with open_crowd(3, gossip=limits, patience=20) as crowd:
        victim, attacker, friend = crowd.hosts
        stream = await attacker.host.new_stream(victim.host.get_id(), [GOSSIPSUB])
        with contextlib.suppress(StreamError, MuxedStreamError):  # it is put out while it speaks
            for number in range(300):
                packet = rpc_pb2.RPC(publish=[sign(attacker, announce(10_000 + number))]).SerializeToString()
                await stream.write(encode_uvarint(len(packet)) + packet)
        await crowd.wait(lambda: attacker.peer_id not in victim.list_peers())
        assert sum(each.startswith(b"{") for each in crowd.heard[2]) <= 21  # its burst, and what a slow machine adds
        await friend.publish(TOPIC, announce(5))
        await crowd.wait(lambda: announce(5) in crowd.heard[0])
        with pytest.raises(Failed) as caught:
            await victim.connect(locate(attacker), 2.0)
        assert caught.value.code == "BANNED"


def test_a_flood_ends_with_its_author_out_and_others_heard(monkeypatch: Patch) -> None:
    def remove(patch: Patch) -> None:
        patch.setattr(host_module.GossipGate, "admit_forwarder", lambda *_: True)
        patch.setattr(p2p_hosts, "PATIENCE_S", 0.7)

    check_guard(monkeypatch, flood, remove)


async def say_too_much() -> None:
    limits = GossipLimits(author=Rate(0.001, 10.0))
    async with open_crowd(3, gossip=limits) as crowd:
        for number in range(40):
            await crowd.hosts[1].publish(TOPIC, announce(number))
        await crowd.wait(lambda: crowd.hosts[0].watch.counts["gossip: its author says too much"] >= 20)
        assert len(crowd.heard[2]) <= 10
        await crowd.hosts[2].publish(TOPIC, announce(77))
        await crowd.wait(lambda: announce(77) in crowd.heard[1])


def test_an_author_has_a_rate(monkeypatch: Patch) -> None:
    def remove(patch: Patch) -> None:
        remove_validator(patch)
        patch.setattr(p2p_hosts, "PATIENCE_S", 0.7)

    check_guard(monkeypatch, say_too_much, remove)


async def say_it_again() -> None:
    async with open_crowd(3, gossip=GENEROUS) as crowd:
        for number in (1, 1, 1, 2):
            await crowd.hosts[1].publish(TOPIC, announce(number))  # another sequence number each time
        await crowd.hosts[0].publish(TOPIC, announce(3))
        await crowd.wait(lambda: {announce(2), announce(3)} <= set(crowd.heard[2]))
        assert crowd.heard[2].count(announce(1)) == 1


def test_the_same_words_are_delivered_once(monkeypatch: Patch) -> None:
    check_guard(
        monkeypatch, say_it_again, lambda patch: patch.setattr("quorate_node.p2p.wire.limits.Seen.add", lambda *_: True)
    )


async def say_nonsense() -> None:
    async with open_crowd(3, gossip=GENEROUS) as crowd:
        for words in (b"", b"{}", b"[" * 5000, announce(1).replace(b"31337", b"1"), b"x" * (16 * 1024 + 1)):
            await Pubsub.publish(crowd.hosts[1].pubsub, TOPIC, words)
            await trio.sleep(0.01)
        await crowd.hosts[1].publish(TOPIC, announce(6))
        await crowd.wait(lambda: announce(6) in crowd.heard[2])
        assert crowd.heard[2] == [announce(6)]
        with pytest.raises(Failed, match="at most"):
            await crowd.hosts[1].publish(TOPIC, b"x" * (16 * 1024 + 1))


def test_nonsense_is_not_passed_on(monkeypatch: Patch) -> None:
    check_guard(
        monkeypatch,
        say_nonsense,
        remove_validator,
    )


async def say_what_nobody_believes() -> None:
    async with open_crowd(3, gossip=GENEROUS) as crowd:  # whoever listens is connected to the first one alone
        doubtful = seal(NETWORK, BatchMessage(batch_id=1, providers=[f"http://{p2p_hosts.DOUBTFUL.decode()}"]))
        await crowd.hosts[1].publish(TOPIC, doubtful)
        await crowd.hosts[1].publish(TOPIC, announce(2))
        await crowd.wait(lambda: announce(2) in crowd.heard[2])
        assert doubtful in crowd.heard[0]
        assert doubtful not in crowd.heard[2], "it was passed on"
        assert crowd.hosts[0].watch.counts["gossip: not believed"] == 1
        assert crowd.hosts[1].peer_id in crowd.hosts[0].list_peers(), "which is no offence"


def test_what_the_node_does_not_believe_is_not_passed_on(monkeypatch: Patch) -> None:
    check_guard(monkeypatch, say_what_nobody_believes, remove_validator)


async def drown_out() -> None:
    async with open_crowd(3, gossip=GossipLimits(total=Rate(0.001, 16.0))) as crowd:
        hub, attacker, friend = crowd.hosts
        await friend.publish(TOPIC, announce(1))
        await crowd.wait(lambda: announce(1) in crowd.heard[0])
        for number in range(20):
            doubtful = BatchMessage(batch_id=number, providers=[f"http://{p2p_hosts.DOUBTFUL.decode()}"])
            await attacker.publish(TOPIC, seal(NETWORK, doubtful))
        await crowd.wait(lambda: hub.watch.counts["gossip: too much is said by all"] > 10)
        for number in range(10, 20):
            await friend.publish(TOPIC, announce(number))
        await crowd.wait(lambda: announce(19) in crowd.heard[0])


def test_who_is_never_believed_drowns_out_nobody(monkeypatch: Patch) -> None:
    def remove(patch: Patch) -> None:
        patch.setattr(host_module.GossipGate, "note_believed", lambda *_: None)
        patch.setattr(p2p_hosts, "PATIENCE_S", 3.0)

    check_guard(monkeypatch, drown_out, remove)


async def graft_without_end() -> None:
    heeded = 0
    async with open_crowd(2) as crowd:
        victim, attacker = crowd.hosts
        inner = victim.pubsub.router.handle_graft

        async def count(*arguments: Any) -> None:
            nonlocal heeded
            heeded += 1
            await inner(*arguments)

        victim.pubsub.router.handle_graft = count
        packet = rpc_pb2.RPC()
        for number in range(150):
            packet.control.graft.add().topicID = f"topic {number}"
        words = encode_uvarint(packet.ByteSize()) + packet.SerializeToString()
        stream = await attacker.host.new_stream(victim.host.get_id(), [GOSSIPSUB])
        for _ in range(5):
            await stream.write(words)
        await crowd.wait(lambda: victim.watch.counts["gossip: too much control"] > 0)
        assert heeded < 5 * 150
        assert await attacker.request(victim.peer_id, ECHO, b"hello", 5.0) == b"hello"


def test_a_neighbour_grafts_and_prunes_so_often(monkeypatch: Patch) -> None:
    def remove(patch: Patch) -> None:
        replace_by_nothing("guard_control")(patch)
        patch.setattr(p2p_hosts, "PATIENCE_S", 2.0)

    check_guard(monkeypatch, graft_without_end, remove)


# the door ---------------------------------------------------------------------------------------------------------


def leave_the_door_open(patch: Patch) -> None:
    patch.setattr(host_module.Door, "guard", lambda _: None)
    patch.setattr(host_module, "MAX_HANDSHAKES", 0)


async def come_and_go() -> None:
    async with open_crowd(1, max_peers=3) as crowd:
        for number in range(4):
            async with open_crowd(1, first=10 + number) as visitor:
                await visitor.hosts[0].connect(locate(crowd.hosts[0]), 5.0)
                assert await visitor.hosts[0].request(crowd.hosts[0].peer_id, ECHO, b"hello", 5.0) == b"hello"
        await crowd.wait(lambda: not crowd.hosts[0].list_peers())


def test_places_of_those_that_have_left_are_free(monkeypatch: Patch) -> None:
    check_guard(monkeypatch, come_and_go, leave_the_door_open)


async def crowd_the_door() -> None:
    async with open_crowd(2, max_peers=4) as crowd, contextlib.AsyncExitStack() as stack:
        hub, friend = crowd.hosts
        await friend.publish(TOPIC, announce(1))
        await crowd.wait(lambda: announce(1) in crowd.heard[0])
        for number in range(4):
            stranger = (await stack.enter_async_context(open_crowd(1, first=10 + number))).hosts[0]
            await stranger.connect(locate(hub), 5.0)  # the newest is let in
            assert await stranger.request(hub.peer_id, ECHO, b"hello", 5.0) == b"hello"
        await crowd.wait(lambda: len(hub.list_peers()) <= 3)
        assert friend.peer_id in hub.list_peers(), "whom the node believed stays"
        other = (await stack.enter_async_context(open_crowd(1, first=30))).hosts[0]
        await hub.connect(locate(other), 5.0)
        assert await hub.request(other.peer_id, ECHO, b"hello", 5.0) == b"hello"


def test_identities_that_cost_nothing_shut_nobody_out(monkeypatch: Patch) -> None:
    check_guard(monkeypatch, crowd_the_door, leave_the_door_open)


async def say_nothing_at_the_door() -> None:
    async with open_crowd(1, max_peers=8) as crowd, open_crowd(1, first=10) as visitor:
        port = int(crowd.hosts[0].addresses[0].rpartition("/")[2])
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(2 * door.MAX_HANDSHAKES):
                stack.push_async_callback((await trio.open_tcp_stream("127.0.0.1", port)).aclose)
            await visitor.hosts[0].connect(locate(crowd.hosts[0]), 4.0)  # sooner than they are given up


def test_who_says_nothing_at_the_door_makes_room(monkeypatch: Patch) -> None:
    check_guard(monkeypatch, say_nothing_at_the_door, leave_the_door_open)


# requests ---------------------------------------------------------------------------------------------------------


async def ask_on_one_stream() -> None:
    async with open_crowd(2) as crowd:
        asker, asked = crowd.hosts[1], crowd.hosts[0]
        for number in range(20):
            assert await asker.request(asked.peer_id, ECHO, b"%d" % number, 5.0) == b"%d" % number
        assert asker.requests.opened == 1
        assert asked.watch.counts.total() == 0


def test_requests_share_a_stream_that_stays_open(monkeypatch: Patch) -> None:
    check_guard(
        monkeypatch,
        ask_on_one_stream,
        lambda patch: patch.setattr("quorate_node.p2p.child.requests.Requests._take_line", lambda *_: None),
    )


async def ask_at_once() -> None:
    async with open_crowd(2, max_lines=3) as crowd:
        asker, asked, answers = crowd.hosts[1], crowd.hosts[0], []

        async def ask(number: int) -> None:
            answers.append(await asker.request(asked.peer_id, ECHO, b"%d" % number, p2p_hosts.PATIENCE_S))

        for _ in range(3):
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(ask, number)
        assert sorted(answers) == sorted(b"%d" % number for number in range(10) for _ in range(3))
        assert asker.requests.opened < 30
        (lines,) = asker.requests._lines.values()
        assert len(lines) <= 3


def test_few_streams_are_kept() -> None:
    run(ask_at_once)


async def ask_on_a_stream_that_was_closed() -> None:
    async with open_crowd(2, kept_s=0.3) as crowd:
        asker, asked = crowd.hosts[1], crowd.hosts[0]
        asker.requests._settings = make_settings(2)  # it would keep streams for longer than the other end does
        assert await asker.request(asked.peer_id, ECHO, b"one", 5.0) == b"one"
        await crowd.wait(lambda: not asked.watch._streams or max(asked.watch._streams.values()) <= 1)
        await trio.sleep(0.6)
        assert await asker.request(asked.peer_id, ECHO, b"two", 5.0) == b"two"
        assert asker.requests.opened == 2
        assert asked.watch.counts.total() == 0, "to be silent after an answer is no offence"


def test_a_stream_that_the_other_end_closed_is_replaced() -> None:
    run(ask_on_a_stream_that_was_closed)


async def ask_often() -> None:
    async with open_crowd(2, max_lines=0, stranger_bytes=1 << 20) as crowd:
        asker, asked = crowd.hosts[1], crowd.hosts[0].peer_id
        for connection in asker.host.get_network().get_connections():
            connection.muxed_conn.stream_backlog_semaphore = trio.Semaphore(SLOTS)  # it has 256
        for number in range(2 * SLOTS):
            assert await asker.request(asked, ECHO, b"%d" % number, p2p_hosts.PATIENCE_S) == b"%d" % number
        large = bytes(range(256)) * 4096
        assert await crowd.hosts[1].request(crowd.hosts[0].peer_id, ECHO, large, 10.0) == large


def test_streams_are_closed(monkeypatch: Patch) -> None:
    def remove(patch: Patch) -> None:
        async def keep(stream: object) -> None:
            return

        patch.setattr("libp2p.network.stream.net_stream.NetStream.close", keep)
        patch.setattr(p2p_hosts, "PATIENCE_S", 0.7)

    check_guard(monkeypatch, ask_often, remove)


async def open_and_say_nothing() -> None:
    async with open_crowd(3, max_peer_streams=10, idle_s=60.0) as crowd:
        victim, attacker, _ = crowd.hosts
        silent = [await attacker.host.get_network().new_stream(victim.host.get_id()) for _ in range(40)]
        await crowd.wait(lambda: victim.watch.counts["stream too many"] >= 29)
        assert await is_alive(crowd)
        for stream in silent:
            await guards.reset(stream)


def test_a_peer_that_opens_streams_and_never_speaks_costs_nobody_else(monkeypatch: Patch) -> None:
    def remove(patch: Patch) -> None:
        patch.setattr(guards.Watch, "enter", lambda *_: True)
        patch.setattr(p2p_hosts, "PATIENCE_S", 0.7)

    check_guard(monkeypatch, open_and_say_nothing, remove)


async def keep_all_streams() -> None:
    async with open_crowd(3, max_lines=50) as crowd:
        victim, attacker, friend = crowd.hosts
        for number in range(20):
            victim.serve(f"/quorate/test/{number}", 100)
        open_now = victim.watch._streams.total()
        victim.watch._max_streams = open_now + 10
        for number in range(10):
            await attacker.request(victim.peer_id, f"/quorate/test/{number}", b"keep this", 5.0)
        assert victim.watch._streams.total() >= open_now + 10
        with trio.fail_after(p2p_hosts.PATIENCE_S):
            while True:  # whoever is refused once tries again, or another way
                with contextlib.suppress(Failed):
                    assert await friend.request(victim.peer_id, ECHO, b"me too", 2.0) == b"me too"
                    break
        assert victim.watch.counts["streams of all too many"] >= 1
        assert "stream too many" not in victim.watch.counts, "the friend has done nothing wrong"


def test_streams_that_are_only_kept_make_room_for_others(monkeypatch: Patch) -> None:
    def remove(patch: Patch) -> None:
        patch.setattr("quorate_node.p2p.child.requests.Requests.end_oldest", lambda *_: None)
        patch.setattr(p2p_hosts, "PATIENCE_S", 0.7)

    check_guard(monkeypatch, keep_all_streams, remove)


async def begin_and_stop() -> None:
    async with open_crowd(3, idle_s=5.0) as crowd:
        victim, attacker, _ = crowd.hosts
        for data in (b"", b"\x00\x00", b"\x00\x00\x10\x00half"):
            stream = await attacker.host.new_stream(victim.host.get_id(), [ECHO])
            if data:
                await stream.write(data)
        await crowd.wait(lambda: victim.watch.counts["stream: TooSlowError"] == 3)
        assert await is_alive(crowd)


def test_a_request_that_never_ends_is_given_up() -> None:
    run(begin_and_stop)


async def ask_the_mute() -> None:
    async with open_crowd(2) as crowd:
        mute, asker = crowd.hosts

        async def say_nothing(stream: object) -> None:
            await trio.sleep_forever()

        mute.host.set_stream_handler("/quorate/test/mute", say_nothing)
        with pytest.raises(Failed) as caught:
            await asker.request(mute.peer_id, "/quorate/test/mute", b"?", 0.5)
        assert caught.value.code == "TIMEOUT"
        assert await asker.request(mute.peer_id, ECHO, b"!", 5.0) == b"!"


def test_a_peer_that_never_answers_is_given_up() -> None:
    run(ask_the_mute)


async def ask_for_too_much() -> None:
    async with open_crowd(2) as crowd:
        server, asker = crowd.hosts
        server.serve("/quorate/test/small", 100)

        async def boast(stream: Any) -> None:
            await stream.write(b"\x01\xff\xff\xff\xff" + bytes(1000))

        server.host.set_stream_handler("/quorate/test/boast", boast)
        assert await asker.request(server.peer_id, "/quorate/test/small", bytes(100), 5.0) == bytes(100)
        for protocol, data in (("/quorate/test/small", bytes(101)), ("/quorate/test/boast", b""), ("/none", b"")):
            with pytest.raises(Failed) as caught:
                await asker.request(server.peer_id, protocol, data, 5.0)
            assert caught.value.code == "REFUSED"
        with pytest.raises(Failed) as caught:
            await asker.request(make_identity(), ECHO, b"", 5.0)
        assert caught.value.code == "NOT_CONNECTED"
        with pytest.raises(Failed) as caught:
            await asker.request("nobody", ECHO, b"", 5.0)
        assert caught.value.code == "ADDRESS"


def make_identity() -> str:
    return str(host_module.ID.from_pubkey(host_module.create_new_key_pair(b"\x77" * 32).public_key))


def test_sizes_are_limited_and_strangers_refused() -> None:
    run(ask_for_too_much)


async def begin_much() -> None:
    async with open_crowd(2) as crowd:
        server, stranger = crowd.hosts
        much = bytes(server.settings.stranger_bytes + 1)
        with pytest.raises(Failed) as caught:
            await stranger.request(server.peer_id, ECHO, much, 5.0)
        assert caught.value.code == "REFUSED"
        assert await stranger.request(server.peer_id, ECHO, much[1:], 5.0) == much[1:]
        await stranger.publish(TOPIC, announce(1))
        await crowd.wait(lambda: announce(1) in crowd.heard[0])
        await crowd.wait(lambda: server.gate.is_believed(stranger.peer_id))
        assert await stranger.request(server.peer_id, ECHO, much, 5.0) == much


def test_strangers_begin_no_large_requests() -> None:
    run(begin_much)


@pytest.mark.parametrize("address", ["", "/ip4/127.0.0.1/tcp/1", "x" * 1000, "/ip4/127.0.0.1/tcp/1/p2p/nobody"])
def test_an_address_to_dial_must_be_one(address: str) -> None:
    async def scenario() -> None:
        async with open_crowd(1) as crowd:
            with pytest.raises(Failed) as caught:
                await crowd.hosts[0].connect(address, 2.0)
            assert caught.value.code == "ADDRESS"
            with pytest.raises(Failed) as caught:
                await crowd.hosts[0].connect(locate(crowd.hosts[0]), 2.0)
            assert caught.value.code == "SELF"

    run(scenario)
