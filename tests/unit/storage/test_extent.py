"""How much a DAG is when it is written out, told without writing it."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.protocol.errors import DataError
from quorate.storage import dagpb, unixfs
from quorate.storage.base import BlockNotFound
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.extent import Extent, measure
from quorate_node.exchange import measure_content

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> EmbeddedStore:
    return EmbeddedStore(tmp_path / "store")


def join(store: EmbeddedStore, part: Cid, size: int, count: int, claimed: int | None = None) -> Cid:
    """A file that says the same part `count` times."""
    sizes = tuple([size if claimed is None else claimed] * count)
    message = unixfs.Message(unixfs.FILE, b"", sum(sizes), sizes)
    block = dagpb.encode([dagpb.Link(part, "", size)] * count, message.encode())
    cid = unixfs.DEFAULT.cid_of(block)
    store.put(cid, block)
    return cid


def test_what_is_small_is_what_it_looks_like(store: EmbeddedStore) -> None:
    assert measure(store, store.add_bytes(b"abc")) == Extent(1, 0, 3)
    assert measure(store, store.add_bytes(b"x" * (3 * MIB))) == Extent(1, 0, 3 * MIB)
    tree = store.add_tree({"a": b"abc", "b/c": b"de", "b/d": store.add_tree({})})
    assert measure(store, tree) == Extent(2, 4, 5)


def test_a_file_without_end_is_measured_at_once(store: EmbeddedStore) -> None:
    part, size = store.add_bytes(b"\0" * MIB), MIB
    for _ in range(4):
        part, size = join(store, part, size, 1000), size * 1000
    assert measure(store, part) == Extent(1, 0, MIB * 1000**4), "an exabyte"


def test_a_file_without_end_is_neither_mapped_nor_read(store: EmbeddedStore) -> None:
    part, size = store.add_bytes(b"\0" * 1000), 1000
    for _ in range(5):
        part, size = join(store, part, size, 1000), size * 1000
    assert store.map_file(part) is None
    with pytest.raises(DataError):
        store.read(part)


def test_empty_parts_without_end_are_not_read(store: EmbeddedStore) -> None:
    letter, part = store.add_bytes(b"a"), store.add_bytes(b"")
    for _ in range(6):
        part = join(store, part, 0, 1000)
    message = unixfs.Message(unixfs.FILE, b"", 1, (1, 0))
    block = dagpb.encode([dagpb.Link(letter, "", 1), dagpb.Link(part, "", 0)], message.encode())
    file = unixfs.DEFAULT.cid_of(block)
    store.put(file, block)
    assert measure(store, file) == Extent(1, 0, 1)
    assert store.read(file) == b"a"


def test_folders_without_end_are_measured_at_once(store: EmbeddedStore) -> None:
    folder = store.add_tree({"f": b"abc"})
    for _ in range(8):
        folder = store.add_tree({str(number): folder for number in range(50)})
    names = sum(50**level for level in range(1, 9)) + 50**8
    assert measure(store, folder) == Extent(50**8, names, 3 * 50**8)
    assert measure_content(store, folder) == (50**8, 3 * 50**8), "as peers are told, as soon as it is here"


def test_what_is_not_there_or_contradicts_itself_is_an_error(store: EmbeddedStore) -> None:
    part = store.add_bytes(b"abc")
    lying = join(store, part, 3, 2, claimed=5)
    with pytest.raises(DataError, match="is not as long as"):
        measure(store, lying)
    assert measure_content(store, lying) is None
    other = Cid.parse("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
    with pytest.raises(BlockNotFound):
        measure(store, join(store, other, 3, 2))
