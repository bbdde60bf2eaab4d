"""Bounds on traffic: bytes a day and a second, at the gateway that serves and in the fetch that takes."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from starlette.applications import Starlette

from quorate.protocol.errors import ContentUnavailable
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.fetch import fetch_block, fetch_dag
from quorate.storage.gateway import gateway_routes
from quorate.storage.memory import MemoryStore
from quorate.storage.serve import LoopbackServer
from quorate.storage.traffic import DAY_S, LEAST_PIECE, Meter, TrafficLimits, VolumeReached
from quorate.storage.transfer import FetchLimits

KIB = 1024


class Clock:
    """Both clocks of a meter."""

    def __init__(self, now: float = 20_000 * DAY_S + 10.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def make_meter(clock: Clock, bytes_s: int = 0, bytes_day: int = 0) -> Meter:
    return Meter("fetch", TrafficLimits(bytes_s, bytes_day), clock=clock, unix=clock)


def test_a_second_carries_so_much_and_a_pause_saves_up_one_second_alone() -> None:
    clock = Clock()
    meter = make_meter(clock, bytes_s=1000)
    assert [meter.take(500), meter.take(500)] == [0.0, 0.0], "a second's worth at once"
    assert meter.take(500) == pytest.approx(0.5)
    clock.now += 0.5
    assert meter.take(2000) == pytest.approx(2.0)
    clock.now += 3600
    assert meter.take(1500) == pytest.approx(0.5), "an hour without traffic is not saved up"


def test_a_day_carries_so_much_until_the_next_of_utc() -> None:
    clock = Clock()
    meter = make_meter(clock, bytes_day=1000)
    meter.check(1000)
    with pytest.raises(VolumeReached, match=r"0 of 1000 bytes a day are used, and 1001 more .*fetch_bytes_day"):
        meter.check(1001)
    meter.take(999)
    meter.take(500)  # what is under way comes whole, piece by piece
    with pytest.raises(VolumeReached, match=f"it begins anew in {DAY_S - 10} s"):
        meter.take(1)
    assert (meter.figures.day_bytes, meter.figures.refusals) == (1499, 2)
    clock.now += DAY_S - 10
    assert meter.figures.day_bytes == 0
    meter.take(1)
    assert (meter.figures.day_bytes, meter.figures.total_bytes) == (1, 1500)


def test_what_an_earlier_run_counted_today_counts_on_and_yesterdays_does_not() -> None:
    clock = Clock()
    meter, today = make_meter(clock, bytes_day=100), make_meter(clock).figures.day
    meter.resume(today - 1, 100)
    meter.check()
    meter.resume(today, 100)
    with pytest.raises(VolumeReached):
        meter.check()


def client_of(store: EmbeddedStore, meter: Meter) -> httpx.AsyncClient:
    app = Starlette(routes=gateway_routes(store, None, meter))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


@pytest.mark.parametrize("form", ["raw", "car"])
async def test_a_gateway_counts_what_it_sends_and_ends_with_its_day(embedded: EmbeddedStore, form: str) -> None:
    root = embedded.add_bytes(b"x" * 10_000)
    meter = Meter("serve", TrafficLimits(bytes_day=25_000), unix=Clock())
    async with client_of(embedded, meter) as client:
        sent = 0
        for _ in range(2):
            assert (await client.head(f"/ipfs/{root}?format={form}")).status_code == 200
            sent += len((await client.get(f"/ipfs/{root}?format={form}")).content)
            assert meter.figures.day_bytes == sent > 0
        meter.take(25_000 - sent)
        answer = await client.get(f"/ipfs/{root}?format={form}")
        assert answer.status_code == 503
        assert 0 < int(answer.headers["retry-after"]) <= DAY_S
        assert "serve_bytes_day" in answer.text
        assert (await client.get(f"/ipfs/{root}", headers={"if-none-match": f'"{root}.raw"'})).status_code != 500


@pytest.mark.parametrize("form", ["raw", "car"])
async def test_a_gateway_pauses_between_pieces_for_a_bound_on_seconds(
    embedded: EmbeddedStore, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, bytes_s = Clock(), 8 * LEAST_PIECE
    root = embedded.add_bytes(bytes(range(256)) * KIB)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        clock.now += seconds
        await sleep(0)

    monkeypatch.setattr("quorate.storage.gateway.asyncio.sleep", pause)
    meter = Meter("serve", TrafficLimits(bytes_s), clock=clock, unix=clock)
    async with client_of(embedded, meter) as client:
        answer = await client.get(f"/ipfs/{root}?format={form}")
    assert embedded.read(root) in answer.content
    assert sum(pauses) == pytest.approx(len(answer.content) / bytes_s - 1, abs=0.01), "one second's bytes went at once"
    assert max(pauses) <= 1 / 8 + 0.01, "whoever waits sees that bytes come"
    if form == "raw":
        assert int(answer.headers["content-length"]) == len(answer.content)


def test_a_fetch_waits_for_its_own_bound_and_blames_nobody(
    embedded: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, clock, pauses = embedded.add_bytes(b"y" * 300_000), Clock(time.monotonic()), list[float]()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        clock.now += seconds

    monkeypatch.setattr("quorate.storage.transfer.time", SimpleNamespace(sleep=pause, monotonic=clock))
    meter, target = make_meter(clock, bytes_s=50_000), MemoryStore()
    # Its own pauses, of a second each, are far beyond what a provider may be silent for.
    limits = FetchLimits(stall_s=0.5, min_bytes_s=1 << 20, meter=meter)
    with LoopbackServer(Starlette(routes=gateway_routes(embedded))) as server:
        report = fetch_dag(target, root, [server.url], limits=limits)
    assert report.rejected == ()
    assert sum(pauses) == pytest.approx(report.bytes / 50_000 - 1, abs=0.05)
    assert meter.figures.total_bytes == report.bytes


def test_a_fetch_over_the_days_bytes_stops_and_what_is_here_needs_none(embedded: EmbeddedStore) -> None:
    root, target = embedded.add_bytes(random.Random(3).randbytes(3 << 20)), MemoryStore()
    meter = Meter("fetch", TrafficLimits(bytes_day=1 << 20), unix=Clock())
    with LoopbackServer(Starlette(routes=gateway_routes(embedded))) as server:
        with pytest.raises(VolumeReached):
            fetch_dag(target, root, [server.url], limits=FetchLimits(meter=meter))
        assert 1 << 20 <= meter.figures.day_bytes < 3 << 20
        with pytest.raises(VolumeReached):
            fetch_block(MemoryStore(), root, [server.url], limits=FetchLimits(meter=meter))
        assert fetch_dag(embedded, root, [server.url], limits=FetchLimits(meter=meter)).bytes == 0
        assert fetch_dag(target, root, [server.url]).bytes > 0, "what had come was kept, and the rest follows"
    with pytest.raises(ContentUnavailable):
        fetch_dag(MemoryStore(), root, [], limits=FetchLimits(meter=Meter("fetch")))


def test_the_size_of_a_piece_suits_the_bound(tmp_path: Path) -> None:
    assert Meter("serve").piece_bytes is None
    assert Meter("serve", TrafficLimits(1)).piece_bytes == LEAST_PIECE
    assert Meter("serve", TrafficLimits(80 * LEAST_PIECE)).piece_bytes == 10 * LEAST_PIECE
