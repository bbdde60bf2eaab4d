"""The incremental verifier against senders of every kind."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from quorate.protocol.errors import DataError
from quorate.storage import car, codecs, dagpb, unixfs, varint
from quorate.storage.base import MAX_BLOCK_BYTES
from quorate.storage.car import CarVerifier, Received, encode_header, encode_section
from quorate.storage.cid import DAG_CBOR, DAG_JSON, DAG_PB, RAW, Cid
from quorate.storage.dagpb import Link
from quorate.storage.memory import MemoryStore
from quorate.storage.traversal import MAX_WAITING_LINKS, ByteRange, Traversal

MIB = 1 << 20


def dag() -> tuple[MemoryStore, Cid]:
    store = MemoryStore()
    shared = os.urandom(MIB)
    return store, store.add_tree({"a": shared + b"tail", "b/c": shared, "b/d": b"small", "e": b"small"})


def sections(car: bytes) -> list[bytes]:
    """Header and sections, each with its length."""
    at, found = 0, list[bytes]()
    while at < len(car):
        length, body = varint.decode(car, at)
        found.append(car[at : body + length])
        at = body + length
    return found


def verify(pieces: list[bytes], root: Cid, dups: bool | None = False) -> list[Received]:
    verifier = CarVerifier(root, dups=dups)
    received = [block for piece in pieces for block in verifier.push(piece)]
    verifier.finish()
    assert verifier.is_complete
    return received


@pytest.mark.parametrize("step", [1000, 65536, 1 << 30])
@pytest.mark.parametrize("dups", [False, True])
def test_a_good_car_passes_however_it_is_cut(step: int, dups: bool) -> None:
    store, root = dag()
    car = b"".join(store.export_car(root, dups=dups))
    received = verify([car[at : at + step] for at in range(0, len(car), step)], root, dups)
    names = [block.cid for block in received]
    assert names[0] == root
    assert (len(names) != len(set(names))) == dups
    assert {block.cid.multihash for block in received} == set(store._blocks)


def test_every_cut_is_noticed() -> None:
    store = MemoryStore()
    root = store.add_tree({"a": b"1", "b/c": b"2"})
    car = b"".join(store.export_car(root))
    for end in range(len(car)):
        with pytest.raises(DataError, match=r"tail|CAR"):
            verify([car[:end]], root)


def test_every_changed_byte_is_noticed() -> None:
    store = MemoryStore()
    root = store.add_tree({"a": b"1", "b/c": b"2"})
    parts = sections(b"".join(store.export_car(root)))
    head, body = parts[0], b"".join(parts[1:])
    for at in range(len(body)):
        changed = bytearray(body)
        changed[at] ^= 1
        try:
            received = verify([head, bytes(changed)], root)
        except DataError:
            continue
        for block in received:  # a CID may be spelled as version 0 or with another length: never other content
            block.cid.verify(block.block)
            assert store.get(block.cid) == block.block


def test_reordered_foreign_repeated_and_trailing_blocks_are_refused() -> None:
    store, root = dag()
    head, *blocks = sections(b"".join(store.export_car(root)))
    foreign = encode_section(Cid.of(b"not asked for"), b"not asked for")
    for pieces in (
        [head, *blocks[:1], *reversed(blocks[1:])],
        [head, *blocks[1:]],
        [head, foreign, *blocks],
        [head, blocks[0], foreign, *blocks[1:]],
        [head, *blocks, foreign],
        [head, blocks[0], *blocks],
        [head, *blocks, blocks[-1]],
    ):
        with pytest.raises(DataError, match="had to come"):
            verify(pieces, root)
    assert len(verify([head, blocks[0], *blocks, blocks[-1]], root, dups=None)) == len(blocks)


def test_it_ends_at_the_first_bad_hash() -> None:
    data = os.urandom(3 * MIB)
    store = MemoryStore()
    root = store.add_bytes(data)
    head, *blocks = sections(b"".join(store.export_car(root)))
    bad = blocks[1][:-1] + bytes([blocks[1][-1] ^ 1])
    verifier = CarVerifier(root)
    assert [block.cid for block in verifier.push(head + blocks[0])] == [root]
    with pytest.raises(DataError, match="not what"):
        verifier.push(bad)
    assert verifier.received_bytes < 2 * MIB


def test_sizes_are_bounded() -> None:
    big = bytes(MAX_BLOCK_BYTES + 1)
    with pytest.raises(DataError, match="at most"):
        verify([encode_header(Cid.of(big)), encode_section(Cid.of(big), big)], Cid.of(big))
    claims = varint.encode(1 << 40)
    for pieces in ([claims], [encode_header(Cid.of(b"")), claims], [b"\0"], [b"\xff" * 10]):
        with pytest.raises(DataError):
            verify(pieces, Cid.of(b""))
    verifier = CarVerifier(Cid.of(b"x"), max_bytes=10)
    with pytest.raises(DataError, match="limit of 10"):
        verifier.push(bytes(11))


def test_rubbish_is_no_car() -> None:
    for body in (b"<html>not here</html>", b"\xa1\x67version\x02", b"\xa1\x67version\x01"[:4], b"\xff\xff"):
        with pytest.raises(DataError):
            verify([varint.encode(len(body)) + body], Cid.of(b""))
    with pytest.raises(DataError, match="version 2"):
        verify([bytes.fromhex("0aa16776657273696f6e02")], Cid.of(b""))


def test_a_bomb_of_links_is_refused() -> None:
    leaf = Cid.of(b"leaf")
    verifier_error = None
    wide = dagpb.encode([Link(leaf)] * 40_000, unixfs.Message(unixfs.DIRECTORY).encode())
    assert len(wide) <= MAX_BLOCK_BYTES
    walk_root = Cid.of(wide, DAG_PB)
    walk = Traversal(walk_root, dups=True)
    walk.accept(wide)
    for _ in range(MAX_WAITING_LINKS // 40_000 + 1):
        try:
            walk._push(walk._steps[-1:] * 40_000, walk._steps[-1])
        except DataError as error:
            verifier_error = error
    assert "bomb" in str(verifier_error)


def test_links_of_every_codec_are_followed() -> None:
    leaf = Cid.of(b"leaf")
    cbor = b"\xa1\x61x\x82\xd8\x2a\x58\x25\x00" + leaf.to_bytes() + b"\xf6"
    json = b'{"x":[{"/":"%s"}],"b":{"/":{"bytes":"AA"}}}' % str(leaf).encode()
    for codec, block in ((DAG_CBOR, cbor), (DAG_JSON, json)):
        root = Cid.of(block, codec)
        assert len(verify([encode_header(root), encode_section(root, block), encode_section(leaf, b"leaf")], root)) == 2
        with pytest.raises(DataError, match="tail"):
            verify([encode_header(root), encode_section(root, block)], root)
    for codec, block in (
        (DAG_CBOR, b"\xd8\x2b\x00"),
        (DAG_CBOR, b"\x9f"),
        (DAG_CBOR, b"\x81" * 300),
        (DAG_JSON, b"{"),
        (0x78, b""),
    ):
        root = Cid.of(block, codec)
        with pytest.raises(DataError):
            verify([encode_header(root), encode_section(root, block)], root)


def test_identity_blocks_are_not_sent_and_do_no_harm() -> None:
    store = MemoryStore()
    inline = Cid.parse(b"\x01\x55\x00\x02hi")
    root = store.add_tree({"i": inline, "r": b"raw"})
    head, *blocks = sections(b"".join(store.export_car(root)))
    assert len(blocks) == 2
    assert len(verify([head, *blocks], root)) == 2
    assert len(verify([head, blocks[0], encode_section(inline, b"hi"), blocks[1]], root)) == 2


@pytest.mark.parametrize(
    ("first", "last", "leaves"),
    [
        (0, None, 5),
        (0, 0, 1),
        (MIB - 1, MIB, 2),
        (-1, None, 1),
        (-1, -1, 1),
        (9 * MIB, None, 0),
        (2 * MIB, 3 * MIB - 1, 1),
        (0, 99 * MIB, 5),
    ],
)
def test_a_byte_range_takes_only_its_blocks(first: int, last: int | None, leaves: int) -> None:
    store = MemoryStore()
    root = store.add_bytes(os.urandom(4 * MIB + 1))
    walk = Traversal(root, byte_range=ByteRange(first, last))
    visited = []
    while (wanted := walk.wanted) is not None:
        visited.append(wanted)
        walk.accept(store.get(wanted))
    assert visited[0] == root
    assert sum(cid.codec == RAW for cid in visited) == leaves


def test_an_entity_is_a_listing_or_a_file() -> None:
    store = MemoryStore()
    flat = store.add_tree({"a": b"1", "b/c": os.urandom(2 * MIB)})
    large = store.add_tree({f"{number:09}": b"same" for number in range(6000)})
    for root, path, at_least in (
        (flat, "", 1),
        (flat, "b", 2),
        (flat, "b/c", 5),
        (large, "", 200),
        (large, "000000077", 3),
    ):
        walk = Traversal(root, path=path.split("/") if path else (), scope="entity")
        blocks = []
        while (wanted := walk.wanted) is not None:
            blocks.append(wanted)
            walk.accept(store.get(wanted))
        if root == flat:
            assert len(blocks) == at_least
        else:
            assert at_least <= len(blocks) <= at_least * 3


def _encode_roots(cids: Sequence[Cid]) -> bytes:
    links = b"".join(b"\xd8\x2a\x58\x25\0" + cid.to_bytes() for cid in cids)
    body = b"\xa2\x65roots\x99" + len(cids).to_bytes(2, "big") + links + b"\x67version\x01"
    return varint.encode(len(body)) + body


def test_a_root_that_a_car_names_often_is_one_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    block = b"one"
    cid, store = Cid.of(block), MemoryStore()
    looked, is_complete = [], store.is_complete
    monkeypatch.setattr(store, "is_complete", lambda root: (looked.append(root), is_complete(root))[1])
    report = store.import_any_car([_encode_roots([cid] * 20_000), encode_section(cid, block)])
    assert (report.roots, looked) == ({cid: True}, [cid])
    many = [Cid.of(b"%d" % number) for number in range(car.MAX_ROOTS + 1)]
    assert len(store.import_any_car([_encode_roots(many[1:])]).roots) == car.MAX_ROOTS
    with pytest.raises(DataError, match="1001 roots"):
        store.import_any_car([_encode_roots(many)])


def test_a_block_of_very_many_items_is_refused_before_all_are_read() -> None:
    def array(count: int) -> bytes:
        return b"\x9a" + count.to_bytes(4, "big") + b"\x01" * count

    anchor = Cid(1, DAG_CBOR, b"\0\0")
    fine, many = array(codecs._MAX_ITEMS - 1), array(codecs._MAX_ITEMS)
    assert codecs.links_of(anchor, fine) == []
    assert codecs.find_link(anchor, fine, ["7"]) == (None, 1)
    with pytest.raises(DataError, match="more than 100000 items"):
        codecs.links_of(anchor, many)
    with pytest.raises(DataError, match="more than 100000 items"):
        codecs.find_link(anchor, array(2_000_000), ["1999999"])
    with pytest.raises(DataError, match="more than 100000 items"):
        codecs.find_link(anchor, b"\x82" + many + b"\x01", ["1"])
    pairs = b"\xba" + (200_000).to_bytes(4, "big") + b"\x61a\x01" * 200_000
    with pytest.raises(DataError, match="more than 100000 items"):
        codecs.find_link(anchor, pairs, ["b"])


def test_a_car_may_have_any_order_and_many_roots() -> None:
    blocks = [b"%d" % number for number in range(200)]
    cids = [Cid.of(block) for block in blocks]
    links = b"".join(b"\xd8\x2a\x58\x25\0" + cid.to_bytes() for cid in cids)
    body = b"\xa2\x65roots\x98\xc8" + links + b"\x67version\x01"
    head = varint.encode(len(body)) + body
    packed = [encode_section(cid, block) for cid, block in zip(cids, blocks, strict=True)]
    inline = Cid.parse("bafkqaaa")
    car = head + b"".join([*reversed(packed), encode_section(inline, b""), packed[3]])
    store = MemoryStore()
    report = store.import_any_car([car[:9], car[9:5000], car[5000:]])
    assert list(report.roots) == cids
    assert all(report.roots.values())
    assert (report.blocks, report.new_blocks, report.received_bytes) == (201, 200, len(car))
    foreign = Cid(1, 0x55, bytes.fromhex("a0e40220") + bytes(32))
    for bad, reason in (
        (car[:-1], "tail is missing"),
        (head + encode_section(cids[0], b"other"), "not what"),
        (head + encode_section(foreign, b"x"), "only sha2-256"),
        (head + encode_section(cids[0], bytes((2 << 20) + 1)), "at most"),
        (varint.encode(1 << 21) + bytes(100), "refused"),
        (b"\x0a\xa1\x67version\x02", "version 2"),
    ):
        with pytest.raises(DataError, match=reason):
            MemoryStore().import_any_car([bad])
    with pytest.raises(DataError, match="limit of 100"):
        MemoryStore().import_any_car([car], max_bytes=100)
