"""The gateway and the fetcher over real HTTP on loopback, with good, bad and broken providers."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from tests.integration.network import wait_for

from quorate.protocol.errors import Busy, ContentUnavailable, DataError
from quorate.storage import gateway, patience
from quorate.storage.base import BlobStore
from quorate.storage.car import CarVerifier
from quorate.storage.cid import Cid
from quorate.storage.fetch import fetch_dag
from quorate.storage.gateway import build_gateway
from quorate.storage.memory import MemoryStore
from quorate.storage.serve import LoopbackServer

MIB = 1 << 20
CAR = "application/vnd.ipld.car"
RAW = "application/vnd.ipld.raw"
Answer = Callable[[Request], Awaitable[Response]]


@pytest.fixture(scope="module")
def root(donor: BlobStore) -> Cid:
    same = b"same" * 1000
    return donor.add_tree({"big": os.urandom(3 * MIB + 1), "dir/one": same, "dir/two": same, "odd ü": b"odd"})


@pytest.fixture(scope="module")
def http(server: LoopbackServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"Accept": ""}, trust_env=False, timeout=60) as client:
        yield client


def cids_of(body: bytes, root: Cid, **options: object) -> list[Cid]:
    """CIDs of a CAR's blocks, each checked."""
    verifier = CarVerifier(root, **options)  # type: ignore[arg-type]
    received = verifier.push(body)
    verifier.finish()
    return [block.cid for block in received]


def test_a_block_with_all_its_headers(http: httpx.Client, donor: BlobStore, root: Cid) -> None:
    answer = http.get(f"/ipfs/{root}?format=raw")
    assert answer.status_code == 200
    assert answer.content == donor.get(root)
    headers = answer.headers
    assert headers["content-type"] == RAW
    assert headers["etag"] == f'"{root}.raw"'
    assert headers["cache-control"] == "public, max-age=29030400, immutable"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == f'attachment; filename="{root}.bin"'
    assert headers["x-ipfs-path"] == f"/ipfs/{root}"
    assert int(headers["content-length"]) == len(answer.content)
    assert "content-location" not in headers
    by_header = http.get(f"/ipfs/{root}", headers={"Accept": f"text/html;q=0.5, {RAW};q=0.9"})
    assert by_header.content == answer.content
    assert by_header.headers["content-location"] == f"/ipfs/{root}?format=raw"
    part = http.get(f"/ipfs/{root}?format=raw", headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, answer.content[2:6])
    assert http.get(f"/ipfs/{root}?format=raw", headers={"Range": "bytes=99999-"}).status_code == 416


def test_head_is_get_without_a_body(http: httpx.Client, root: Cid) -> None:
    for query in ("format=raw", "format=car"):
        head, get = http.head(f"/ipfs/{root}?{query}"), http.get(f"/ipfs/{root}?{query}")
        assert head.status_code == 200
        assert head.content == b""
        for name in ("etag", "content-type", "content-disposition", "x-ipfs-path"):
            assert head.headers[name] == get.headers[name]
        told = head.headers.get("content-length")
        assert told == (str(len(get.content)) if query == "format=raw" else None)
    assert http.head(f"/ipfs/{Cid.of(b'absent')}?format=raw").status_code == 404


def test_a_car_by_scope_duplicates_and_path(http: httpx.Client, donor: BlobStore, root: Cid) -> None:
    answer = http.get(f"/ipfs/{root}", headers={"Accept": f"{CAR}; order=dfs; dups=y"})
    assert answer.headers["content-type"] == f"{CAR}; version=1; order=dfs; dups=y"
    assert answer.headers["content-disposition"] == f'attachment; filename="{root}.car"'
    assert answer.headers["content-location"].startswith(f"/ipfs/{root}?format=car")
    assert answer.headers["etag"].startswith(f'W/"{root}.car.')
    twice = cids_of(answer.content, root, dups=True)
    once = cids_of(http.get(f"/ipfs/{root}?format=car").content, root)
    assert len(twice) == len(once) + 1
    assert cids_of(http.get(f"/ipfs/{root}?format=car&car-dups=y").content, root, dups=True) == twice
    assert cids_of(http.get(f"/ipfs/{root}?format=car&dag-scope=block").content, root, scope="block") == [root]
    assert cids_of(http.get(f"/ipfs/{root}?format=car&dag-scope=entity").content, root, scope="entity") == [root]
    store = MemoryStore()
    body = http.get(f"/ipfs/{root}/dir/one?format=car").content
    assert body.count(donor.get(root)) == 1
    assert body.endswith(b"same" * 1000)
    assert len(cids_of(body, root, path=["dir", "one"])) == 3
    with pytest.raises(DataError, match="had to come"):
        store.import_car([body], root)  # the path's blocks alone are not the whole
    etags = {
        http.head(f"/ipfs/{root}{rest}").headers["etag"]
        for rest in (
            "?format=car",
            "?format=car&dag-scope=block",
            "?format=car&car-dups=y",
            "/dir?format=car",
            "?format=car&entity-bytes=0:1",
            "?format=car&entity-bytes=0:2",
            "?format=raw",
        )
    }
    assert len(etags) == 7


@pytest.mark.parametrize(
    ("span", "leaves"), [("0:*", 4), ("0:0", 1), ("-1:*", 1), (f"{MIB}:{2 * MIB}", 2), ("5:-2", 3)]
)
def test_bytes_of_an_entity(http: httpx.Client, donor: BlobStore, root: Cid, span: str, leaves: int) -> None:
    big = donor.resolve(root, "big")
    body = http.get(f"/ipfs/{root}/big?format=car&entity-bytes={span}").content
    direct = http.get(f"/ipfs/{big}?format=car&entity-bytes={span}").content
    chunk = [block for block in donor.export_car(big) if len(block) in (MIB, 1)]
    assert sum(direct.count(block) for block in chunk if len(block) == MIB) == min(leaves, 3) - (span == "-1:*")
    assert len(body) > len(direct)


@pytest.mark.parametrize(
    ("target", "accept", "status", "reason"),
    [
        ("/ipfs/rubbish?format=raw", "", 400, "not a CID"),
        ("/ipfs/bafkrgihb2lgd?format=raw", "", 400, "CID"),
        ("/ipfs/ROOT", "", 400, "say what you want"),
        ("/ipfs/ROOT", "*/*", 400, "say what you want"),
        ("/ipfs/ROOT", "text/html", 406, "only"),
        ("/ipfs/ROOT?format=tar", "", 406, "raw or car"),
        ("/ipfs/ROOT?format=xyz", "", 400, "raw or car"),
        ("/ipfs/ROOT?format=car&dag-scope=some", "", 400, "dag-scope"),
        ("/ipfs/ROOT?format=car&entity-bytes=1", "", 400, "entity-bytes"),
        ("/ipfs/ROOT?format=car&entity-bytes=5:1", "", 400, "ends before"),
        ("/ipfs/ROOT?format=car&car-version=2", "", 400, "version"),
        ("/ipfs/ROOT?format=car&car-order=bfs", "", 400, "order"),
        ("/ipfs/ROOT?format=car&car-dups=maybe", "", 400, "dups"),
        ("/ipfs/ROOT/nothing?format=car", "", 404, "nothing"),
        ("/ipfs/ROOT/big/below?format=car", "", 404, "below"),
        ("/ipfs/ABSENT?format=car", "", 404, "not here"),
        ("/ipfs/BLAKE?format=raw", "", 400, "sha2-256"),
        ("/ipns/ROOT?format=raw", "", 404, ""),
    ],
)
def test_refusals_give_their_reason(
    http: httpx.Client, root: Cid, target: str, accept: str, status: int, reason: str
) -> None:
    blake = Cid(1, 0x55, bytes.fromhex("a0e40220") + bytes(32))
    target = target.replace("ROOT", str(root)).replace("ABSENT", str(Cid.of(b"?"))).replace("BLAKE", str(blake))
    answer = http.get(target, headers={"Accept": accept})
    assert answer.status_code == status
    assert reason in answer.text


def test_conditional_and_cached_requests(http: httpx.Client, root: Cid) -> None:
    etag = http.head(f"/ipfs/{root}?format=car").headers["etag"]
    for tag in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
        answer = http.get(f"/ipfs/{root}?format=car", headers={"If-None-Match": tag})
        assert (answer.status_code, answer.content) == (304, b"")
    assert http.get(f"/ipfs/{root}?format=raw", headers={"If-None-Match": etag}).status_code == 200
    absent = Cid.of(b"absent")
    assert http.get(f"/ipfs/{absent}?format=raw", headers={"Cache-Control": "only-if-cached"}).status_code == 412
    assert http.get(f"/ipfs/{absent}?format=raw", headers={"If-None-Match": "*"}).status_code == 404


def test_the_probe_and_odd_names(http: httpx.Client, root: Cid) -> None:
    assert http.get("/ipfs/bafkqaaa?format=raw").content == b""
    assert http.head("/ipfs/bafkqaaa?format=raw").status_code == 200
    assert cids_of(http.get("/ipfs/bafkqaaa?format=car").content, Cid.parse("bafkqaaa")) == []
    assert http.get(f"/ipfs/{root}/odd%20%C3%BC?format=car").content.endswith(b"odd")
    named = http.get(f"/ipfs/{root}?format=raw", params={"format": "raw", "filename": 'ü"\r\n.bin'})
    assert named.headers["content-disposition"].startswith('attachment; filename="____.bin"; filename*=')


def test_a_missing_child_cuts_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full, part = MemoryStore(), MemoryStore()
    root = full.add_tree({"a": os.urandom(2 * MIB), "b": b"b"})
    part.put(root, full.get(root))
    with LoopbackServer(build_gateway(part)) as running, httpx.Client(trust_env=False) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(f"{running.url}/ipfs/{root}?format=car")
        (told,) = capsys.readouterr().err.splitlines()  # and no traceback
        assert "answer cut off" in told
        assert "the store does not have baf" in told
        with pytest.raises(ContentUnavailable, match="RemoteProtocolError"):
            fetch_dag(MemoryStore(), root, [running.url])


def test_readers_that_do_not_read_are_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "MAX_STREAMS", 2)
    monkeypatch.setattr(patience, "STALL_S", 1.5)  # both have to be here before the first is sent away
    store = MemoryStore()
    url = f"/ipfs/{store.add_bytes(os.urandom(32 * MIB))}?format=car"
    with (
        LoopbackServer(build_gateway(store)) as running,
        contextlib.ExitStack() as stack,
        httpx.Client(trust_env=False, base_url=running.url, timeout=60) as client,
    ):
        for _ in range(2):
            lazy = stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            lazy.sendall(f"GET {url} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
            lazy.recv(16)
        assert client.get(f"{url}&dag-scope=block").status_code == 503
        assert wait_for(lambda: client.get(f"{url}&dag-scope=block").status_code == 200, 60)


def test_a_taken_port_says_what_to_do(server: LoopbackServer) -> None:
    with pytest.raises(Busy, match="choose another"):
        LoopbackServer(build_gateway(MemoryStore()), server.port)


def test_a_server_frees_its_port_and_leaves_no_thread() -> None:
    before = threading.active_count()
    with LoopbackServer(build_gateway(MemoryStore())) as running:
        port = running.port
        assert httpx.get(f"{running.url}/ipfs/bafkqaaa?format=raw", trust_env=False).status_code == 200
    running.stop()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    with LoopbackServer(build_gateway(MemoryStore()), port) as again:
        assert again.url.endswith(str(port))
    assert threading.active_count() <= before + 8  # the gateways' idle readers


async def test_a_server_in_a_coroutine() -> None:
    async with LoopbackServer(build_gateway(MemoryStore())) as running, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{running.url}/ipfs/bafkqaaa?format=raw")
        assert answer.status_code == 200
