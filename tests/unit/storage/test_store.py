"""The port, for every store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quorate.protocol.errors import Busy, DataError
from quorate.storage import dagpb, unixfs
from quorate.storage.base import MAX_BLOCK_BYTES, BlobStore, BlockNotFound
from quorate.storage.cid import DAG_PB, RAW, Cid
from quorate.storage.dagpb import Link
from quorate.storage.memory import MemoryStore
from quorate.storage.traversal import PathNotFound

MIB = 1 << 20


def put_node(store: BlobStore, message: unixfs.Message, links: list[Link]) -> Cid:
    """A block as an attacker would make it."""
    block = dagpb.encode(links, message.encode())
    cid = Cid.of(block, DAG_PB)
    store.put(cid, block)
    return cid


def test_blocks_come_back_and_wrong_ones_never_enter(store: BlobStore) -> None:
    cid = store.put_raw(b"block")
    assert store.has(cid)
    assert store.get(cid) == b"block"
    assert store.size(cid) == 5
    assert store.get(Cid(1, DAG_PB, cid.multihash)) == b"block"
    with pytest.raises(DataError):
        store.put(cid, b"other")
    other = Cid.of(b"other")
    assert not store.has(other)
    assert store.size(other) is None
    with pytest.raises(BlockNotFound, match=str(other)):
        store.get(other)
    with pytest.raises(DataError, match="at most"):
        store.put_raw(bytes(MAX_BLOCK_BYTES + 1))


def test_other_hashes_are_refused_and_identity_needs_no_room(store: BlobStore) -> None:
    foreign = Cid(1, RAW, bytes.fromhex("a0e40220") + bytes(32))
    for use in (store.has, store.get, lambda cid: store.put(cid, b"")):
        with pytest.raises(DataError, match="sha2-256"):
            use(foreign)
    empty = Cid.parse("bafkqaaa")
    assert store.has(empty)
    assert store.get(empty) == b""
    assert store.is_complete(empty)
    assert store.read(Cid.parse(b"\x01\x55\x00\x02hi")) == b"hi"


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, MIB, MIB + 1, 5 * MIB + 3])
def test_files_of_any_size(store: BlobStore, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    cid = store.add_bytes(data)
    path = tmp_path / "file"
    path.write_bytes(data)
    assert store.add_path(path) == cid
    assert store.read(cid) == data
    assert b"".join(store.stream(cid, size // 3, size // 2)) == data[size // 3 : size // 2]
    assert b"".join(store.stream(cid, max(0, size - 2))) == data[-2:]
    assert store.is_complete(cid)
    out = tmp_path / "out"
    assert store.export(cid, out) == size
    assert out.read_bytes() == data
    view = store.map_file(cid)
    assert view is None or view == data


def test_the_old_profile_reads_back_too(store: BlobStore, tmp_path: Path) -> None:
    data = os.urandom(600_000)
    (tmp_path / "f").write_bytes(data)
    cid = store.add_path(tmp_path / "f", "unixfs-v0-2015")
    assert cid.version == 0
    assert store.read(cid) == data
    assert store.map_file(cid) is None
    with pytest.raises(DataError, match="unixfs-v0-2015"):
        store.add_path(tmp_path / "f", "newest")


def test_folders_and_trees_have_one_cid(store: BlobStore, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "a" / "deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "b.txt").write_bytes(b"b")
    (folder / "a" / "deep" / ".hidden").write_bytes(bytes(2 * MIB))
    root = store.add_path(folder)
    empty = next(entry.cid for entry in store.list(root) if entry.name == "empty")
    again = store.add_tree({"a/deep/.hidden": bytes(2 * MIB), "b.txt": folder / "b.txt", "empty": empty})
    assert again == root
    assert store.add_tree({"a": folder / "a", "empty": empty, "b.txt": b"b"}) == root
    assert [(path, entry.kind, entry.size) for path, entry in store.walk(root) if entry.kind == "file"] == [
        ("a/deep/.hidden", "file", 2 * MIB),
        ("b.txt", "file", 1),
    ]
    assert store.read(store.resolve(root, "a/deep/.hidden")) == bytes(2 * MIB)
    with pytest.raises(PathNotFound, match="nothing"):
        store.resolve(root, "a/nothing")
    with pytest.raises(PathNotFound):
        store.resolve(root, "b.txt/below")
    store.export(root, tmp_path / "out")
    assert store.add_path(tmp_path / "out") == root
    with pytest.raises(DataError, match="exists"):
        store.export(root, tmp_path / "out")
    with pytest.raises(DataError, match="no directory"):
        store.list(store.resolve(root, "b.txt"))
    with pytest.raises(DataError, match="no file"):
        store.read(root)


def test_a_large_directory_is_sharded_and_reads_like_any_other(store: BlobStore) -> None:
    names = [f"image-{number:05}.tif" for number in range(6000)]
    root = store.add_tree({name: name.encode() for name in names})
    assert unixfs.Node.parse(root, store.get(root)).message.kind == unixfs.SHARD
    assert [entry.name for entry in store.list(root)] == names
    assert store.read(store.resolve(root, names[4321])) == names[4321].encode()
    with pytest.raises(PathNotFound):
        store.resolve(root, "image-99999.tif")
    assert store.is_complete(root)


@pytest.mark.parametrize("name", ["", ".", "..", "a//b", "/a", "a/../b", "nul\0"])
def test_names_that_no_tree_may_hold(store: BlobStore, name: str) -> None:
    with pytest.raises(DataError, match="no name"):
        store.add_tree({name: b""})


def test_a_name_is_a_file_or_a_directory(store: BlobStore) -> None:
    with pytest.raises(DataError, match="at once"):
        store.add_tree({"a": b"", "a/b": b""})
    with pytest.raises(DataError, match="at once"):
        store.add_tree({"a/b": b"", "a": b""})


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc/passwd", "nul\0", "x" * 300])
def test_hostile_names_are_not_exported(store: BlobStore, tmp_path: Path, name: str) -> None:
    inner = store.put_raw(b"evil")
    root = put_node(store, unixfs.Message(unixfs.DIRECTORY), [Link(inner, name, 4)])
    with pytest.raises(DataError):
        store.export(root, tmp_path / "box" / "out")
    assert list((tmp_path / "box").iterdir()) == []


def test_doubled_names_and_symbolic_links_are_not_exported(store: BlobStore, tmp_path: Path) -> None:
    inner = store.put_raw(b"x")
    twice = put_node(store, unixfs.Message(unixfs.DIRECTORY), [Link(inner, "n", 1), Link(inner, "n", 1)])
    link = put_node(store, unixfs.Message(unixfs.SYMLINK, b"/etc/passwd"), [])
    holder = put_node(store, unixfs.Message(unixfs.DIRECTORY), [Link(link, "n", 1)])
    for cid, reason in ((twice, "twice"), (link, "link"), (holder, "link")):
        with pytest.raises(DataError, match=reason):
            store.export(cid, tmp_path / "out")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "l").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="symbolic link"):
        store.add_path(tmp_path / "in")
    with pytest.raises(DataError, match="cannot be read"):
        store.add_path(tmp_path / "absent")


def test_names_that_are_no_text_survive(store: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with open(os.fsencode(tmp_path / "in") + b"/\xff\xfe", "wb") as file:  # noqa: PTH123
        file.write(b"odd")
    root = store.add_path(tmp_path / "in")
    store.export(root, tmp_path / "out")
    assert os.listdir(os.fsencode(tmp_path / "out")) == [b"\xff\xfe"]  # noqa: PTH208


def test_a_petabyte_in_a_kilobyte_is_refused(store: BlobStore, tmp_path: Path) -> None:
    part, size = store.put_raw(bytes(MIB)), MIB
    for _ in range(5):
        message = unixfs.Message(unixfs.FILE, b"", size * 64, (size,) * 64)
        part, size = put_node(store, message, [Link(part, "", 1)] * 64), size * 64
    assert size == 1 << 50
    assert store.is_complete(part)
    with pytest.raises(DataError, match="limit"):
        store.read(part)
    with pytest.raises(DataError, match="exceeds"):
        store.export(part, tmp_path / "out")
    assert next(store.stream(part, size - 5)) == bytes(5)
    car = b"".join(store.export_car(part))
    assert len(car) < 2 * MIB
    assert MemoryStore().import_car([car], part).blocks == 6


def test_a_file_that_lies_about_its_parts_is_refused(store: BlobStore, tmp_path: Path) -> None:
    inner = store.put_raw(b"12345")
    for sizes, total in (((6,), 6), ((4,), 4), ((5,), 9), ((), 0)):
        cid = put_node(store, unixfs.Message(unixfs.FILE, b"", total, sizes), [Link(inner, "", 5)])
        with pytest.raises(DataError, match="malformed"):
            store.read(cid)
        with pytest.raises(DataError):
            store.export(cid, tmp_path / "out")


def test_deep_nesting_is_refused(store: BlobStore, tmp_path: Path) -> None:
    cid = store.put_raw(b"deep")
    for _ in range(300):
        cid = put_node(store, unixfs.Message(unixfs.DIRECTORY), [Link(cid, "d", 1)])
    with pytest.raises(DataError, match="bomb"):
        store.is_complete(cid)
    with pytest.raises(DataError, match="bomb"):
        store.export(cid, tmp_path / "out")
    with pytest.raises(DataError, match="bomb"):
        list(store.walk(cid))


def test_local_means_the_whole(store: BlobStore) -> None:
    donor = MemoryStore()
    root = donor.add_tree({"a/file": os.urandom(3 * MIB), "b": b"small"})
    car = b"".join(donor.export_car(root))
    assert not store.is_complete(root)
    with pytest.raises(DataError, match="tail"):
        store.import_car([car[: len(car) - 10]], root)
    assert store.has(root)
    assert not store.is_complete(root)
    report = store.import_car((car[at : at + 1000] for at in range(0, len(car), 1000)), root)
    assert report.received_bytes == len(car)
    assert 0 < report.new_blocks < report.blocks
    assert store.is_complete(root)
    assert b"".join(store.export_car(root)) == car


def test_a_file_that_changes_while_it_is_read_is_not_added(store: BlobStore, tmp_path: Path) -> None:
    path = Path("/proc/self/status")  # it says 0 bytes and gives more: as good as one that grows
    with pytest.raises(Busy, match="changed"):
        store.add_path(path)


def test_pins_are_kept(store: BlobStore) -> None:
    first, second = store.put_raw(b"1"), store.put_raw(b"2")
    store.pin(first)
    store.pin(second)
    store.pin(first)
    store.unpin(second)
    assert list(store.pins()) == [first]
