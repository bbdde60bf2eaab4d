"""What the specifications of gateways ask of blocks and CARs, each with its status, headers and exact blocks."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from quorate.storage import dagpb, gateway, unixfs, varint
from quorate.storage.adding import add_stream
from quorate.storage.base import BlobStore
from quorate.storage.cid import DAG_CBOR, DAG_JSON, DAG_PB, RAW, Cid
from quorate.storage.dagpb import Link
from quorate.storage.denylist import DenyList
from quorate.storage.directories import build_directory
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import build_gateway
from quorate.storage.kubo import KuboStore
from quorate.storage.serve import LoopbackServer
from quorate.storage.unixfs import DEFAULT, Part, Profile

CAR = "application/vnd.ipld.car"
RAW_TYPE = "application/vnd.ipld.raw"
OLD = unixfs.PROFILES["unixfs-v0-2015"]
TEXT = b"hello application/vnd.ipld.car\n"


@dataclass(frozen=True)
class Content:
    """Roots, and the leaves of `many`: a file of five, the last of which has two bytes."""

    directory: Cid
    many: Cid
    leaves: tuple[Cid, ...]
    ascii: Cid
    subdir: Cid
    shards: Cid
    document: Cid
    json: Cid
    holed: Cid
    twice: Cid


def put_file(store: EmbeddedStore | KuboStore, data: bytes, profile: Profile) -> tuple[Part, list[Cid]]:
    file = io.BytesIO(data)
    with store.session() as session:
        part = add_stream(session, lambda size: file.read(min(size, 100)), profile)  # as slowly as a pipe may be
    node = unixfs.Node.parse(part.cid, store.get(part.cid))
    return part, [link.cid for link in node.links]


def put_directory(store: BlobStore, children: dict[str, Part | Cid], profile: Profile = DEFAULT) -> Part:
    links = [Link(child, name, 1) if isinstance(child, Cid) else child.link(name) for name, child in children.items()]
    root: Part | None = None
    for part, block in build_directory(links, profile):
        store.put(part.cid, block)
        root = part
    assert root is not None
    return root


@pytest.fixture(scope="module")
def content(donor: EmbeddedStore | KuboStore, tmp_path_factory: pytest.TempPathFactory) -> Content:
    noise = os.urandom(1026)
    many, leaves = put_file(donor, noise, replace(DEFAULT, chunk=256))
    text = Part(donor.put_raw(TEXT), len(TEXT), len(TEXT))
    subdir = put_directory(donor, {"ascii.txt": text, "multiblock.txt": many})
    top = put_directory(donor, {"hello.txt": text, "subdir": subdir})
    shards = put_directory(
        donor, {f"{i}.txt": many if i == 685 else text for i in range(1000)}, replace(DEFAULT, hamt_threshold=10)
    )
    document = b"\xa1\x65files\xa1\x66single\xd8\x2a\x58\x25\0" + text.cid.to_bytes()
    cbor = Cid.of(document, DAG_CBOR)
    donor.put(cbor, document)
    written = b'{"list":[1,{"/":"%s"}]}' % str(cbor).encode()
    json = Cid.of(written, DAG_JSON)
    donor.put(json, written)
    three = os.urandom(3072)
    with closing(EmbeddedStore(tmp_path_factory.mktemp("whole"))) as whole:
        holed, parts = put_file(whole, three, replace(OLD, chunk=1024))
        for cid in (holed.cid, parts[0], parts[2]):
            donor.put(cid, whole.get(cid))
    twice = put_directory(donor, {"ascii-copy.txt": text, "ascii.txt": text, "multiblock.txt": many})
    return Content(top.cid, many.cid, tuple(leaves), text.cid, subdir.cid, shards.cid, cbor, json, holed.cid, twice.cid)


@pytest.fixture(scope="module")
def http(donor: BlobStore, content: Content) -> Iterator[httpx.Client]:
    with (
        LoopbackServer(build_gateway(donor)) as running,
        httpx.Client(base_url=running.url, headers={"Accept": ""}, trust_env=False, timeout=60) as client,
    ):
        yield client


def blocks_of(body: bytes) -> list[Cid]:
    """CIDs of a CAR's blocks, whatever they are."""
    size, used = varint.decode(body)
    at, found = used + size, list[Cid]()
    while at < len(body):
        size, at = varint.decode(body, at)
        cid, start = Cid.read(body, at)
        cid.verify(body[start : at + size])
        found.append(cid)
        at += size
    return found


def ask(http: httpx.Client, path: str, **query: str) -> list[Cid]:
    """A CAR's blocks, asked for by URL and by header, which must be alike; with the headers that each CAR has."""
    by_url = http.get(path, params={"format": "car"} | query)
    by_header = http.get(path, params=query, headers={"Accept": CAR})
    for answer in (by_url, by_header):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(CAR)
        assert "order=dfs" in answer.headers["content-type"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["accept-ranges"] == "none"
        assert answer.headers["content-disposition"].endswith('.car"')
        assert answer.headers["content-disposition"].startswith('attachment; filename="')
    assert by_url.content == by_header.content
    assert ("content-location" in by_header.headers, "content-location" in by_url.headers) == (True, False)
    return blocks_of(by_url.content)


def test_paths_bring_the_blocks_that_prove_them(http: httpx.Client, content: Content) -> None:
    top, sub, text = content.directory, content.subdir, content.ascii
    assert ask(http, f"/ipfs/{top}/subdir/ascii.txt") == [top, sub, text]
    assert ask(http, f"/ipfs/{top}/subdir", **{"dag-scope": "block"}) == [top, sub]
    assert ask(http, f"/ipfs/{top}/subdir/ascii.txt", **{"dag-scope": "block"}) == [top, sub, text]
    assert ask(http, f"/ipfs/{top}", **{"dag-scope": "entity"}) == [top]
    whole = [content.many, *content.leaves]
    for scope in ("entity", "all"):
        assert ask(http, f"/ipfs/{top}/subdir/multiblock.txt", **{"dag-scope": scope}) == [top, sub, *whole]
    assert ask(http, f"/ipfs/{top}/subdir", **{"dag-scope": "all"}) == [top, sub, text, *whole]
    missing = http.get(f"/ipfs/{top}/subdir/no-such", params={"format": "car"})
    assert (missing.status_code, missing.headers["x-content-type-options"]) == (404, "nosniff")


def test_sharded_directories_bring_only_the_shards_on_the_way(http: httpx.Client, content: Content) -> None:
    root = content.shards
    every = ask(http, f"/ipfs/{root}", **{"dag-scope": "entity"})
    assert every[0] == root
    assert len(every) > 200
    assert content.ascii not in every
    assert ask(http, f"/ipfs/{root}", **{"dag-scope": "entity", "entity-bytes": "0:*"}) == every
    found = ask(http, f"/ipfs/{root}/685.txt")
    assert found[0] == root
    assert found[-6:] == [content.many, *content.leaves]
    assert 1 <= len(found[1:-6]) <= 3
    assert set(found[1:-6]) < set(every)
    assert ask(http, f"/ipfs/{root}/685.txt", **{"dag-scope": "block"}) == found[:-5]


def test_paths_go_through_documents(http: httpx.Client, content: Content) -> None:
    document, text = content.document, content.ascii
    assert ask(http, f"/ipfs/{document}/files/single") == [document, text]
    assert ask(http, f"/ipfs/{document}", **{"dag-scope": "entity"}) == [document]
    assert ask(http, f"/ipfs/{document}") == [document, text]
    assert ask(http, f"/ipfs/{content.json}/list/1/files/single") == [content.json, document, text]
    assert http.get(f"/ipfs/{document}/files/single?format=raw").content == TEXT
    assert ask(http, f"/ipfs/{document}/files") == [document, text]  # a value inside: the block shows it
    assert ask(http, f"/ipfs/{document}/files", **{"dag-scope": "entity"}) == [document]
    assert http.get(f"/ipfs/{content.json}/list/0?format=raw").content.startswith(b'{"list":[1,')
    for path in ("files/no-such", "files/single/below", "0"):
        assert http.get(f"/ipfs/{document}/{path}?format=car").status_code == 404
    for path in ("list/7", "list/x", "list/0/1", "no"):
        assert http.get(f"/ipfs/{content.json}/{path}?format=raw").status_code == 404


@pytest.mark.parametrize(
    ("span", "first", "last"),
    [
        ("0:*", 0, 5),
        ("512:*", 2, 5),
        ("512:1023", 2, 4),
        ("512:-256", 2, 4),
        ("-5:*", 3, 5),
        ("-9999:*", 0, 5),
        ("-9999:-3", 0, 4),
        ("0:0", 0, 1),
        ("1000:99999", 3, 5),
        ("1026:*", 0, 0),  # wholly outside: only the root, whose size tells why
        ("99999:99999999", 0, 0),
        ("-3:2", 0, 0),
    ],
)
def test_bytes_of_a_file_bring_only_their_leaves(
    http: httpx.Client, content: Content, span: str, first: int, last: int
) -> None:
    found = ask(http, f"/ipfs/{content.many}", **{"dag-scope": "entity", "entity-bytes": span})
    assert found == [content.many, *content.leaves[first:last]]


def test_bytes_are_served_although_others_are_missing(http: httpx.Client, donor: BlobStore, content: Content) -> None:
    parts = [link.cid for link in dagpb.decode(donor.get(content.holed)).links]
    assert not donor.has(parts[1])
    asked = {"dag-scope": "entity"}
    assert ask(http, f"/ipfs/{content.holed}", **asked, **{"entity-bytes": "0:1000"}) == [content.holed, parts[0]]
    assert ask(http, f"/ipfs/{content.holed}", **asked, **{"entity-bytes": "2200:*"}) == [content.holed, parts[2]]


def test_order_and_duplicates_are_as_asked(http: httpx.Client, content: Content) -> None:
    once = [content.twice, content.ascii, content.many, *content.leaves]
    twice = [content.twice, content.ascii, *once[1:]]
    for accept, query, kind, blocks in (
        ("version=1; order=dfs; dups=y", "", "dups=y", twice),
        ("version=1; order=dfs; dups=n", "", "dups=n", once),
        ("version=1; order=unk", "", "order=dfs", once),
        ("version=1; order=dfs; dups=y", "?format=car", "dups=y", twice),
        ("version=1; dups=n", "?format=car&car-dups=y", "dups=y", twice),
    ):
        answer = http.get(f"/ipfs/{content.twice}{query}", headers={"Accept": f"{CAR}; {accept}"})
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
        assert blocks_of(answer.content) == blocks
    inline = "bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa"
    answer = http.get(f"/ipfs/{inline}", headers={"Accept": f"{CAR}; dups=y"})
    assert answer.status_code == 200
    assert "dups=y" in answer.headers["content-type"]
    assert blocks_of(answer.content) == []
    assert http.get("/ipfs/bafkqaaa?format=car").content == b"\x19\xa2eroots\x81\xd8*E\0\1U\0\0gversion\1"
    assert http.get(f"/ipfs/{inline}?format=raw").content == Cid.parse(inline).inline


def test_the_format_in_the_url_goes_before_the_header(http: httpx.Client, content: Content) -> None:
    answer = http.get(f"/ipfs/{content.ascii}?format=raw", headers={"Accept": f"{CAR}; dups=y"})
    assert (answer.headers["content-type"], answer.content) == (RAW_TYPE, TEXT)
    answer = http.get(f"/ipfs/{content.ascii}", headers={"Accept": f"{CAR};q=0.1, {RAW_TYPE};q=0.2"})
    assert answer.headers["content-type"] == RAW_TYPE


def test_a_block_names_its_path_its_roots_and_its_name(http: httpx.Client, donor: BlobStore, content: Content) -> None:
    top, sub, text = content.directory, content.subdir, content.ascii
    answer = http.get(f"/ipfs/{top}/subdir/ascii.txt?format=raw")
    assert (answer.status_code, answer.content) == (200, TEXT)
    headers = answer.headers
    assert headers["content-type"] == RAW_TYPE
    assert int(headers["content-length"]) == len(TEXT)
    assert headers["content-disposition"] == f'attachment; filename="{text}.bin"'
    assert headers["x-ipfs-path"] == f"/ipfs/{top}/subdir/ascii.txt"
    assert headers["x-ipfs-roots"] == f"{top},{sub},{text}"
    assert headers["etag"] == http.get(f"/ipfs/{text}?format=raw").headers["etag"] == f'"{text}.raw"'
    assert headers["access-control-allow-origin"] == "*"
    directives = {part.strip().partition("=")[0] for part in headers["cache-control"].split(",")}
    assert directives == {"public", "max-age", "immutable"}
    named = http.get(f"/ipfs/{text}?filename=foobar.bin", headers={"Accept": RAW_TYPE})
    assert named.headers["content-disposition"] == 'attachment; filename="foobar.bin"'
    other = Cid(0, DAG_PB, content.holed.multihash)
    assert http.get(f"/ipfs/{other}?format=raw").headers["x-ipfs-path"] == f"/ipfs/{other}"
    again = http.get(f"/ipfs/{top}/subdir/ascii.txt?format=raw", headers={"If-None-Match": headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", headers["etag"])


def test_ranges_of_a_block(http: httpx.Client, content: Content) -> None:
    url, size = f"/ipfs/{content.ascii}?format=raw", len(TEXT)
    etag = f'"{content.ascii}.raw"'
    for asked, part, span in (
        ("bytes=6-16", TEXT[6:17], "6-16"),
        ("bytes=6-", TEXT[6:], f"6-{size - 1}"),
        ("bytes=-4", TEXT[-4:], f"{size - 4}-{size - 1}"),
        ("bytes=0-999", TEXT, f"0-{size - 1}"),
        ("bytes=999-, 0-0", TEXT[:1], "0-0"),
    ):
        answer = http.get(url, headers={"Range": asked, "If-Range": etag})
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers["content-range"] == f"bytes {span}/{size}"
        assert answer.headers["content-type"] == RAW_TYPE
    answer = http.get(url, headers={"Range": "bytes=6-16,0-4"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert "content-range" not in answer.headers
    for text in (f"Content-Range: bytes 6-16/{size}", f"Content-Range: bytes 0-4/{size}", f"Content-Type: {RAW_TYPE}"):
        assert text in answer.text
    assert b"\r\n\r\n" + TEXT[6:17] + b"\r\n--" in answer.content
    beyond = http.get(url, headers={"Range": "bytes=99-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    for whole in ({"Range": "lines=1-2"}, {"Range": "bytes=5-x"}, {"Range": "bytes=0-,0-"}, {"Range": "bytes=-"}):
        assert http.get(url, headers=whole).status_code == 200
    assert http.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).content == TEXT
    assert http.get(f"/ipfs/{content.ascii}?format=car", headers={"Range": "bytes=0-1"}).status_code == 200


def test_what_is_denied_is_gone_however_it_is_reached(donor: BlobStore, content: Content) -> None:
    denied = DenyList.of([Cid(1, RAW, content.subdir.multihash)])
    with (
        LoopbackServer(build_gateway(donor, denied)) as running,
        httpx.Client(base_url=running.url, trust_env=False) as client,
    ):
        for path in (f"{content.subdir}?format=raw", f"{content.directory}/subdir/ascii.txt?format=car"):
            answer = client.get(f"/ipfs/{path}")
            assert (answer.status_code, "does not serve" in answer.text) == (410, True)
        assert client.get(f"/ipfs/{content.ascii}?format=raw").status_code == 200


def test_one_stranger_gets_so_many_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "MAX_STREAMS_HOST", 1)
    store = EmbeddedStore(tmp_path)
    url = f"/ipfs/{store.add_bytes(os.urandom(24 << 20))}?format=car"
    stranger = httpx.HTTPTransport(local_address="127.0.0.2")
    with (
        LoopbackServer(build_gateway(store)) as running,
        httpx.Client(base_url=running.url, transport=stranger) as client,
        httpx.Client(base_url=running.url, trust_env=False) as other,
        client.stream("GET", url) as first,
    ):
        assert first.status_code == 200
        pieces = first.iter_raw()
        assert next(pieces)  # it is being sent
        refused = client.get(url)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert other.head(url).status_code == 200
        with other.stream("GET", url) as allowed:
            assert allowed.status_code == 200
    store.close()


def test_pages_of_other_origins_may_read(http: httpx.Client, content: Content) -> None:
    answer = http.options(f"/ipfs/{content.ascii}", headers={"Origin": "https://page.example"})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "GET" in answer.headers["access-control-allow-methods"]
    assert "Range" in answer.headers["access-control-allow-headers"]
    assert http.post(f"/ipfs/{content.ascii}").status_code == 405
