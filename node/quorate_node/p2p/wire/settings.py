"""Settings of the libp2p host, as the node hands them to its child."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from quorate_node.p2p.wire.limits import GossipLimits, Rate
from quorate_node.p2p.wire.network import NetworkName, WireError

SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class HostSettings:
    """`seed` is the Ed25519 identity's, 32 bytes; `listen` a multiaddr, with port 0 for any.

    `idle_s` bounds each wait for a peer that has begun something, `answer_s` the time to answer a request;
    `max_peers` the connections, `max_streams` what peers have open here, `max_peer_streams` what one of them has;
    `kept_s` is how long a stream may be silent between two requests, `max_lines` how many are kept for each peer;
    `stranger_bytes` is the most of a request of a peer that is no staked operator's node, as far as is known: many
    that are begun and never ended take so much each;
    `publish_gap_s` is the pause between own announcements: the library loses most of a burst.
    """

    seed: bytes
    listen: str
    network: NetworkName
    gossip: GossipLimits = GossipLimits()
    idle_s: float = 5.0
    answer_s: float = 10.0
    kept_s: float = 60.0
    max_lines: int = 3
    max_peers: int = 200
    max_streams: int = 1024
    max_peer_streams: int = 48
    stranger_bytes: int = 64 * 1024
    publish_gap_s: float = 0.005
    patience: int = 200

    def to_values(self) -> dict[str, Any]:
        """As JSON values."""
        values: dict[str, Any] = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if type(getattr(self, each.name)) in (int, float, str)
        }
        limits = self.gossip
        rates = {name: [rate.per_s, rate.burst] for name in _RATES if (rate := getattr(limits, name))}
        return values | {
            "seed": self.seed.hex(),
            "chain_id": self.network.chain_id,
            "market": self.network.market.hex(),
            "gossip": {"max_bytes": limits.max_bytes, **rates},
        }

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """From JSON values. Raises WireError (SCHEMA)."""
        from quorate.protocol.types import Address

        try:
            rest = dict(values)
            gossip: dict[str, Any] = dict(rest.pop("gossip"))
            gossip |= {name: Rate(*gossip[name]) for name in _RATES}
            network = NetworkName(rest.pop("chain_id"), Address(bytes.fromhex(rest.pop("market"))))
            return cls(seed=bytes.fromhex(rest.pop("seed")), network=network, gossip=GossipLimits(**gossip), **rest)
        except (KeyError, TypeError, ValueError) as error:
            raise WireError("SCHEMA", f"settings that the host does not know: {error}") from error


_RATES = ("author", "forwarder", "total")
