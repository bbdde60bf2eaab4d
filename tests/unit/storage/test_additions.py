"""Several additions that become durable together."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.protocol.errors import ContentUnavailable
from quorate.storage.base import BlobStore
from quorate.storage.cid import RAW, Cid
from quorate.storage.embedded import EmbeddedStore


@pytest.fixture(params=["embedded", pytest.param("in_kubo", marks=pytest.mark.kubo)])
def kept(request: pytest.FixtureRequest) -> BlobStore:
    """A store in which additions are not there before they are kept."""
    store: BlobStore = request.getfixturevalue(request.param)
    return store


def test_additions_are_there_once_the_block_ends_and_give_the_same_cids(kept: BlobStore, tmp_path: Path) -> None:
    store, other = kept, EmbeddedStore(tmp_path / "b")
    with store.adding() as additions:
        empty = additions.add_tree({})
        tree = additions.add_tree({"x": b"content", "empty": empty})  # links what this block has just taken
        text, raw = additions.add_bytes(b"text"), additions.put_raw(b"raw")
        with pytest.raises(ContentUnavailable):
            store.get(tree)
    assert tree == other.add_tree({"x": b"content", "empty": other.add_tree({})})
    assert (text, raw) == (other.add_bytes(b"text"), other.put_raw(b"raw"))
    assert store.is_complete(tree)
    assert (store.read(text), store.get(raw)) == (b"text", b"raw")


def test_an_error_keeps_what_was_added_before_it(kept: BlobStore) -> None:
    def add_and_fail() -> None:
        with kept.adding() as additions:
            additions.put_raw(b"before")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        add_and_fail()
    assert kept.get(Cid.of(b"before", RAW)) == b"before"


def test_additions_that_do_not_wait_for_the_disk_are_there_for_other_processes(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    with store.adding(is_durable=False) as additions:
        cid = additions.put_raw(b"soon")
    store.sync()
    assert EmbeddedStore(tmp_path).get(cid) == b"soon"


def test_other_commits_still_wait_for_the_disk(tmp_path: Path) -> None:
    """The connection is used again: what follows must not lose its durability."""
    store = EmbeddedStore(tmp_path)
    with store.adding(is_durable=False) as additions:
        additions.put_raw(b"soon")
    with store._index.connection() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_there_is_something_to_sync_even_where_nothing_was_kept(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    store.close()  # the last connection takes the log away
    store.sync()
    assert not list(tmp_path.glob("*-wal"))
