"""What the stock library lacks: without these, one malformed frame from anywhere ends the host.

Each wraps one function of a host or a pubsub (py-libp2p 0.8.1, pinned) and has a test that fails without it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING

import trio

from quorate_node.p2p.wire.limits import Buckets, GossipGate, Offences, Rate, Verdict

if TYPE_CHECKING:
    from libp2p.abc import INetStream
    from libp2p.host.basic_host import BasicHost
    from libp2p.peer.id import ID
    from libp2p.pubsub.gossipsub import GossipSub
    from libp2p.pubsub.pb.rpc_pb2 import RPC, Message
    from libp2p.pubsub.pubsub import Pubsub

RESET_S = 1.0
CONTROL_RATE = Rate(50.0, 200.0)
"""Of one neighbour; it has some for each topic and second."""
Believes = Callable[[str, str, bytes], Awaitable[bool]]
"""(topic, author, data) → whether the node believes it."""


class Watch:
    """Counts what went wrong, and puts peers out that are behind too much of it."""

    def __init__(self, offences: Offences, max_streams: int, max_peer_streams: int) -> None:
        self.counts: Counter[str] = Counter()
        self._offences = offences
        self._max_streams, self._max_peer_streams = max_streams, max_peer_streams
        self._streams: Counter[str] = Counter()
        self.put_out: Callable[[str], None] = lambda peer: None
        """Ends the connections of a peer; set by whoever has a nursery for it."""
        self.make_room: Callable[[], None] = lambda: None
        """Ends a stream that is only kept; set by whoever keeps some."""

    def note(self, peer: str, what: str) -> None:
        """A peer broke the rules."""
        self.counts[what] += 1
        if self._offences.note(peer, trio.current_time()):
            self.counts["banned"] += 1
            self.put_out(peer)

    def is_banned(self, peer: str) -> bool:
        """Whether a peer is out now."""
        return self._offences.is_banned(peer, trio.current_time())

    def enter(self, peer: str) -> bool:
        """Whether a peer may have one more stream open; `leave` follows if so.

        To have too many is an offence; that all together have too many is nobody's: a stream that is only kept goes.
        """
        if self._streams[peer] >= self._max_peer_streams:
            self.note(peer, "stream too many")
            return False
        if self._streams.total() >= self._max_streams:
            self.counts["streams of all too many"] += 1
            self.make_room()
            return False
        self._streams[peer] += 1
        return True

    def leave(self, peer: str) -> None:
        """A stream of a peer has ended."""
        self._streams[peer] -= 1
        if not self._streams[peer]:
            del self._streams[peer]


def tune_yamux() -> None:
    """Take window updates in batches: the library reads this from the environment at each of them."""
    os.environ["PY_YAMUX_RELEASE_ON_READ"] = "0"


async def reset(stream: INetStream) -> None:
    """End a stream, whatever state it is in."""
    with trio.move_on_after(RESET_S) as scope:
        scope.shield = True
        try:
            await stream.reset()
        except Exception:  # it is gone already, which is what was wanted
            return


def guard_streams(host: BasicHost, watch: Watch) -> None:
    """Let no exception out of a stream's handler, and no peer open streams without end."""
    inner = host._swarm_stream_handler

    async def handle(stream: INetStream) -> None:
        peer = str(stream.muxed_conn.peer_id)
        if watch.is_banned(peer):
            await reset(stream)
            return
        if not watch.enter(peer):
            await reset(stream)
            return
        try:
            await inner(stream)
        except Exception as error:
            watch.note(peer, f"stream: {type(error).__name__}")
            await reset(stream)
        finally:
            watch.leave(peer)

    host.get_network().set_stream_handler(handle)


def guard_push(pubsub: Pubsub, gate: GossipGate, watch: Watch) -> None:
    """Let no message end the pubsub service, and refuse a neighbour's surplus before its signatures are checked."""
    inner, own = pubsub.push_msg, pubsub.my_id

    @wraps(inner)
    async def push_msg(msg_forwarder: ID, msg: Message) -> None:
        peer = str(msg_forwarder)
        if msg_forwarder != own and not gate.admit_forwarder(peer, trio.current_time()):
            watch.note(peer, "gossip: its forwarder says too much")
            return
        try:
            await inner(msg_forwarder, msg)
        except Exception as error:
            watch.note(peer, f"gossip: {type(error).__name__}")

    pubsub.push_msg = push_msg


def guard_control(router: GossipSub, watch: Watch) -> None:
    """Heed so many of a neighbour's grafts, prunes and the like: each may be answered by a message of ours."""
    inner, rate = router.handle_rpc, Buckets(CONTROL_RATE)

    @wraps(inner)
    async def handle_rpc(rpc: RPC, sender: ID) -> None:
        control, peer, now = rpc.control, str(sender), trio.current_time()
        count = len(control.graft) + len(control.prune) + len(control.ihave) + len(control.iwant)
        count += len(control.idontwant)
        if count > CONTROL_RATE.burst or not all(rate.take(peer, now) for _ in range(count)):
            watch.note(peer, "gossip: too much control")
            return
        await inner(rpc, sender)

    router.handle_rpc = handle_rpc


def keep_from_dialling(host: BasicHost) -> None:
    """Let the node alone decide who is dialled: the library would dial every address that it ever heard of."""

    async def stay() -> None:
        return

    host.get_network().auto_connector.maybe_connect = stay


def make_validator(
    topic: str,
    gate: GossipGate,
    watch: Watch,
    own: ID,
    is_well_formed: Callable[[str, bytes], bool],
    believes: Believes,
) -> Callable[[ID, Message], Awaitable[bool]]:  # fmt: skip
    """Decides on messages of a topic: own ones pass, those of others by the gate, and if the node believes them."""
    from libp2p.peer.id import ID

    def admit(forwarder: ID, author: str, data: bytes) -> bool:
        if len(data) > gate.limits.max_bytes:  # not to be parsed at all
            watch.note(str(forwarder), f"gossip: {Verdict.TOO_LARGE}")
            return False
        good = is_well_formed(topic, data)
        verdict = gate.judge(topic, author, data, trio.current_time(), is_well_formed=good)
        if verdict is Verdict.MALFORMED:
            watch.note(str(forwarder), f"gossip: {verdict}")
        elif verdict is not Verdict.ACCEPTED:  # not the forwarder's fault: other nodes have other buckets
            watch.counts[f"gossip: {verdict}"] += 1
        return verdict is Verdict.ACCEPTED

    async def validate(forwarder: ID, message: Message) -> bool:
        author = str(ID(message.from_id))
        if forwarder == own:
            return True
        if author == str(own) or not admit(forwarder, author, message.data):
            return False
        if await believes(topic, author, message.data):
            gate.note_believed(author)
            return True
        watch.counts["gossip: not believed"] += 1  # nor this: it may have seen another block
        return False

    return validate
