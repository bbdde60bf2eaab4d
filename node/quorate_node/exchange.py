"""Telling peers which content is whole here, and learning it of them: over HTTP, of those configured or found."""

from __future__ import annotations

import asyncio
import time

from quorate.protocol.errors import DataError
from quorate.protocol.types import ZERO32
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.extent import measure
from quorate_node.logs import get_logger
from quorate_node.messaging import Messenger, Undelivered
from quorate_node.p2p.wire.digests import compute_roots_digest
from quorate_node.roots import Holders, OwnRoots

POLL_S = 3.0
PINS_S = 15.0
MAX_PAGES = 8
"""Answers of one peer that are read in a row: what it has not told by then it tells next time."""


def measure_content(store: BlobStore, root: Cid) -> tuple[int, int] | None:
    """Files of a DAG and their bytes; None where it is not here whole, or malformed."""
    if not store.is_complete(root):
        return None
    try:
        found = measure(store, root)
    except DataError:
        return None
    return found.files, found.bytes


class RootExchange:
    """Keeps `holders` as peers tell, and `own` as the store's pins are at the start."""

    def __init__(self, messenger: Messenger, store: BlobStore, own: OwnRoots, holders: Holders) -> None:
        self._messenger, self._store, self._own, self._holders = messenger, store, own, holders
        self._away: set[str] = set()
        self._pins: frozenset[Cid] = frozenset()
        self.digest = ZERO32
        """Which datasets are whole here, for the node's record: those that are pinned."""
        self._log = get_logger()

    async def run(self) -> None:
        """Until cancelled."""
        looked = float("-inf")
        while True:
            if time.monotonic() - looked > PINS_S:
                await asyncio.to_thread(self._look_at_pins)
                looked = time.monotonic()
            await asyncio.gather(*map(self._ask, self._holders.peers))
            await asyncio.sleep(POLL_S)

    def _look_at_pins(self) -> None:
        """Also at those that came while the node runs; each is measured once."""
        pins = frozenset(self._store.pins())
        for root in pins - self._pins:
            if (found := measure_content(self._store, root)) is not None:
                self._own.hold(str(root.to_v1()), found[1])
            else:
                self._log.warning("pinned content is not whole", cid=str(root))
        self._pins = pins
        names = (str(root.to_v1()) for root in pins)
        self.digest = compute_roots_digest(name for name in names if name in self._own)

    async def _ask(self, url: str) -> None:
        for _ in range(MAX_PAGES):
            began = time.monotonic()
            try:
                told = await self._messenger.ask_roots(url, *self._holders.position(url))
            except Undelivered as error:
                self._holders.forget(url)
                if url not in self._away:
                    self._away.add(url)
                    self._log.warning("a peer does not tell what is whole there", url=url, error=str(error))
                return
            self._away.discard(url)
            if not self._holders.take(url, told, time.monotonic() - began):
                return
