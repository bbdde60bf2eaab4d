"""Fetching over real HTTP on loopback, from good, bad and broken providers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from quorate.protocol.errors import ContentUnavailable
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.fetch import fetch_block, fetch_dag, fetch_dag_async
from quorate.storage.gateway import build_gateway
from quorate.storage.memory import MemoryStore
from quorate.storage.serve import LoopbackServer
from quorate.storage.transfer import FetchLimits

MIB = 1 << 20
CAR = "application/vnd.ipld.car"
RAW = "application/vnd.ipld.raw"
QUICK = FetchLimits(stall_s=1.0, connect_s=1.0, timeout_s=60.0)
"""For who sends nothing, or next to nothing. All others may take the usual time, however busy the machine is."""
Answer = Callable[[Request], Awaitable[Response]]


@pytest.fixture(scope="module")
def root(donor: BlobStore) -> Cid:
    return donor.add_tree({"big": os.urandom(3 * MIB + 1), "dir/one": b"one", "two": b"two"})


def provider(answer: Answer) -> LoopbackServer:
    """A server that answers every request for content as a stranger might."""
    return LoopbackServer(Starlette(routes=[Route("/ipfs/{cid}", answer)]))


def car_answer(body: bytes) -> Answer:
    async def answer(_: Request) -> Response:
        return Response(body, media_type=CAR)

    return answer


async def _stalls(_: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield b"\x3a"
        await asyncio.sleep(3)

    return StreamingResponse(body(), media_type=CAR)


async def _drips(_: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        for byte in b"\x3a\xa2eroots" * 20:
            yield bytes((byte,))
            await asyncio.sleep(0.1)

    return StreamingResponse(body(), media_type=CAR)


async def _elsewhere(_: Request) -> Response:
    return RedirectResponse("http://127.0.0.1:9/ipfs/x")


async def _circles(request: Request) -> Response:
    return RedirectResponse(str(request.url))


async def _html(_: Request) -> Response:
    return Response("<html>", media_type="text/html")


async def _gone(_: Request) -> Response:
    return Response("blocked by law", 410, media_type="text/plain")


async def _zipped(_: Request) -> Response:
    return Response(b"\x1f\x8b", media_type=CAR, headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize("kind", ["memory", "embedded"])
def test_a_dag_is_fetched_whole(server: LoopbackServer, donor: BlobStore, root: Cid, kind: str, tmp_path: Path) -> None:
    store = MemoryStore() if kind == "memory" else EmbeddedStore(tmp_path / "s")
    seen: list[int] = []
    report = fetch_dag(store, root, [server.url + "/"], on_progress=seen.append)
    assert (report.provider, report.rejected) == (server.url + "/", ())
    assert report.bytes == seen[-1] > 3 * MIB
    assert store.is_complete(root)
    assert store.read(store.resolve(root, "big")) == donor.read(donor.resolve(root, "big"))
    again = fetch_dag(store, root, [])
    assert (again.bytes, again.provider) == (0, None)
    store.close()


@pytest.mark.parametrize("donor", ["embedded"], indirect=True)  # liars are alike whatever the last one serves
def test_liars_are_left_one_by_one(server: LoopbackServer, donor: BlobStore, root: Cid) -> None:
    good = b"".join(donor.export_car(root))
    flipped = bytearray(good)
    flipped[MIB] ^= 1
    other = b"".join(donor.export_car(donor.add_bytes(b"something else")))
    with (
        provider(car_answer(bytes(flipped))) as liar,
        provider(car_answer(good[: 2 * MIB])) as early,
        provider(car_answer(other)) as foreign,
        provider(_stalls) as stalling,
        provider(_drips) as dripping,
        provider(_elsewhere) as elsewhere,
        provider(_circles) as circles,
        provider(_html) as html,
        provider(_gone) as gone,
        provider(_zipped) as zipped,
    ):
        servers = [liar, early, foreign, stalling, dripping, elsewhere, circles, html, gone, zipped]
        urls = [each.url for each in servers]
        names = [
            "ftp://host",
            "rubbish",
            "http://user:secret@host",
            "http://127.0.0.1:9",
            "http://[",
            "http://host:99999",
        ]
        expected = [
            "no http",
            "no http",
            "no http",
            "Connect",
            "no http",
            "no http",
            "not what",
            "had to come",  # it may go on where it stopped, and then sends what nobody asked for
            "had to come",
            "sent nothing",
            "a second",
            "another host",
            "circles",
            "text/html",
            "blocked by law",
            "encoding",
        ]
        for url, part in zip([*names, *urls], expected, strict=True):
            with pytest.raises(ContentUnavailable, match=rf"nobody served(.|\n)*{part}"):
                fetch_dag(MemoryStore(), root, [url], limits=QUICK if part in ("sent nothing", "a second") else None)
        store = MemoryStore()
        with pytest.raises(ContentUnavailable, match="nobody served"):
            fetch_dag(store, root, [*names, *urls], limits=QUICK)
        assert store.has(root)  # what the liar sent before it lied was good
        report = fetch_dag(store, root, [*names, *urls, server.url], limits=QUICK)
    assert report.provider == server.url
    assert store.is_complete(root)
    assert {url for url, _ in report.rejected} <= {*names, *urls}, "several are asked at once"
    assert store.is_complete(root)


@pytest.mark.parametrize("donor", ["embedded"], indirect=True)  # liars are alike whatever the last one serves
def test_a_sender_that_drips_its_headers_is_left(server: LoopbackServer, root: Cid) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as peer:
            peer.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
            while True:
                peer.sendall(b"a")
                time.sleep(0.05)

    threading.Thread(target=drip, daemon=True).start()
    bad = f"http://127.0.0.1:{listener.getsockname()[1]}"
    began = time.monotonic()
    report = fetch_dag(MemoryStore(), root, [bad, server.url], limits=QUICK)
    assert time.monotonic() - began < 20, "it would drip for ever"
    assert report.provider == server.url
    assert [url for url, _ in report.rejected] == [bad]
    listener.close()


def test_limits_hold(server: LoopbackServer, root: Cid) -> None:
    with pytest.raises(ContentUnavailable, match="limit of 1000000 bytes"):
        fetch_dag(MemoryStore(), root, [server.url], limits=FetchLimits(max_bytes=1_000_000))
    with pytest.raises(ContentUnavailable, match="too slow"):
        fetch_dag(MemoryStore(), root, [server.url], limits=FetchLimits(timeout_s=0.0))
    with pytest.raises(ContentUnavailable, match="no provider was named"):
        fetch_dag(MemoryStore(), root, [])


def test_single_blocks(server: LoopbackServer, root: Cid) -> None:
    store = MemoryStore()
    assert fetch_block(store, root, [server.url]).provider == server.url
    assert store.has(root)
    assert not store.is_complete(root)

    async def wrong(_: Request) -> Response:
        return Response(b"wrong", media_type=RAW)

    async def endless(_: Request) -> Response:
        return Response(bytes(3 * MIB), media_type=RAW)

    with provider(wrong) as first, provider(endless) as second, pytest.raises(ContentUnavailable) as refusal:
        fetch_block(store, Cid.of(b"right"), [first.url, second.url, server.url])
    for part in ("not what", "more than", "404"):
        assert part in str(refusal.value)


async def test_fetching_does_not_hold_the_loop(server: LoopbackServer, root: Cid) -> None:
    report = await fetch_dag_async(MemoryStore(), root, [server.url])
    assert report.provider == server.url


def test_a_slow_reader_costs_no_memory(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "s")
    data = tmp_path / "large"
    with data.open("wb") as file:
        for _ in range(256):
            file.write(os.urandom(MIB))
    root = store.add_path(data)
    with LoopbackServer(build_gateway(store)) as running:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        target = EmbeddedStore(tmp_path / "t")
        with (
            httpx.Client(trust_env=False) as client,
            client.stream("GET", f"{running.url}/ipfs/{root}?format=car") as slow,
        ):
            next(slow.iter_raw())
            fetch_dag(target, root, [running.url])
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 64 * 1024
    view = target.map_file(root)
    assert view is not None
    assert len(view) == 256 * MIB
    view.release()
    target.close()
    store.close()
