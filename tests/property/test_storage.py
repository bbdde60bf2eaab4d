"""Whatever goes in comes out, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kubo import Kubo

from quorate.protocol.errors import DataError
from quorate.storage import codecs, dagpb, unixfs, varint
from quorate.storage.base import BlobStore
from quorate.storage.car import CarVerifier
from quorate.storage.cid import CBOR, DAG_CBOR, DAG_JSON, DAG_PB, RAW, Cid
from quorate.storage.dagpb import Link
from quorate.storage.kubo import KuboStore
from quorate.storage.memory import MemoryStore

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..")
)
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=300), min_size=1, max_size=12
)
CIDS = st.builds(Cid.of, st.binary(max_size=8), st.sampled_from([RAW, DAG_PB, DAG_CBOR, DAG_JSON, CBOR]))
LINKS = st.builds(Link, CIDS, NAMES, st.integers(0, 2**60))


@given(st.integers(0, 2**63 - 1), st.binary(max_size=4))
def test_numbers(value: int, rest: bytes) -> None:
    encoded = varint.encode(value)
    assert varint.decode(encoded + rest) == (value, len(encoded))


@given(CIDS)
def test_cids(cid: Cid) -> None:
    assert Cid.parse(str(cid)) == Cid.parse(cid.to_bytes()) == cid


@given(st.one_of(st.binary(max_size=80), st.text(max_size=80)))
def test_rubbish_is_refused_or_is_a_cid(value: bytes | str) -> None:
    try:
        cid = Cid.parse(value)
    except DataError:
        return
    assert Cid.parse(cid.to_bytes()) == cid


@given(st.lists(LINKS, max_size=8), st.binary(max_size=64))
def test_nodes(links: list[Link], data: bytes) -> None:
    node = dagpb.decode(dagpb.encode(links, data))
    assert (list(node.links), node.data) == (links, data)


@given(st.binary(max_size=200), st.sampled_from([RAW, DAG_PB, DAG_CBOR, DAG_JSON]))
def test_rubbish_blocks_are_a_data_error_at_worst(block: bytes, codec: int) -> None:
    cid = Cid.of(block, codec)
    try:
        codecs.links_of(cid, block)
        unixfs.Node.parse(cid, block)
    except DataError:
        pass


@given(TREES)
@settings(max_examples=60)
def test_trees_come_back(entries: dict[str, bytes]) -> None:
    check_tree(MemoryStore(), entries)


@pytest.mark.kubo
def test_trees_come_back_from_kubo(kubo: Kubo) -> None:
    daemon, others = KuboStore(kubo.url), MemoryStore()

    @given(TREES)
    @settings(max_examples=25)
    def check(entries: dict[str, bytes]) -> None:
        root = check_tree(daemon, entries)
        assert root == check_tree(others, entries)
        if root is not None:
            assert b"".join(daemon.export_car(root)) == b"".join(others.export_car(root))

    check()
    daemon.close()
    kubo.empty()


def check_tree(store: BlobStore, entries: dict[str, bytes]) -> Cid | None:
    try:
        root = store.add_tree(entries)
    except DataError:  # a name that is a file here and a directory there
        assert any(other.startswith(name + "/") for name in entries for other in entries)
        return None
    found = {path: store.read(entry.cid) for path, entry in store.walk(root) if entry.kind == "file"}
    assert found == entries
    assert store.add_tree(dict(reversed(entries.items()))) == root
    return root


@given(TREES, st.integers(1, 400), st.booleans())
@settings(max_examples=60)
def test_cars_come_back_however_they_are_cut(entries: dict[str, bytes], step: int, dups: bool) -> None:
    donor, store = MemoryStore(), MemoryStore()
    try:
        root = donor.add_tree(entries)
    except DataError:
        return
    car = b"".join(donor.export_car(root, dups=dups))
    pieces = [car[at : at + step] for at in range(0, len(car), step)]
    verifier = CarVerifier(root, dups=dups)
    for piece in pieces:
        for cid, block, _ in verifier.push(piece):
            store.put(cid, block)
    verifier.finish()
    assert store.is_complete(root)


@given(TREES, st.data())
@settings(max_examples=100)
def test_a_changed_car_brings_nothing_that_is_wrong(entries: dict[str, bytes], data: st.DataObject) -> None:
    donor = MemoryStore()
    try:
        root = donor.add_tree(entries)
    except DataError:
        return
    car = bytearray(b"".join(donor.export_car(root)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(car) - 1))
        car[at] = data.draw(st.integers(0, 255))
    verifier = CarVerifier(root)
    received = []
    try:
        received = verifier.push(bytes(car))
        verifier.finish()
    except DataError:
        return
    for cid, block, _ in received:
        assert donor.get(cid) == block


@given(st.lists(st.integers(1, 5), max_size=60), st.integers(2, 5))
def test_a_file_is_balanced_whatever_its_length(sizes: list[int], width: int) -> None:
    profile = unixfs.Profile("narrow", 1, True, 8, width, 1 << 18, True)
    store = MemoryStore()
    builder = unixfs.FileBuilder(profile)
    data = b""
    for number, size in enumerate(sizes):
        chunk = bytes([number]) * size
        data += chunk
        part, block = unixfs.leaf(chunk, profile)
        store.put(part.cid, block)
        for cid, node in builder.add(part):
            store.put(cid, node)
    for cid, node in builder.finish():
        store.put(cid, node)
    assert builder.root is not None
    assert store.read(builder.root.cid) == data
    assert b"".join(store.stream(builder.root.cid, len(data) // 2)) == data[len(data) // 2 :]
    assert builder.root.size == len(data)
