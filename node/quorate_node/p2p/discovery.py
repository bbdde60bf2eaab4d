"""Finding all the other nodes from one address: bootstrap, exchange of records, and a few connections kept.

A record is taken when the key of a staked operator signed it; where it came from does not matter. Whoever is connected
is asked for all that it knows, page by page; what is new later comes by gossip, and by asking somebody again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError as SchemaError

from quorate.messages import ErrorDetail
from quorate.protocol.errors import ConfigurationError, QuorateError, RecoverableError
from quorate_node.logs import get_logger
from quorate_node.p2p.port import Heard, PeerId, PeerNetwork, Unreached
from quorate_node.p2p.wire.addresses import check_bootstrap, is_dialable
from quorate_node.p2p.wire.limits import Buckets, GossipLimits, Rate
from quorate_node.p2p.wire.messages import (
    MAX_PAGE,
    REQUESTS,
    RecordMessage,
    RecordsAnswer,
    RecordsQuery,
    open_announcement,
    open_answer,
    open_request,
    seal,
)
from quorate_node.p2p.wire.network import NetworkName, WireError
from quorate_node.p2p.wire.records import NodeRecord, RecordBody, RecordBook, SignedRecord

KIND = "records"
NO_MORE = b"\xff" * 20
"""An address above all others: a query after it asks for nothing."""
MAX_PAGES = 1000
DIALS_AT_ONCE = 4
MAX_REASONS = 8


class BootstrapDead(RecoverableError):
    """None of the bootstrap addresses answers; `reasons` has one for each."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        shown = "; ".join(self.reasons[:MAX_REASONS])
        super().__init__(
            f"none of {len(self.reasons)} bootstrap addresses answers: {shown}. "
            "Work goes on by the chain alone; set `bootstrap` to nodes that run"
        )


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between rounds while connections are missing, and at most; between own announcements, and at least where
    they would tell something new; after a dial that failed, and for one. `peers` is how many connections it wants.
    """

    round_s: float = 2.0
    idle_s: float = 60.0
    announce_s: float = 600.0
    renew_s: float = 10.0
    redial_s: float = 60.0
    dial_s: float = 5.0
    peers: int = 8


class Discovery:
    """Keeps a book of records filled and some peers connected. `make_own` signs this process's records anew."""

    def __init__(
        self, network: PeerNetwork, book: RecordBook, make_own: Callable[[], Sequence[SignedRecord]],
        now_ms: Callable[[], int], *, bootstrap: Sequence[str] = (), is_local: bool = False, pace: Pace = Pace(),
        chance: random.Random | None = None,
    ) -> None:  # fmt: skip
        self._network, self._book, self._make_own, self._now_ms = network, book, make_own, now_ms
        self._bootstrap, self._is_local, self._pace = check_bootstrap(bootstrap), is_local, pace
        self._chance = chance or random.Random()
        self._name: NetworkName = book.network
        self._asked = Buckets(Rate(1.0, 30.0))
        self._not_before: dict[str, float] = {}
        self._own: list[RecordBody] = []
        self._news = asyncio.Event()
        self._introduced: set[PeerId] = set()
        self._log = get_logger()
        self.problem: str | None = None
        """Why nobody is connected, for whoever asks about the node's health."""

    async def run(self) -> None:
        """Until cancelled."""
        await self.start()
        loop = asyncio.get_running_loop()
        pause, announced = self._pace.round_s, float("-inf")
        while True:
            try:
                before = len(self._book)
                await self.look_around()
                since = loop.time() - announced
                is_news = self._news.is_set() and since > self._pace.renew_s
                if self._network.peers() and (is_news or since > self._pace.announce_s):
                    self._news.clear()
                    if announced == float("-inf"):  # the mesh may not be there yet: once more, soon
                        self._news.set()
                    await self.announce()
                    announced = loop.time()
                wanted = min(self._pace.peers, self._book.count_peers() - 1)
                busy = len(self._book) != before or len(self._network.peers()) < wanted
                pause = self._pace.round_s if busy else min(2 * pause, self._pace.idle_s)
            except QuorateError as error:
                if str(error) != self.problem:
                    self._log.error("no other node is reached", error=str(error))
                self.problem = str(error)
                pause = min(2 * pause, self._pace.idle_s)
            await self._rest(pause)

    async def _rest(self, pause_s: float) -> None:
        """So long, or until there is something new to tell."""
        if self._news.is_set():
            await asyncio.sleep(min(pause_s, self._pace.renew_s))
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._news.wait()

    def tell_news(self) -> None:
        """Own records have changed: announce them, soon."""
        self._news.set()

    async def start(self) -> None:
        """Answer and hear from now on."""
        await self._network.serve(self._name.name_protocol(KIND), self._answer, REQUESTS[KIND].max_bytes)
        await self._network.subscribe(self._name.name_topic(KIND), self._hear)
        self._renew()

    async def look_around(self) -> None:
        """One round: connect to more if they are few, and ask one of them for all its records.

        Raises BootstrapDead when nobody is connected and none of the bootstrap addresses answers.
        """
        if len(self._network.peers()) < self._pace.peers:
            await self._dial_more()
        peers = self._network.peers()
        self._introduced &= set(peers)
        if not peers:
            peers = tuple(await self.knock())
        if peers:
            self.problem = None
            with contextlib.suppress(Unreached):  # it has left: another one, next time
                await self.exchange(self._chance.choice(peers))
            self._book.drop_old(self._now_ms())

    async def knock(self) -> list[PeerId]:
        """Connect to the bootstrap addresses; who answered. Raises BootstrapDead if there are any and none did."""
        if not self._bootstrap:
            return []
        results = await asyncio.gather(*map(self._knock_at, self._bootstrap))
        answered = [each for each in results if not isinstance(each, Exception)]
        if not answered:
            reasons = (f"{address} ({why})" for address, why in zip(self._bootstrap, results, strict=True))
            raise BootstrapDead(list(reasons))
        return answered

    async def _knock_at(self, address: str) -> PeerId | QuorateError:
        try:
            return await self._network.connect(address, self._pace.dial_s)
        except QuorateError as error:
            return error

    async def _dial_more(self) -> None:
        """Dial some of those whose records are known; one that fails is left alone for a while."""
        now, connected = asyncio.get_running_loop().time(), {*self._network.peers(), self._network.peer_id}
        known = [each for each in self._book.list_records() if each.peer_id not in connected]
        rested = [each for each in known if self._not_before.get(each.peer_id, 0.0) <= now]
        wanted = min(DIALS_AT_ONCE, self._pace.peers - len(connected) + 1, len(rested))
        if wanted > 0:
            await asyncio.gather(*map(self._dial, self._chance.sample(rested, wanted)))

    async def _dial(self, record: NodeRecord) -> bool:
        """Whether a peer is connected now."""
        now = asyncio.get_running_loop().time()
        for address in record.list_dialable():
            if not is_dialable(address, is_local=self._is_local):
                continue
            try:
                await self._network.connect(address, self._pace.dial_s)
                return True
            except QuorateError:
                continue
        self._not_before[record.peer_id] = now + self._pace.redial_s
        while len(self._not_before) > len(self._book) + 1:
            self._not_before.pop(next(iter(self._not_before)))
        return False

    async def reach(self, peer: PeerId) -> None:
        """Connect to a peer whose record is known, and let it know ours: else it would not listen. Raises Unreached."""
        if peer in self._network.peers() and peer in self._introduced:
            return
        record = self._book.find_peer(peer)
        if record is None:
            raise Unreached(f"no record of {peer} is known", "UNKNOWN")
        if peer not in self._network.peers():
            self._introduced.discard(peer)
            if self._not_before.get(peer, 0.0) > asyncio.get_running_loop().time() or not await self._dial(record):
                raise Unreached(f"{peer} does not let itself be dialled", "UNREACHED")
        await self.introduce(peer)

    def forget(self, peer: PeerId) -> None:
        """A peer does not know our records, after all."""
        self._introduced.discard(peer)

    async def introduce(self, peer: PeerId) -> None:
        """Give a peer the own records, and ask for none. Raises Unreached."""
        for first in range(0, len(self._own), MAX_PAGE):
            await self._ask(peer, RecordsQuery(after=NO_MORE, own=self._own[first : first + MAX_PAGE]))
        self._introduced.add(peer)

    # records ------------------------------------------------------------------------------------------------------

    def _renew(self) -> None:
        """Sign own records anew; they stand in the own book too, to be handed on."""
        signed = self._make_own()
        try:
            self._own = [RecordBody.from_signed(each) for each in signed]
        except SchemaError as error:
            reason = error.errors(include_url=False)[0]
            raise ConfigurationError(
                f"no other node would take this node's record ({reason['loc'][0]}: {reason['msg']}): "
                "change listen, announce, p2p_listen or p2p_announce"
            ) from error
        for each in signed:
            with contextlib.suppress(WireError):  # not staked yet, or another process of the same key has told more
                self._book.add(each, self._now_ms())

    async def announce(self) -> None:
        """Tell everybody how this node is reached."""
        self._renew()
        for each in self._own:
            await self._network.publish(self._name.name_topic(KIND), seal(self._name, RecordMessage(record=each)))

    async def exchange(self, peer: PeerId) -> int:
        """Give a peer the own records and take all of its; how many were new. Raises Unreached."""
        new, after = 0, bytes(20)
        for page in range(MAX_PAGES):
            own = self._own[page * MAX_PAGE : (page + 1) * MAX_PAGE]
            answer = await self._ask(peer, RecordsQuery(after=after, own=own))
            new += sum(bool(self._take(each)) for each in answer.records)
            is_last = len(answer.records) < MAX_PAGE
            last = answer.records[-1].operator if answer.records else after
            if not is_last and last <= after:
                raise Unreached(f"{peer} gives the same page of records again and again", "SENSELESS")
            if is_last and (page + 1) * MAX_PAGE >= len(self._own):
                break
            after = NO_MORE if is_last else last
        self._introduced.add(peer)
        return new

    async def _ask(self, peer: PeerId, query: RecordsQuery) -> RecordsAnswer:
        data = await self._network.request(peer, self._name.name_protocol(KIND), seal(self._name, query))
        try:
            answer = open_answer(self._name, KIND, data)
        except WireError as error:
            raise Unreached(f"{peer} answers senselessly: {error}", error.code) from error
        if isinstance(answer, ErrorDetail):
            raise Unreached(f"{peer} refused: {answer.message}", answer.type)
        assert isinstance(answer, RecordsAnswer)
        return answer

    async def _answer(self, peer: PeerId, data: bytes) -> bytes:
        if not self._asked.take(peer, asyncio.get_running_loop().time()):
            return seal(self._name, None, ErrorDetail(type="RATE", message="asked too often: wait some seconds"))
        try:
            query = open_request(self._name, KIND, data)
        except WireError as error:
            return seal(self._name, None, ErrorDetail(type=error.code, message=str(error)))
        assert isinstance(query, RecordsQuery)
        for each in query.own:
            self._take(each)
        page = self._book.list_page(query.after, MAX_PAGE)
        return seal(self._name, RecordsAnswer(records=[RecordBody.from_signed(each) for each in page]))

    def _hear(self, heard: Heard) -> bool:
        try:
            message = open_announcement(self._name, KIND, heard.data, GossipLimits().max_bytes)
        except WireError as error:
            self._log.info("gossip refused", code=error.code, author=heard.author)
            return False
        assert isinstance(message, RecordMessage)
        if message.record.peer_id != heard.author:  # by gossip everybody speaks for itself
            return False
        return self._take(message.record) is not None

    def _take(self, body: RecordBody) -> bool | None:
        """Whether a record told anything new; None for one that is not believed."""
        try:
            return self._book.add(body.to_signed(), self._now_ms())
        except WireError as error:
            if error.code != "OLD":
                self._log.info("record refused", code=error.code, operator=f"0x{body.operator.hex()}")
            return None
