"""A guarded libp2p host: TCP, noise, yamux, gossipsub 1.1, and requests: one frame each way on a stream of its own."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import multiaddr
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.rcmgr.manager import ResourceLimits, ResourceManager
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.tools.anyio_service import background_trio_service

from quorate_node.p2p.child import guards
from quorate_node.p2p.child.door import MAX_HANDSHAKES, Door
from quorate_node.p2p.child.requests import Failed, OnCall, Requests, parse_identity
from quorate_node.p2p.wire.limits import GossipGate, Offences
from quorate_node.p2p.wire.messages import open_announcement
from quorate_node.p2p.wire.network import WireError
from quorate_node.p2p.wire.settings import HostSettings

if TYPE_CHECKING:
    pass

GOSSIPSUB = TProtocol("/meshsub/1.1.0")
HEARTBEAT_S = 1
DIALLED_SHARE = 4
"""So many parts of all places are there for those that dial us, but for one part."""
DEGREE, DEGREE_LOW, DEGREE_HIGH = 6, 4, 12

OnGossip = Callable[[str, str, bytes], Awaitable[bool]]
"""(topic, author, data) → whether the node believes it: only then others hear of it from here."""


class GuardedHost:
    """One running host. Make it with `open_host`."""

    def __init__(
        self, settings: HostSettings, host: BasicHost, pubsub: Pubsub, on_gossip: OnGossip, on_call: OnCall
    ) -> None:
        self.settings, self.host, self.pubsub = settings, host, pubsub
        self.watch = guards.Watch(Offences(settings.patience), settings.max_streams, settings.max_peer_streams)
        self.gate = GossipGate(settings.gossip)
        self.requests = Requests(host, settings, on_call, self.gate.is_believed)
        self._on_gossip = on_gossip
        self._nursery: trio.Nursery | None = None
        self._publishing = trio.Lock()
        self._topics: set[str] = set()
        self._dialling: dict[ID, trio.Lock] = {}

    @property
    def peer_id(self) -> str:
        """Base58 of its identity."""
        return str(self.host.get_id())

    @property
    def addresses(self) -> list[str]:
        """Multiaddrs that it listens on, without its identity."""
        return [str(each) for each in self.host.get_transport_addrs()]

    def list_peers(self) -> list[str]:
        """Who is connected."""
        return [str(each) for each in self.host.get_connected_peers()]

    # gossip -------------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, data: bytes) -> None:
        """Say something; own announcements keep a distance, for a burst would be lost."""
        if len(data) > self.settings.gossip.max_bytes:
            raise Failed("SIZE", f"an announcement of {len(data)} bytes: at most {self.settings.gossip.max_bytes}")
        async with self._publishing:
            await self.pubsub.publish(topic, data)
            await trio.sleep(self.settings.publish_gap_s)

    async def subscribe(self, topic: str) -> None:
        """Hear a topic, of a kind that has a schema."""
        if topic in self._topics or self._nursery is None:
            return
        self._topics.add(topic)
        validator = guards.make_validator(
            topic, self.gate, self.watch, self.host.get_id(), self._is_well_formed, self._on_gossip
        )
        self.pubsub.set_topic_validator(topic, validator, is_async_validator=True)
        subscription = await self.pubsub.subscribe(topic)
        self._nursery.start_soon(self._drain, subscription)

    def _is_well_formed(self, topic: str, data: bytes) -> bool:
        kind = topic.rpartition("/")[2]
        try:
            open_announcement(self.settings.network, kind, data, self.settings.gossip.max_bytes)
        except WireError as error:
            self.watch.counts[f"announcement: {error.code}"] += 1
            return False
        return True

    async def _drain(self, subscription: Any) -> None:
        """The node has heard it when it was asked whether to believe it."""
        while True:
            await subscription.get()

    # requests -----------------------------------------------------------------------------------------------------

    def serve(self, protocol: str, max_bytes: int) -> None:
        """Answer a protocol's requests."""
        self.requests.serve(protocol, max_bytes)

    async def request(self, peer: str, protocol: str, data: bytes, timeout_s: float) -> bytes:
        """Ask a connected peer. Raises Failed."""
        return await self.requests.ask(peer, protocol, data, timeout_s)

    # connections --------------------------------------------------------------------------------------------------

    async def connect(self, address: str, timeout_s: float) -> str:
        """Connect to a multiaddr with an identity, one dial at a time to each. Raises Failed."""
        try:
            info = info_from_p2p_addr(multiaddr.Multiaddr(address))
        except Exception as error:
            raise Failed("ADDRESS", f"{address[:200]!r} is no multiaddr that ends with /p2p/IDENTITY") from error
        identity = parse_identity(str(info.peer_id))
        if identity == self.host.get_id():
            raise Failed("SELF", "that is this node's own identity")
        if self.watch.is_banned(str(identity)):
            raise Failed("BANNED", f"{identity} is out for a minute: it broke the rules")
        if len(self._dialling) > self.settings.max_peers:
            raise Failed("BUSY", "too many dials are under way")
        lock = self._dialling.setdefault(identity, trio.Lock())
        try:
            async with lock:
                await self._dial(info, timeout_s)
        finally:
            if not lock.statistics().tasks_waiting:
                self._dialling.pop(identity, None)
        return str(identity)

    async def _dial(self, info: PeerInfo, timeout_s: float) -> None:
        network: Any = self.host.get_network()
        if network.get_connections(info.peer_id):
            return
        network._negative_peer_cache.evict(str(info.peer_id))  # it would refuse for a minute; we pace dials ourselves
        network.peerstore.clear_addrs(info.peer_id)  # of several it would try one, perhaps one of yesterday
        try:
            with trio.fail_after(timeout_s):
                await self.host.connect(info)
        except trio.TooSlowError as error:
            raise Failed("TIMEOUT", f"{info.addrs[0]} does not answer within {timeout_s} s") from error
        except Exception as error:
            raise Failed("UNREACHED", f"{info.addrs[0]} cannot be reached: {explain(error)}") from error

    def put_out(self, peer: str) -> None:
        """End a peer's connections; it is banned."""
        if self._nursery is not None:
            self._nursery.start_soon(self._close_peer, parse_identity(peer))

    async def _close_peer(self, identity: ID) -> None:
        with trio.move_on_after(self.settings.idle_s):
            try:
                await self.host.get_network().close_peer(identity)
            except Exception as error:  # one that has left by itself
                self.watch.counts[f"closing: {type(error).__name__}"] += 1


@asynccontextmanager
async def open_host(settings: HostSettings, on_gossip: OnGossip, on_call: OnCall) -> AsyncIterator[GuardedHost]:
    """Run a host for as long as the block. Raises Failed (LISTEN) when its address cannot be had."""
    guards.tune_yamux()
    check_listen(settings.listen)
    host = build_host(settings)
    router = GossipSub(
        protocols=[GOSSIPSUB], degree=DEGREE, degree_low=DEGREE_LOW, degree_high=DEGREE_HIGH,
        heartbeat_interval=HEARTBEAT_S, spam_protection_enabled=False,
    )  # fmt: skip
    pubsub = Pubsub(host, router, strict_signing=True, max_inbound_rpc_size=256 * 1024, max_subscriptions_per_peer=32)
    guarded = GuardedHost(settings, host, pubsub, on_gossip, on_call)
    guards.guard_streams(host, guarded.watch)
    guards.guard_push(pubsub, guarded.gate, guarded.watch)
    guards.guard_control(router, guarded.watch)
    guards.keep_from_dialling(host)
    places = settings.max_peers - settings.max_peers // DIALLED_SHARE
    Door(host, places, guarded.gate.is_believed, guarded.watch.counts, settings.idle_s).guard()
    guarded.watch.put_out, guarded.watch.make_room = guarded.put_out, guarded.requests.end_oldest
    async with host.run([multiaddr.Multiaddr(settings.listen)]):
        async with background_trio_service(pubsub), background_trio_service(router), trio.open_nursery() as nursery:
            await pubsub.wait_until_ready()
            if not guarded.addresses:
                raise Failed("LISTEN", f"cannot listen on {settings.listen}")
            guarded._nursery = nursery
            nursery.start_soon(guarded.requests.sweep)
            yield guarded
            nursery.cancel_scope.cancel()
        await host.close()


def build_host(settings: HostSettings) -> BasicHost:
    """A host with noise and yamux over TCP alone and one connection for each peer, which dials nobody by itself."""
    pair = create_new_key_pair(settings.seed)
    most = settings.max_peers + MAX_HANDSHAKES
    connections = ConnectionConfig(
        max_connections=most, min_connections=0, low_watermark=0, high_watermark=most,
        max_connections_per_peer=1, dial_timeout=settings.idle_s, inbound_upgrade_timeout=settings.idle_s,
        outbound_upgrade_timeout=settings.idle_s,
        inbound_stream_protocol_negotiation_timeout=max(1.0, settings.idle_s),
        outbound_stream_protocol_negotiation_timeout=max(1.0, settings.idle_s),
    )  # fmt: skip
    resources = ResourceManager(
        ResourceLimits(max_connections=2 * most, max_streams=2 * settings.max_streams),
        enable_memory_limits=False, enable_circuit_breaker=False, enable_graceful_degradation=False,
        enable_metrics=False,
    )  # fmt: skip
    noise = NoiseTransport(pair, noise_privkey=create_noise_key_pair().private_key)
    host = new_host(
        key_pair=pair,
        sec_opt={NOISE: noise},
        muxer_opt={TProtocol(YAMUX): Yamux},
        connection_config=connections,
        resource_manager=resources,
        enable_tcp=True,
    )
    assert isinstance(host, BasicHost)
    swarm: Any = host.get_network()
    swarm.retry_config = RetryConfig(max_retries=0)  # who dials decides when again
    return host


def check_listen(address: str) -> None:
    """Raise Failed (LISTEN) for an address that is none, or that somebody has: the library would share its port."""
    try:
        parsed = multiaddr.Multiaddr(address)
        host, port = str(parsed.value_for_protocol("ip4")), int(str(parsed.value_for_protocol("tcp")))
    except Exception as error:
        raise Failed(
            "LISTEN", f"{address[:200]!r} is no address to listen on: it looks like /ip4/0.0.0.0/tcp/4001"
        ) from error
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Failed("LISTEN", f"cannot listen on {address}: {os.strerror(error.errno or 0)}") from error


def explain(error: BaseException) -> str:
    """The innermost reason."""
    inner = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    return f"{type(inner).__name__}: {inner}"[:300]
