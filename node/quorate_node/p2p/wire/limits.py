"""How much of strangers' talk is taken: buckets by author and forwarder, and what was heard before.

A gossip message costs a node milliseconds of CPU, so at 150 of them a second it would do nothing else. All tables are
bounded; times are seconds of a monotonic clock, given by the caller.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum

from quorate.protocol.hashing import keccak

MAX_TRACKED = 4096
STRANGERS_SHARE = 4


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_s` on average, and `burst` at once."""

    per_s: float
    burst: float


class Buckets:
    """One token bucket for each name; the least recently used names are forgotten."""

    def __init__(self, rate: Rate, max_names: int = MAX_TRACKED) -> None:
        self._rate, self._max_names = rate, max_names
        self._rows: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, name: str, now: float) -> bool:
        """Whether one more of this name is within its rate; it is counted if so."""
        left, then = self._rows.pop(name, (self._rate.burst, now))
        left = min(self._rate.burst, left + max(0.0, now - then) * self._rate.per_s)
        taken = left >= 1.0
        self._rows[name] = (left - 1.0 if taken else left, now)
        while len(self._rows) > self._max_names:
            self._rows.popitem(last=False)
        return taken


class Seen:
    """Digests of what each author said lately, the oldest forgotten first.

    Whoever repeats another's words must not keep them from being heard where it is faster than their author.
    """

    def __init__(self, max_rows: int = 1 << 16) -> None:
        self._max_rows = max_rows
        self._rows: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, topic: str, author: str, data: bytes) -> bool:
        """Whether this is new."""
        names = b"".join(len(each).to_bytes(2, "big") + each.encode() for each in (topic, author))
        digest = keccak(names + data)[:16]
        if digest in self._rows:
            self._rows.move_to_end(digest)
            return False
        self._rows[digest] = None
        if len(self._rows) > self._max_rows:
            self._rows.popitem(last=False)
        return True


class Offences:
    """Who broke the rules how often; `patience` offences within `window_s` seconds, and one is out for `ban_s`."""

    def __init__(self, patience: int = 200, window_s: float = 10.0, ban_s: float = 60.0) -> None:
        self._buckets = Buckets(Rate(patience / window_s, patience))
        self._ban_s = ban_s
        self._banned: OrderedDict[str, float] = OrderedDict()

    def note(self, peer: str, now: float) -> bool:
        """One offence more; whether the peer has just been banned for it."""
        if self.is_banned(peer, now) or self._buckets.take(peer, now):
            return False
        self._banned[peer] = now + self._ban_s
        while len(self._banned) > MAX_TRACKED:
            self._banned.popitem(last=False)
        return True

    def is_banned(self, peer: str, now: float) -> bool:
        """Whether a peer is out now."""
        until = self._banned.get(peer)
        if until is not None and until <= now:
            del self._banned[peer]
            return False
        return until is not None


class Verdict(StrEnum):
    """What becomes of a gossip message."""

    ACCEPTED = "accepted"
    TOO_LARGE = "too large"
    MALFORMED = "malformed"
    AUTHOR_RATE = "its author says too much"
    TOTAL_RATE = "too much is said by all"
    REPEATED = "said before"


@dataclass(frozen=True, slots=True)
class GossipLimits:
    """Announcements are small and rare: a batch, a record; never a job."""

    max_bytes: int = 16 * 1024
    author: Rate = Rate(5.0, 50.0)
    forwarder: Rate = Rate(100.0, 300.0)
    total: Rate = Rate(100.0, 1000.0)


class GossipGate:
    """Decides on messages of a topic before they are delivered and passed on.

    An identity costs nothing: all those that were never believed have a share of their own of what is heard, and take
    nothing from those that were.
    """

    def __init__(self, limits: GossipLimits) -> None:
        self.limits = limits
        self._authors, self._forwarders = Buckets(limits.author), Buckets(limits.forwarder)
        self._total = Buckets(limits.total, 1)
        strangers = Rate(limits.total.per_s / STRANGERS_SHARE, max(1.0, limits.total.burst / STRANGERS_SHARE))
        self._strangers = Buckets(strangers, 1)
        self._believed: OrderedDict[str, None] = OrderedDict()
        self._seen = Seen()

    def note_believed(self, author: str) -> None:
        """The node believed what an author said: it is no stranger."""
        self._believed[author] = None
        self._believed.move_to_end(author)
        if len(self._believed) > MAX_TRACKED:
            self._believed.popitem(last=False)

    def is_believed(self, author: str) -> bool:
        """Whether the node has believed what an author said."""
        return author in self._believed

    def admit_forwarder(self, peer: str, now: float) -> bool:
        """Whether a neighbour may hand one more message on: asked before any signature is checked."""
        return self._forwarders.take(peer, now)

    def judge(self, topic: str, author: str, data: bytes, now: float, *, is_well_formed: bool) -> Verdict:
        """What becomes of one message of another node."""
        if len(data) > self.limits.max_bytes:
            return Verdict.TOO_LARGE
        if not is_well_formed:
            return Verdict.MALFORMED
        if not self._authors.take(author, now):
            return Verdict.AUTHOR_RATE
        if not (self._total if author in self._believed else self._strangers).take("", now):
            return Verdict.TOTAL_RATE
        return Verdict.ACCEPTED if self._seen.add(topic, author, data) else Verdict.REPEATED
