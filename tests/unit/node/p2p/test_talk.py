"""What nodes say to each other over the port, on a network in memory: who is heard, by which way, and how often."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.node.simulation import Network0

from quorate.chain.account import SigningAccount
from quorate.chain.signing import recover
from quorate.messages import ErrorDetail, LogsQuery, Message, OrderMessage, StatusQuery, VoteOpeningMessage
from quorate.protocol.encoding import compute_job_id
from quorate.protocol.errors import Busy
from quorate.protocol.types import Address, JobId, SignedOrder
from quorate_node import joblog
from quorate_node.core.mailroom import MessageRefused
from quorate_node.core.rounds import get_committee
from quorate_node.core.views import ChainView, OperatorView
from quorate_node.desk import Desk, Forwarding
from quorate_node.hints import BatchHints, Hints
from quorate_node.http_messaging import HttpMessenger
from quorate_node.joblog import JobLog, LogGatherer
from quorate_node.mailbox import KINDS
from quorate_node.messaging import ChainLocator, Outbox, Route, Undelivered
from quorate_node.p2p import carrying
from quorate_node.p2p.announcing import Announcer, Work
from quorate_node.p2p.carrying import PeerCarrier
from quorate_node.p2p.discovery import Discovery, Pace
from quorate_node.p2p.memory import Hub, MemoryNetwork
from quorate_node.p2p.port import Heard, PeerId
from quorate_node.p2p.serving import QUESTION_RATE, RATE, Answers, PeerService
from quorate_node.p2p.wire.digests import compute_roots_digest, may_hold
from quorate_node.p2p.wire.limits import GossipLimits
from quorate_node.p2p.wire.messages import (
    REQUESTS,
    BatchMessage,
    OrdersMessage,
    Taken,
    open_announcement,
    open_answer,
    seal,
)
from quorate_node.p2p.wire.network import NetworkName
from quorate_node.p2p.wire.records import NodeRecord, RecordBook, SignedRecord, sign_record

NAME = NetworkName(31337, Address(b"\x11" * 20))
JOB = JobId(b"\x09" * 32)


class Box:
    """A mailbox that keeps what it takes, and refuses odd members."""

    def __init__(self) -> None:
        self.taken: list[Message] = []

    def take(self, message: Message) -> None:
        if isinstance(message, VoteOpeningMessage) and message.member % 2:
            raise MessageRefused("NOT_YET", f"member {message.member}")
        self.taken.append(message)


@dataclass
class Person:
    """A node's talking parts: whatever it is to say or to hear, without the rest of it."""

    number: int
    hub: Hub
    keys: dict[Address, Address]
    box: Box = field(default_factory=Box)

    def __post_init__(self) -> None:
        self.account = SigningAccount.from_key(bytes((self.number,)) * 32)
        self.network = MemoryNetwork(
            self.hub, PeerId(f"NodeNode{self.number}"), f"/ip4/127.0.0.1/tcp/{4000 + self.number}"
        )
        self.book = RecordBook(NAME, self.keys.get, recover)
        self.discovery = Discovery(
            self.network, self.book, self._make_own, lambda: 10**6, is_local=True, pace=Pace(redial_s=0.0)
        )
        self.log = JobLog()
        self.carrier = PeerCarrier(self.network, NAME, self.discovery)
        desk = Desk(self.box, None, Forwarding(HttpMessenger(ChainView(), is_local=True), list))  # type: ignore[arg-type] (it takes messages)
        self.service = PeerService(
            self.network, NAME, desk, Answers(self._describe, self.log),
            lambda peer: self.book.find_peer(peer) is not None,
        )  # fmt: skip

    async def _describe(self) -> dict[str, Any]:
        return {"number": self.number}

    def _make_own(self) -> list[SignedRecord]:
        record = NodeRecord(
            NAME,
            self.account.address,
            10**6,
            self.network.peer_id,
            self.network.addresses,
            f"http://127.0.0.1:{self.number}",
        )
        return [sign_record(record, self.account.sign)]

    @property
    def route(self) -> Route:
        return Route(f"http://127.0.0.1:{self.number}", self.network.peer_id)


@asynccontextmanager
async def meet(count: int = 2) -> AsyncIterator[list[Person]]:
    """Nodes of which the first knows all the others by their records, and they do not know it yet."""
    keys: dict[Address, Address] = {}
    hub = Hub()
    people = [Person(number + 1, hub, keys) for number in range(count)]
    keys |= {each.account.address: each.account.address for each in people}
    for each in people:
        await each.discovery.start()
        await each.service.start()
    for each in people[1:]:
        for signed in each._make_own():
            people[0].book.add(signed, 10**6)
    yield people


def make_opening(member: int) -> VoteOpeningMessage:
    return VoteOpeningMessage(dispute_id=1, member=member, vote=b"v" * 32, salt=b"s" * 16)


class Way:
    """Another way, which always gets there."""

    def __init__(self) -> None:
        self.carried: list[Message] = []

    def reaches(self, route: Route) -> bool:
        return route.url is not None

    async def ask(self, route: Route, kind: str, message: Message) -> bytes:
        self.carried.append(message)
        return b'{"taken": true}'


# requests -----------------------------------------------------------------------------------------------------------


async def test_messages_reach_a_node_that_was_never_spoken_to() -> None:
    async with meet() as (one, two):
        outbox = Outbox([one.carrier])
        await outbox.send(two.route, "vote-openings", make_opening(2))
        sent = [outbox.send(two.route, "vote-openings", make_opening(number)) for number in range(4, 40)]
        answers = await asyncio.gather(*sent, return_exceptions=True)
    refused = [each for each in answers if isinstance(each, Undelivered)]
    assert len(refused) == 18
    assert {each.code for each in refused} == {"NOT_YET"}
    assert [each.member for each in two.box.taken if isinstance(each, VoteOpeningMessage)] == [2, *range(4, 40, 2)]
    assert two.service.counts["mail"] >= 1, "what waits together goes together"
    assert two.service.counts.total() < 10


def test_mail_goes_to_the_operator_and_not_to_whoever_claims_its_url() -> None:
    """A thief's record, signed with its own key, names the collator's URL and the thief's identity."""
    view = ChainView()
    collator, thief = (SigningAccount.from_key(bytes((each,)) * 32).address for each in (1, 2))
    for number, owner in enumerate((collator, thief), 1):
        view.operators[number] = OperatorView(owner, owner, "http://collator")
        view.operator_by_address[owner] = number
    peers = {collator: "CollatorsPeer", thief: "ThiefsPeer"}
    locator = ChainLocator(view, find_peer=peers.get)
    assert locator.find_route_to(collator) == Route("http://collator", "CollatorsPeer")
    del peers[collator]  # its record is not known yet: nobody else's stands in for it
    assert locator.find_route_to(collator) == Route("http://collator", None)
    assert locator.find_route(2) == Route("http://collator", "ThiefsPeer")
    assert locator.find_route(3) is None
    assert locator.find_route_to(Address(bytes(20))) is None


async def test_status_and_logs_are_told_to_peers() -> None:
    async with meet() as (one, two):
        two.log.note(JOB, "executing", "bundle 0")
        answer = json.loads(await one.carrier.ask(two.route, "status", StatusQuery()))
        assert answer["status"] == {"number": 2}
        lines = json.loads(await one.carrier.ask(two.route, "logs", LogsQuery(job_id=JOB)))["lines"]
        assert [(each["event"], each["detail"]) for each in lines] == [("executing", "bundle 0")]
        assert json.loads(await one.carrier.ask(two.route, "logs", LogsQuery(job_id=bytes(32))))["lines"] == []


async def test_the_logs_of_all_seats_are_gathered_whatever_some_of_them_say() -> None:
    async with meet(4) as people:
        one, two, mute, senseless = people
        view, job = ChainView(), bytes(JOB)

        async def say_nonsense(peer: PeerId, data: bytes) -> bytes:
            return seal(NAME, Taken())

        await senseless.network.serve(NAME.name_protocol("logs"), say_nonsense, 4096)
        mute.network.leave()
        peers = {each.account.address: each.network.peer_id for each in people}
        for number, each in enumerate(people, 1):
            view.operators[number] = OperatorView(each.account.address, each.account.address, f"http://{number}")
        view.operators[5] = OperatorView(Address(b"\x05" * 20), Address(b"\x05" * 20), "")
        messenger = HttpMessenger(view, is_local=True, find_peer=peers.get, carriers=[one.carrier], is_mail=False)
        one.log.note(job, "executing")
        two.log.note(job, "no result", "NO_DATA: gone")
        gatherer = LogGatherer(one.log, view, messenger, "http://1")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(joblog, "find_seats", lambda *_: [1, 2, 3, 4, 5])
            told = (await gatherer.gather(job)).seats
    assert [each.operator for each in told] == [1, 2, 3, 4, 5]
    assert [[line.event for line in each.lines] for each in told] == [["executing"], ["no result"], [], [], []]
    assert told[1].lines[0].detail == "NO_DATA: gone"
    assert [each.problem is None for each in told] == [True, True, False, False, False]
    assert "senselessly" in (told[3].problem or "")
    assert told[4].problem == "nobody knows where it answers"


def test_seats_of_a_job_are_found_on_the_chain() -> None:
    net = Network0(8)
    net.submit(net.order())
    view = net.nodes[0].core.state.chain
    assert net.run(until=lambda: any(each.round and each.round.committed for each in view.batches.values()))
    (batch,) = view.batches.values()
    (bundle,) = batch.bundles.values()
    drawn = [batch.table.members[row].operator_id for row in get_committee(batch, bundle.number)]
    assert joblog.find_seats(view, bundle.job_id) == list(dict.fromkeys(drawn))
    assert joblog.find_seats(view, bytes(32)) == []
    before = next(row for row in range(8) if row not in get_committee(batch, bundle.number))
    bundle.record = replace(bundle.record, abstainers=(before,))
    assert joblog.find_seats(view, bundle.job_id)[-1] == batch.table.members[before].operator_id


async def test_who_has_not_staked_is_not_heard_and_goes_by_http() -> None:
    async with meet() as (one, two):
        del two.keys[one.account.address]
        with pytest.raises(Undelivered) as caught:
            await one.carrier.ask(two.route, "vote-openings", make_opening(2))
        assert caught.value.code == "UNSTAKED"
        http = Way()
        await Outbox([one.carrier, http]).send(two.route, "vote-openings", make_opening(2))
        assert (two.box.taken, len(http.carried)) == ([], 1)


async def test_what_one_way_does_not_bring_the_next_one_does() -> None:
    async with meet() as (one, two):
        http = Way()
        outbox = Outbox([one.carrier, http])
        two.network.leave()
        for number in range(3):
            await outbox.send(two.route, "vote-openings", make_opening(number))
        assert len(http.carried) == 3
        assert one.carrier.failed == 1, "it is not tried again at once"
        with pytest.raises(Undelivered, match="no way leads"):
            await outbox.send(Route(None, None), "vote-openings", make_opening(0))


async def test_a_refusal_of_the_message_is_not_tried_another_way() -> None:
    async with meet() as (one, two):
        http = Way()
        with pytest.raises(Undelivered, match="member 3"):
            await Outbox([one.carrier, http]).send(two.route, "vote-openings", make_opening(3))
        assert http.carried == []


@pytest.mark.parametrize(("kind", "rate"), [("vote-openings", RATE), ("status", QUESTION_RATE)])
async def test_one_peer_is_heard_so_often(kind: str, rate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with meet(3) as (one, two, three):
        message: Message = StatusQuery() if kind == "status" else make_opening(2)
        codes = []
        now = asyncio.get_running_loop().time()
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)  # however slow this machine is
        for _ in range(int(rate.burst) + 100):
            try:
                await one.carrier.ask(two.route, kind, message)
                codes.append("")
            except Undelivered as error:
                codes.append(error.code)
        assert set(codes) == {"", "RATE"}
        assert codes.index("RATE") >= rate.burst
        two.book.add(three._make_own()[0], 10**6)
        three.book.add(two._make_own()[0], 10**6)
        assert await three.carrier.ask(two.route, kind, message), "others are heard"


async def test_an_order_that_a_peer_brings_is_not_handed_on_again() -> None:
    async with meet() as (one, two):
        order = OrderMessage.from_signed(Network0(8).order())
        with pytest.raises(Undelivered) as caught:
            await one.carrier.ask(two.route, "orders", order)
        assert caught.value.code == "NOT_A_COLLATOR"


async def test_a_mute_peer_costs_one_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "REQUEST_S", 0.05)

    async def say_nothing(peer: PeerId, data: bytes) -> bytes:
        await asyncio.sleep(60)
        return b""

    async with meet() as (one, two):
        await two.network.serve(NAME.name_protocol("vote-openings"), say_nothing, 4096)
        http = Way()
        await Outbox([one.carrier, http]).send(two.route, "vote-openings", make_opening(2))
        assert (one.carrier.failed, len(http.carried)) == (1, 1)
        assert not one.carrier.reaches(two.route)


@pytest.mark.parametrize("answer", [b"", b"{}", b"\xff", seal(replace(NAME, chain_id=1), StatusQuery())], ids=repr)
async def test_a_senseless_answer_is_none(answer: bytes) -> None:
    async def answer_so(peer: PeerId, data: bytes) -> bytes:
        return answer

    async with meet() as (one, two):
        await two.network.serve(NAME.name_protocol("status"), answer_so, 4096)
        with pytest.raises(Undelivered, match="senselessly"):
            await one.carrier.ask(two.route, "status", StatusQuery())


def envelop(body: Any) -> bytes:
    envelope = {"version": 1, "chain_id": NAME.chain_id, "network": f"0x{NAME.network_id.hex()}", "body": body}
    return json.dumps(envelope).encode()


nothing = st.none() | st.integers() | st.text()
bodies = st.recursive(
    nothing, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner, min_size=1), max_leaves=5
)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200) | bodies.map(envelop))
def test_garbage_on_every_protocol_is_answered_with_a_word(data: bytes) -> None:
    async def scenario() -> None:
        async with meet() as (one, two):
            await one.discovery.reach(two.network.peer_id)
            before = len(two.box.taken)
            for kind in REQUESTS:
                answer = await one.network.request(two.network.peer_id, NAME.name_protocol(kind), data)
                said = open_answer(NAME, kind, answer)
                assert isinstance(said, ErrorDetail), kind
                assert said.type in ("SCHEMA", "VERSION", "CHAIN", "NETWORK", "SIZE", "MALFORMED"), said
            assert len(two.box.taken) == before
            assert two.service.counts.total() == len(REQUESTS) - 1, "they are counted, but for those about records"

    asyncio.run(scenario())


async def test_every_kind_of_request_is_answered() -> None:
    async with meet() as (_, two):
        assert {NAME.name_protocol(kind) for kind in REQUESTS} == set(two.network._handlers)
        assert KINDS.keys() < REQUESTS.keys()


# announcements ------------------------------------------------------------------------------------------------------


class Collators:
    """A collator that remembers whose orders it takes over."""

    def __init__(self) -> None:
        self.adopted: list[SignedOrder] = []
        self.is_busy = False

    async def adopt(self, signed: SignedOrder, providers: tuple[str, ...]) -> JobId:
        if self.is_busy:
            raise Busy("full")
        self.adopted.append(signed)
        return JOB


def make_announcer(net: Network0, person: Person, tmp: Any, collator: Any) -> Announcer:
    state = net.nodes[person.number - 1].core.state
    hints = Hints(tmp / f"hints-{person.number}")
    work = Work(lambda: state, collator, hints, BatchHints(), person.book.find_peer, lambda: 0.25)
    return Announcer(person.network, NAME, work)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def announcing(tmp: Any) -> AsyncIterator[tuple[Network0, list[Person], list[Announcer], Collators]]:
    net = Network0(8)
    net.step()
    async with meet(3) as people:
        standby = Collators()
        announcers = [make_announcer(net, each, tmp, standby if each is people[1] else None) for each in people]
        for each, announcer in zip(people, announcers, strict=True):
            await announcer.start()
            for other in people:
                each.book.add(other._make_own()[0], 10**6)
        for each in people[1:]:
            await people[0].discovery.reach(each.network.peer_id)
        yield net, people, announcers, standby


async def test_orders_are_told_in_pages_that_nobody_refuses(tmp_path: Any) -> None:
    async with announcing(tmp_path) as (net, people, announcers, _):
        heard: list[Heard] = []

        def listen(each: Heard) -> bool:
            heard.append(each)
            return True

        await people[2].network.subscribe(NAME.name_topic("orders"), listen)
        providers = ["http://127.0.0.1:1/" + "x" * 200] * 8
        orders = [net.order() for _ in range(30)]
        for signed in orders:
            announcers[0].tell_order(signed, providers)
        while announcers[0]._untold:
            await announcers[0]._tell()
        assert 1 < len(heard) < len(orders)
        pages = [open_announcement(NAME, "orders", each.data, GossipLimits().max_bytes) for each in heard]
        told = [each.to_signed() for page in pages if isinstance(page, OrdersMessage) for each in page.orders]
        assert told == orders
        assert announcers[1].counts["orders_heard"] == len({each.order.nonce for each in orders})


async def test_an_order_is_adopted_when_nobody_posts_it(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with announcing(tmp_path) as (net, _, announcers, collator):
        good = net.order()
        forged = SignedOrder(replace(good.order, nonce=77), good.signature)
        for signed in (good, forged):
            announcers[0].tell_order(signed, [])
        await announcers[0]._tell()
        assert announcers[1].counts["orders_heard"] == 1, "the forged one is not kept"
        await announcers[1]._adopt()
        assert collator.adopted == []
        later = asyncio.get_running_loop().time() + 60
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: later)
        await announcers[1]._adopt()
        assert collator.adopted == [good]
        collator.is_busy = True
        announcers[1]._standby.hear(compute_job_id(NAME.separator, good.order), good, (), "a", later - 60, 0.25)
        await announcers[1]._adopt()
        assert announcers[1].counts["orders_adopted"] == 1


async def test_batches_are_told_once_with_who_has_their_inputs(tmp_path: Any) -> None:
    async with announcing(tmp_path) as (net, _, announcers, _):
        announcers[0]._find_new_batches()  # those of before its start are not told
        net.submit(net.order())
        state = net.nodes[0].core.state
        assert net.run(until=lambda: any(each.bundles for each in state.chain.batches.values()))
        (batch,) = state.chain.batches.values()
        assert batch.collator == state.identity.account
        (bundle,) = batch.bundles.values()
        announcers[0]._work.hints.put(bundle.job_id, ["http://127.0.0.1:5"])
        await announcers[0]._tell()
        await announcers[0]._tell()
        assert announcers[0].counts["batches_told"] == 1
        owner = people_owner(announcers[1])
        assert announcers[1]._work.batch_hints.find(batch.id, [owner]) == ["http://127.0.0.1:5"]


def people_owner(announcer: Announcer) -> Address:
    record = announcer._work.find_author("NodeNode1")
    assert record is not None
    return record.operator


async def test_announcements_of_the_unstaked_are_not_believed(tmp_path: Any) -> None:
    async with announcing(tmp_path) as (net, people, announcers, _):
        batch = seal(NAME, BatchMessage(batch_id=1))
        orders = seal(NAME, OrdersMessage(orders=[OrderMessage.from_signed(net.order())]))
        for data, hear in ((batch, announcers[1]._hear_batch), (orders, announcers[1]._hear_orders)):
            assert hear(Heard("", people[0].network.peer_id, data))
            assert not hear(Heard("", PeerId("Somebody"), data))
            assert not hear(Heard("", people[0].network.peer_id, data[:-1]))
            assert not hear(Heard("", people[0].network.peer_id, data.replace(b"31337", b"1")))


# digests ------------------------------------------------------------------------------------------------------------


def test_a_digest_tells_whom_to_ask() -> None:
    roots = [f"bafy{number}" for number in range(2_000)]
    digest = compute_roots_digest(roots[:20])
    assert len(digest) == 32
    assert all(may_hold(digest, each) for each in roots[:20])
    assert sum(may_hold(digest, each) for each in roots[20:]) < 40, "seldom wrong about some dozens"
    assert not any(may_hold(compute_roots_digest([]), each) for each in roots)
    assert compute_roots_digest(reversed(roots[:20])) == digest
