"""Listing a directory that strangers made, here and from gateways."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from quorate.protocol.errors import ContentUnavailable, ValidationError
from quorate.protocol.spec import Partition
from quorate.storage import dagpb, listing
from quorate.storage.base import BlobStore, BlockNotFound
from quorate.storage.cid import DAG_PB, RAW, Cid
from quorate.storage.dagpb import Link
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import build_gateway
from quorate.storage.listing import Unlistable, fetch_listing, list_files
from quorate.storage.memory import MemoryStore
from quorate.storage.serve import LoopbackServer
from quorate.storage.unixfs import DIRECTORY, SYMLINK, Message
from quorate.tasks import divide


@pytest.fixture(params=["memory", "embedded"])
def store(request: pytest.FixtureRequest, embedded: EmbeddedStore) -> BlobStore:
    """Not a daemon: these lists are made of blocks, and a daemon adds nothing to those but time."""
    return MemoryStore() if request.param == "memory" else embedded


def keep(store: BlobStore, block: bytes) -> Cid:
    cid = Cid.of(block, DAG_PB)
    store.put(cid, block)
    return cid


def folder(store: BlobStore, links: Sequence[tuple[str, Cid]]) -> Cid:
    """A directory with whatever names."""
    made = dagpb.sort_links(Link(cid, name, 1) for name, cid in links)
    return keep(store, dagpb.encode(made, Message(DIRECTORY).encode()))


def paths(store: BlobStore, root: Cid) -> list[str]:
    return sorted(file.path for file in list_files(store.get, root))


def test_files_are_listed_with_their_paths_and_sizes(store: BlobStore) -> None:
    root = store.add_tree({"a.tif": b"abc", "deep/er/b.tif": bytes(3_000_000), "deep/empty/c": b""})
    found = {file.path: file.size for file in list_files(store.get, root)}
    assert found == {"a.tif": 3, "deep/er/b.tif": 3_000_000, "deep/empty/c": 0}


def test_what_a_program_could_not_name_is_left_out(store: BlobStore) -> None:
    file = store.add_bytes(b"x")
    link = keep(store, dagpb.encode((), Message(SYMLINK, b"/etc/passwd").encode()))
    names = ["\udcff", ".", "..", "", "a/b", "n\0l", "x" * 256, "good"]
    root = folder(store, [*((name, file) for name in names), ("link", link), ("odd", Cid.of(b"\xa0", 0x71))])
    assert paths(store, root) == ["good"]
    nested = root
    for _ in range(30):
        nested = folder(store, [("d" * 200, nested), ("f", file)])
    found = paths(store, nested)
    assert max(map(len, found)) <= listing.MAX_PATH_BYTES
    assert "f" in found
    assert not any(path.endswith("good") for path in found), "its path is too long"


def test_what_is_missing_is_named(store: BlobStore) -> None:
    large = MemoryStore()
    inner = large.add_tree({"f": b"x"})
    root = folder(store, [("inner", inner), ("there", store.add_bytes(b"x"))])
    with pytest.raises(BlockNotFound, match=str(inner)):
        list_files(store.get, root)
    assert paths(store, folder(store, [("leaf", Cid.of(b"elsewhere", RAW))])) == ["leaf"], "no leaf is read"


def test_no_directory_is_an_agreed_refusal(store: BlobStore) -> None:
    file = store.add_bytes(b"x")
    twice = keep(store, dagpb.encode([Link(file, "a", 1), Link(file, "a", 1)], Message(DIRECTORY).encode()))
    for root, why in (
        (file, "no directory"),
        (keep(store, b"\x0a\x02\x08\x09"), "cannot be"),
        (twice, "one name twice"),
    ):
        with pytest.raises(Unlistable, match=why):
            list_files(store.get, root)


def test_a_bomb_ends_at_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty blocks that stand for a billion paths, of files or of empty folders."""
    store = MemoryStore()
    for bottom, limit in (([("f", store.add_bytes(b"x"))], "over"), ([], "directories")):
        root = folder(store, bottom)
        for _ in range(30):
            root = folder(store, [("a", root), ("b", root)])
        monkeypatch.setattr(listing, "MAX_FILES", 1000)
        monkeypatch.setattr(listing, "MAX_DIRECTORIES", 5000)
        with pytest.raises(Unlistable, match=limit):
            list_files(store.get, root)
    root = folder(store, [])
    for _ in range(listing.MAX_DEPTH + 1):
        root = folder(store, [("a", root)])
    with pytest.raises(Unlistable, match="deeper"):
        list_files(store.get, root)


def test_a_million_entries_are_refused_with_a_hint() -> None:
    store = MemoryStore()
    file = store.add_bytes(b"x")
    inner = folder(store, [(f"{number:03}", file) for number in range(1000)])
    root = folder(store, [(f"{number:03}", inner) for number in range(1000)])
    with pytest.raises(Unlistable, match="split it"):
        list_files(store.get, root)


def test_a_listing_is_fetched_without_the_files(embedded: EmbeddedStore) -> None:
    theirs = MemoryStore()
    many = {f"many/{number:05}.tif": b"%d" % number for number in range(6000)}  # a HAMT
    root = theirs.add_tree({**many, "large": bytes(3_000_000), "deep/er/x": b"x"})
    with LoopbackServer(build_gateway(theirs)) as server:
        found = fetch_listing(embedded, root, [server.url])
    assert sorted(file.path for file in found) == sorted([*many, "large", "deep/er/x"])
    assert not any(embedded.has(file.cid) for file in found if file.path != "large")
    assert not embedded.is_complete(root)
    assert sorted(list_files(embedded.get, root), key=lambda f: f.path) == sorted(found, key=lambda f: f.path)


def test_a_listing_that_nobody_has_is_no_refusal(embedded: EmbeddedStore) -> None:
    theirs = MemoryStore()
    root = folder(theirs, [("inner", MemoryStore().add_tree({"f": b"x"}))])
    with LoopbackServer(build_gateway(theirs)) as server, pytest.raises(ContentUnavailable, match="nobody served"):
        fetch_listing(embedded, root, [server.url])


def test_tasks_see_their_own_files_and_no_others(store: BlobStore) -> None:
    root = store.add_tree({f"{name}/{number}.tif": f"{name}{number}".encode() for name in "ab" for number in range(3)})
    tasks = divide(list_files(store.get, root), Partition("*.tif", 4))
    assert [task.paths for task in tasks.tasks] == [
        ("a/0.tif", "a/1.tif", "a/2.tif", "b/0.tif"),
        ("b/1.tif", "b/2.tif"),
    ]
    assert paths(store, tasks.add_input(store, 1)) == ["b/1.tif", "b/2.tif"]
    for pattern in ("*.png", "a/3*"):
        with pytest.raises(ValidationError, match="no path matches"):
            divide(list_files(store.get, root), Partition(pattern))
    with pytest.raises(ValidationError, match="no path matches"):
        divide(list_files(store.get, store.add_tree({})), Partition("*"))
