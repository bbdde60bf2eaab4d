"""Gossip about work: orders that a collator has taken, for the others to stand by, and batches that it has posted.

Small, paced, and hints only: a node that hears none of it finds everything on the chain, only later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from quorate.chain.signing import recover
from quorate.messages import MAX_PROVIDERS, OrderMessage
from quorate.protocol.encoding import compute_job_id
from quorate.protocol.errors import QuorateError
from quorate.protocol.types import JobId, SignatureKind, SignedOrder
from quorate_node.collator import Collator
from quorate_node.core.standby import Standby, Waiting
from quorate_node.core.state import State
from quorate_node.core.views import Batch
from quorate_node.hints import BatchHints, Hints
from quorate_node.logs import get_logger
from quorate_node.p2p.port import Heard, PeerNetwork
from quorate_node.p2p.wire.limits import GossipLimits
from quorate_node.p2p.wire.messages import (
    MAX_ANNOUNCED,
    MAX_ENVELOPE_BYTES,
    BatchMessage,
    OrdersMessage,
    open_announcement,
    seal,
)
from quorate_node.p2p.wire.network import NetworkName, WireError
from quorate_node.p2p.wire.records import NodeRecord

GATHER_S = 0.05
GAP_S = 0.25
"""Between announcements of orders: an author has a rate, and what is above it nobody would hear."""
IDLE_S = 0.5
MAX_UNTOLD = 2_000


@dataclass(frozen=True, slots=True)
class Work:
    """What an announcer needs of its node. `find_author` gives the record behind an identity, if its operator has
    staked; `block_s` how far apart blocks are.
    """

    get_state: Callable[[], State]
    collator: Collator | None
    hints: Hints
    batch_hints: BatchHints
    find_author: Callable[[str], NodeRecord | None]
    block_s: Callable[[], float]


class Announcer:
    """Says what this node's collator does, and hears what others' do."""

    def __init__(self, network: PeerNetwork, name: NetworkName, work: Work) -> None:
        self._network, self._name, self._work = network, name, work
        self._standby = Standby(work.get_state().identity.account)
        self._untold: deque[OrderMessage] = deque(maxlen=MAX_UNTOLD)
        self._news = asyncio.Event()
        self._told_batches: set[int] | None = None
        self._log = get_logger()
        self.counts = {"orders_told": 0, "orders_heard": 0, "orders_adopted": 0, "batches_told": 0, "batches_heard": 0}

    def tell_order(self, signed: SignedOrder, providers: Sequence[str]) -> None:
        """The own collator has taken an order: others hear of it at once, while it may still die of it."""
        self._untold.append(OrderMessage.from_signed(signed, providers))
        self._news.set()

    async def start(self) -> None:
        """Hear from now on."""
        await self._network.subscribe(self._name.name_topic("orders"), self._hear_orders)
        await self._network.subscribe(self._name.name_topic("batches"), self._hear_batch)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await self._news.wait()
            await asyncio.sleep(GATHER_S)
            self._news.clear()
            try:
                await self._tell()
            except QuorateError as error:  # the host is being started again: what is announced is a hint
                self._log.info("not announced", error=str(error))
            await self._adopt()
            await asyncio.sleep(GAP_S)

    # telling ------------------------------------------------------------------------------------------------------

    async def _tell(self) -> None:
        if page := self._take_page():
            await self._publish("orders", seal(self._name, OrdersMessage(orders=page)))
            self.counts["orders_told"] += len(page)
        for batch in self._find_new_batches():
            jobs = (bundle.job_id for bundle in batch.bundles.values())
            providers = _choose(url for job_id in dict.fromkeys(jobs) for url in self._work.hints.get(job_id))
            await self._publish("batches", seal(self._name, BatchMessage(batch_id=batch.id, providers=providers)))
            self.counts["batches_told"] += 1

    async def _publish(self, kind: str, data: bytes) -> None:
        await self._network.publish(self._name.name_topic(kind), data)

    def _take_page(self) -> list[OrderMessage]:
        page: list[OrderMessage] = []
        left = GossipLimits().max_bytes - MAX_ENVELOPE_BYTES
        while self._untold and len(page) < MAX_ANNOUNCED:
            left -= len(self._untold[0].model_dump_json()) + 1
            if left < 0:
                break
            page.append(self._untold.popleft())
        return page

    def _find_new_batches(self) -> list[Batch]:
        state = self._work.get_state()
        own = {id_: each for id_, each in state.chain.batches.items() if each.collator == state.identity.account}
        whole = {id_ for id_, each in own.items() if each.bundles}
        told, self._told_batches = self._told_batches, whole
        return [own[id_] for id_ in sorted(whole - told)] if told is not None else []  # not those of before a restart

    # hearing ------------------------------------------------------------------------------------------------------

    def _hear_orders(self, heard: Heard) -> bool:
        message = self._open("orders", heard)
        if not isinstance(message, OrdersMessage):
            return False
        if self._work.collator is not None:
            for each in message.orders:
                self._stand_by(each, heard.author)
        return True

    def _stand_by(self, message: OrderMessage, author: str) -> None:
        state, signed = self._work.get_state(), message.to_signed()
        job_id = compute_job_id(state.network.separator, signed.order)
        is_good = signed.kind is SignatureKind.WALLET or recover(job_id, signed.signature) == signed.order.requester
        if is_good and signed.order.class_id in state.chain.classes:
            now, block_s = asyncio.get_running_loop().time(), self._work.block_s()
            if self._standby.hear(job_id, signed, tuple(message.providers), author, now, block_s):
                self.counts["orders_heard"] += 1

    def _hear_batch(self, heard: Heard) -> bool:
        message = self._open("batches", heard)
        record = self._work.find_author(heard.author)
        if not isinstance(message, BatchMessage) or record is None:
            return False
        self._work.batch_hints.put(message.batch_id, record.operator, message.providers)
        self.counts["batches_heard"] += 1
        return True

    def _open(self, kind: str, heard: Heard) -> object:
        """The message of a staked operator's node; None for what is not believed."""
        if self._work.find_author(heard.author) is None:
            return None
        try:
            return open_announcement(self._name, kind, heard.data, GossipLimits().max_bytes)
        except WireError as error:
            self._log.info("gossip refused", code=error.code, author=heard.author)
            return None

    # standing by --------------------------------------------------------------------------------------------------

    async def _adopt(self) -> None:
        collator, state = self._work.collator, self._work.get_state()
        if collator is None or not len(self._standby):
            return
        batches = state.chain.batches.values()
        posted: set[JobId] = {bundle.job_id for batch in batches for bundle in batch.bundles.values()}
        now, unix = asyncio.get_running_loop().time(), float(state.chain.head.timestamp)
        due = list(self._standby.take_due(now, unix, posted.__contains__))
        await asyncio.gather(*(self._bring(collator, each) for each in due))

    async def _bring(self, collator: Collator, each: Waiting) -> None:
        try:
            await collator.adopt(each.signed, each.providers)
        except QuorateError as error:  # posted and final by now, or its deposit is gone
            self._log.info("order of another collator not taken", job=each.job_id.hex(), error=str(error))
            return
        self.counts["orders_adopted"] += 1
        self._log.info("order of another collator taken: it did not post it", job=each.job_id.hex())


def _choose(urls: Iterable[str]) -> list[str]:
    """The first few of them, each once."""
    return list(dict.fromkeys(urls))[:MAX_PROVIDERS]
