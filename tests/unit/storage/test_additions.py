"""Several additions that become durable together."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.protocol.errors import ContentUnavailable
from quorate.storage.cid import RAW, Cid
from quorate.storage.embedded import EmbeddedStore


def test_additions_are_there_once_the_block_ends_and_give_the_same_cids(tmp_path: Path) -> None:
    store, other = EmbeddedStore(tmp_path / "a"), EmbeddedStore(tmp_path / "b")
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


def test_an_error_keeps_what_was_added_before_it(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)

    def add_and_fail() -> None:
        with store.adding() as additions:
            additions.put_raw(b"before")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        add_and_fail()
    assert store.get(Cid.of(b"before", RAW)) == b"before"
