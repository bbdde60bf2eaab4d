"""Which content is whole where: what this node has, told in deltas, and what its peers have told.

A node says "the whole DAG of this root is here", never "its root block is". Whoever asks again gets what has changed
since; a node that was restarted, or that has forgotten old changes, tells everything under a new `epoch`
(`is_whole`: what was told before counts no more). What peers
say decides whom to ask first, nothing else: every byte is checked against its CID.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from quorate.messages import MAX_ROOT_CHANGES, RootChange, RootsMessage
from quorate.storage.cid import Cid

MAX_ROOTS = 1_000_000
"""Of this node."""
MAX_TOLD = 250_000
"""Of all peers, to equal shares: one that tells more is not believed any further. Each takes up to 1 KB."""
LATENCY_WEIGHT = 0.2


class OwnRoots:
    """What this node has whole. May be used from any thread."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        """A new history, which begins with all that is held."""
        self._epoch = secrets.token_hex(8)
        self._log = [RootChange(cid=cid, size=size) for cid, size in self._held.items()]

    def __contains__(self, cid: str) -> bool:
        return cid in self._held

    def hold(self, cid: str, size: int) -> None:
        """It is here now; more than MAX_ROOTS are not told."""
        with self._lock:
            if self._held.get(cid) == size or len(self._held) >= MAX_ROOTS:
                return
            self._held[cid] = size
            self._note(RootChange(cid=cid, size=size))

    def drop(self, cid: str) -> None:
        """It is not, or not whole, any more."""
        with self._lock:
            if self._held.pop(cid, None) is not None:
                self._note(RootChange(cid=cid))

    def keep_only(self, is_here: Callable[[Cid], bool]) -> None:
        """Drop those of which the root block is gone: what is thrown away is never a part of what stays."""
        for cid in list(self._held):
            if not is_here(Cid.parse(cid)):
                self.drop(cid)

    def _note(self, change: RootChange) -> None:
        self._log.append(change)
        if len(self._log) > 2 * len(self._held) + MAX_ROOT_CHANGES:
            self._begin()

    def tell(self, epoch: str, since: int) -> RootsMessage:
        """What has changed since number `since` of a history, or the beginning of the present one."""
        with self._lock:
            is_whole = epoch != self._epoch or not 0 < since <= len(self._log)
            first = 0 if is_whole else since
            changes = self._log[first : first + MAX_ROOT_CHANGES]
            return RootsMessage(epoch=self._epoch, next=first + len(changes), is_whole=is_whole, changes=changes)


@dataclass(slots=True)
class _Peer:
    epoch: str = ""
    next: int = 0
    latency_s: float = 1.0
    held: dict[str, int] = field(default_factory=dict)


class Holders:
    """What peers have whole, by what they tell, and how far away they are. Belongs to the event loop."""

    def __init__(self, peers: Iterable[str], guess: Callable[[str], Sequence[str]] = lambda cid: ()) -> None:
        self._peers = {url: _Peer() for url in peers}
        self._holders: dict[str, set[str]] = {}
        self.guess = guess

    @property
    def peers(self) -> tuple[str, ...]:
        """URLs that are to be asked."""
        return tuple(self._peers)

    def meet(self, url: str) -> None:
        """Ask one more peer from now on."""
        self._peers.setdefault(url, _Peer())

    def position(self, url: str) -> tuple[str, int]:
        """History and number from which a peer is to tell."""
        return self._peers[url].epoch, self._peers[url].next

    def take(self, url: str, delta: RootsMessage, latency_s: float) -> bool:
        """Take an answer in that took so long; whether there is more to ask for."""
        peer = self._peers[url]
        peer.latency_s += LATENCY_WEIGHT * (latency_s - peer.latency_s)
        if delta.is_whole:
            self.forget(url)
        for change in delta.changes:
            if change.size is None:
                self._remove(url, change.cid)
            elif len(peer.held) < MAX_TOLD // len(self._peers) or change.cid in peer.held:
                peer.held[change.cid] = change.size
                self._holders.setdefault(change.cid, set()).add(url)
        peer.epoch, peer.next = delta.epoch, delta.next
        return len(delta.changes) >= MAX_ROOT_CHANGES

    def forget(self, url: str) -> None:
        """A peer is away, or begins anew: nothing is known to be there."""
        peer = self._peers[url]
        for cid in list(peer.held):
            self._remove(url, cid)
        peer.epoch, peer.next = "", 0

    def _remove(self, url: str, cid: str) -> None:
        if self._peers[url].held.pop(cid, None) is not None:
            self._holders[cid].discard(url)
            if not self._holders[cid]:
                del self._holders[cid]

    def find(self, cid: str) -> Sequence[str]:
        """Peers that have a root whole, the nearest first; then those of which `guess` says that they may."""
        known = sorted(self._holders.get(cid, ()), key=lambda url: (self._peers[url].latency_s, url))
        return list(dict.fromkeys([*known, *self.guess(cid)]))
