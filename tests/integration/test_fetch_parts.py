"""Fetching what is missing alone: after a cut, from several providers at once, and never again from one that lied."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quorate.protocol.errors import ContentUnavailable
from quorate.storage import car, codecs, dagpb, fetch, missing, varint
from quorate.storage.cid import DAG_PB, RAW, Cid
from quorate.storage.dagpb import Link
from quorate.storage.fetch import ContentTooLarge, fetch_block, fetch_dag
from quorate.storage.gateway import build_gateway
from quorate.storage.memory import MemoryStore
from quorate.storage.missing import Part, find_missing
from quorate.storage.providers import BAN_S, SLOW_S, ProviderBook
from quorate.storage.serve import LoopbackServer
from quorate.storage.transfer import FetchLimits
from quorate.storage.traversal import Traversal

MIB = 1 << 20
QUICK = FetchLimits(stall_s=2.0, connect_s=1.0, timeout_s=30.0)


class Metered:
    """A gateway that counts the bytes that it sends, takes its time, and may cut each answer off after some."""

    def __init__(self, app: ASGIApp, cut_after: int | None = None) -> None:
        self._app, self._cut_after = app, cut_after
        self.sent, self.requests = 0, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += scope["type"] == "http"
        await asyncio.sleep(0.05)  # nobody brings everything before others begin
        here = 0

        async def counted(message: Message) -> None:
            nonlocal here
            size = len(message.get("body", b""))
            if self._cut_after is not None and here + size > self._cut_after:
                raise ConnectionAbortedError("the line is cut")
            here += size
            self.sent += size
            await send(message)

        await self._app(scope, receive, counted)


@contextmanager
def metered(store: MemoryStore, count: int = 1, cut_after: int | None = None) -> Iterator[list[tuple[str, Metered]]]:
    with ExitStack() as stack:
        apps = [Metered(build_gateway(store), cut_after) for _ in range(count)]
        yield [(stack.enter_context(LoopbackServer(app)).url, app) for app in apps]


@pytest.fixture(scope="module")
def donor() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="module")
def root(donor: MemoryStore) -> Cid:
    return donor.add_tree({"big": os.urandom(20 * MIB + 1), "dir/one": b"one", "two": os.urandom(3 * MIB)})


def test_after_a_cut_only_the_rest_is_fetched(donor: MemoryStore, root: Cid) -> None:
    store, total = MemoryStore(), 23 * MIB
    with metered(donor, cut_after=5 * MIB) as [(url, app)]:
        report = fetch_dag(store, root, [url], limits=QUICK)
    assert store.is_complete(root)
    assert app.requests >= total // (5 * MIB)
    assert report.bytes < total * 1.25
    assert report.rejected == ()


def test_one_that_is_cut_off_with_nothing_new_is_left(donor: MemoryStore, root: Cid) -> None:
    with metered(donor, cut_after=100_000) as [(url, app)], pytest.raises(ContentUnavailable, match="nobody served"):
        fetch_dag(MemoryStore(), root, [url], limits=QUICK)
    assert app.requests <= 2 + fetch.MAX_RESUMED


def test_several_providers_bring_parts_of_one_file(
    donor: MemoryStore, root: Cid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "SPLIT_AFTER", 2 * MIB)
    monkeypatch.setattr(missing, "PART_BYTES", 2 * MIB)
    store, seen = MemoryStore(), list[int]()
    with metered(donor, 3) as servers:
        report = fetch_dag(store, root, [url for url, _ in servers], limits=QUICK, on_progress=seen.append)
        shares = [app.sent for _, app in servers]
    assert store.is_complete(root)
    assert min(shares) > 0, "all took part"
    assert report.bytes < 23 * MIB * 1.25
    assert max(seen) == report.bytes


def test_content_that_came_from_a_liar_and_a_truthful_one_is_whole(
    donor: MemoryStore, root: Cid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "SPLIT_AFTER", 2 * MIB)
    monkeypatch.setattr(missing, "PART_BYTES", MIB)

    class Flipping(Metered):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def flipped(message: Message) -> None:
                if len(body := message.get("body", b"")) > 1000:
                    message = message | {"body": body[:-1] + bytes([body[-1] ^ 1])}
                await send(message)

            await super().__call__(scope, receive, flipped)

    book = ProviderBook()
    with metered(donor) as [(good, _)], LoopbackServer(liar := Flipping(build_gateway(donor))) as bad:
        for first in ([good, bad.url], [bad.url, good]):
            store = MemoryStore()
            fetch_dag(store, root, first, limits=QUICK, book=book)
            assert store.is_complete(root)
        asked = liar.requests
        assert asked > 0
        again = fetch_dag(MemoryStore(), root, [bad.url, good], limits=QUICK, book=book)
        assert (again.provider, liar.requests) == (good, asked), "it is not asked any more"
        assert again.rejected == ((bad.url, "is not asked, for it lied before"),)
        with pytest.raises(ContentUnavailable, match="it lied before"):
            fetch_block(MemoryStore(), root, [bad.url], book=book)


def test_the_book_forgives_in_time() -> None:
    now = 0.0
    book = ProviderBook(lambda: now)
    book.note_lie("http://liar/")
    book.note_failure("http://slow")
    assert book.order(["http://slow", "http://liar", "http://a", "http://a/"]) == (
        ["http://a", "http://slow"],
        ["http://liar"],
    )
    now = SLOW_S + 1
    assert book.order(["http://slow", "http://a"])[0] == ["http://slow", "http://a"]
    book.note_failure("http://slow")
    now += SLOW_S + 1
    assert book.order(["http://slow", "http://a"])[0] == ["http://a", "http://slow"], "longer each time"
    book.note_success("http://slow")
    assert book.order(["http://slow", "http://a"])[0] == ["http://slow", "http://a"]
    now = BAN_S + 1
    assert book.order(["http://liar"]) == (["http://liar"], [])


def copy_some(donor: MemoryStore, root: Cid, keep: Callable[[Cid], bool]) -> tuple[MemoryStore, int]:
    """A store with some blocks of a DAG, and how many there are in all."""
    store, pending, count = MemoryStore(), [root], 0
    while pending:
        cid = pending.pop()
        block, count = donor.get(cid), count + 1
        if cid.codec == DAG_PB:
            pending += [link.cid for link in dagpb.decode(block).links]
        if keep(cid):
            store.put(cid, block)
    return store, count


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_missing_its_parts_make_it_whole(donor: MemoryStore, root: Cid, seed: int) -> None:
    chance = random.Random(seed)
    share = chance.choice([0.0, 0.1, 0.5, 0.9, 0.99])
    store, _ = copy_some(donor, root, lambda cid: chance.random() < share or (cid.codec != RAW and seed % 2 == 0))
    rounds = 0
    while parts := find_missing(store, root):
        rounds += 1
        assert rounds < 20
        for part in parts:
            scope = "all" if part.span is None else "entity"
            walk = Traversal(part.cid, scope=scope, byte_range=part.byte_range)
            store.import_car(car.write(walk, part.cid, donor.get), part.cid, scope=scope, byte_range=part.byte_range)
    assert store.is_complete(root)


def test_a_file_that_repeats_its_parts_without_end_is_looked_through_once() -> None:
    store, cid = MemoryStore(), Cid.of(b"leaf")
    size = 4
    for _ in range(48):  # each node is twice the one below: of 48 blocks, 2^48 leaves
        message = b"\x08\x02\x18" + varint.encode(2 * size) + (b"\x20" + varint.encode(size)) * 2
        block = dagpb.encode([Link(cid, "", size), Link(cid, "", size)], message)
        cid, size = Cid.of(block, DAG_PB), 2 * size
        store.put(cid, block)
    looked, get = [], store.get
    store.get = lambda wanted: (looked.append(wanted), get(wanted))[1]  # type: ignore[method-assign]
    assert find_missing(store, cid) == [Part(cid, (0, 4))]
    assert len(looked) < 200


def test_many_small_files_are_asked_for_together_and_few_large_ones_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    donor = MemoryStore()
    small = donor.add_tree({f"{number}": bytes([number % 256, number // 256]) for number in range(500)})
    store, _ = copy_some(donor, small, lambda cid: cid == small)
    assert find_missing(store, small) == [Part(small)]
    monkeypatch.setattr(missing, "LARGE_CHILD", 1)
    assert len(find_missing(store, small)) == 500


def test_many_providers_bring_no_more_than_one_may(donor: MemoryStore, root: Cid) -> None:
    store, limits = MemoryStore(), replace(QUICK, max_bytes=5 * MIB)
    with metered(donor, 4, cut_after=3 * MIB) as servers, pytest.raises(ContentTooLarge, match=str(5 * MIB)):
        fetch_dag(store, root, [url for url, _ in servers], limits=limits)
    kept = sum(store.size(cid) or 0 for cid in find_blocks(donor, root) if store.has(cid))
    assert 3 * MIB < kept <= 5 * MIB


def find_blocks(store: MemoryStore, root: Cid) -> set[Cid]:
    """All blocks of a DAG."""
    found, pending = set[Cid](), [root]
    while pending:
        cid = pending.pop()
        found.add(cid)
        if cid.codec == DAG_PB:
            pending += codecs.links_of(cid, store.get(cid))
    return found


def test_one_that_repeats_itself_uses_up_nothing_of_the_others_share() -> None:
    donor, limits = MemoryStore(), replace(QUICK, max_bytes=2 * MIB)
    root = donor.add_bytes(os.urandom(MIB + MIB // 2))
    block = car.encode_section(root, donor.get(root))

    async def repeat(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/vnd.ipld.car")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = car.encode_header(root) + block * ((2 * MIB - 1000) // len(block))
        await send({"type": "http.response.body", "body": body})

    store = MemoryStore()
    with LoopbackServer(repeat) as one, metered(donor) as [(other, _)]:
        report = fetch_dag(store, root, [one.url, other], limits=limits)
    assert store.is_complete(root)
    assert report.bytes > 2 * MIB
