"""A libp2p peer that babbles: garbage on every protocol, streams on which it says nothing, and a flood of gossip.

`python -m tests.adversarial.babbling_peer ADDRESS SEED`; it prints how much it got to say, and ends.
"""

from __future__ import annotations

import random
import sys

import trio
from tests.unit.node.p2p.hosts import NETWORK, make_settings

from quorate_node.p2p.child.host import GOSSIPSUB, open_host
from quorate_node.p2p.child.requests import parse_identity
from quorate_node.p2p.wire.messages import ANNOUNCEMENTS, REQUESTS

WORDS, SILENT, FLOOD = 4, 20, 100


async def _hear(topic: str, author: str, data: bytes) -> bool:
    return True


async def _answer(peer: str, protocol: str, data: bytes) -> bytes | None:
    return None


async def babble(address: str, seed: int) -> int:
    """Streams on which something was said."""
    chance, said = random.Random(seed), 0
    async with open_host(make_settings(200 + seed % 50), _hear, _answer) as host:
        victim = parse_identity(await host.connect(address, 20.0))
        protocols = [GOSSIPSUB, "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0", "/none"]
        protocols += [NETWORK.name_protocol(kind) for kind in REQUESTS]
        for protocol in protocols:
            for _ in range(WORDS):
                try:
                    stream = await host.host.new_stream(victim, [protocol])
                    await stream.write(chance.randbytes(chance.randrange(1, 2000)))
                    said += 1
                except Exception as error:  # it is put out, or was not understood
                    if not host.list_peers():
                        print(f"put out: {type(error).__name__}", file=sys.stderr)
                        return said
        for _ in range(SILENT):
            await host.host.get_network().new_stream(victim)
        for _ in range(FLOOD):
            for kind in ANNOUNCEMENTS:
                await host.pubsub.publish(NETWORK.name_topic(kind), chance.randbytes(200))
    return said


if __name__ == "__main__":
    print(trio.run(babble, sys.argv[1], int(sys.argv[2])))
