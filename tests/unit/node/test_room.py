"""Room in a node's store: what goes when it is full, and what never does."""

from __future__ import annotations

import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from quorate.protocol.errors import Busy
from quorate.storage.base import HOLD_S
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate_node.room import GRACE_S, Room, RoomLimits, StoreFull
from quorate_node.roots import OwnRoots

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with closing(EmbeddedStore(tmp_path / "store")) as opened:
        yield opened


def add(store: EmbeddedStore, seed: int, held_ago: float | None = None) -> Cid:
    """A MiB of its own, held since so many seconds ago."""
    cid = store.add_bytes(random.Random(seed).randbytes(MIB))
    if held_ago is not None:
        store.hold([cid], HOLD_S - held_ago)
    return cid


def make(store: EmbeddedStore, mib: float, oldest_ago: float | None = 0.0, roots: OwnRoots | None = None) -> Room:
    """At most so many MiB; the oldest job in progress was posted so many seconds ago (None: nobody knows)."""
    oldest = None if oldest_ago is None else time.time() - oldest_ago
    return Room(store, RoomLimits(int(mib * MIB)), roots or OwnRoots(), lambda: oldest)


def test_what_was_used_longest_ago_goes_first_and_only_what_must(store: EmbeddedStore) -> None:
    old, newer, newest = (add(store, day, day * 86400) for day in (4, 3, 2))
    pinned, loose = add(store, 9), add(store, 10)
    store.pin(pinned)
    roots = OwnRoots()
    for cid in (old, newer, pinned):
        roots.hold(str(cid), MIB)
    room = make(store, 6.5, roots=roots)
    with room.taking(MIB):
        pass
    assert store.has(loose), "there was room"
    with room.taking(2 * MIB):
        pass
    assert not store.has(loose)
    assert all(map(store.has, (old, newer, newest)))
    with room.taking(4 * MIB):
        pass
    assert [store.has(cid) for cid in (old, newer, newest)] == [False, False, True]
    assert store.is_complete(pinned)
    assert [str(old) in roots, str(newer) in roots, str(pinned) in roots] == [False, False, True]
    assert room.describe()["evicted_bytes"] >= 3 * MIB
    assert room.describe()["refusals"] == 0


def test_jobs_in_progress_and_pins_never_go(store: EmbeddedStore) -> None:
    """Content of the oldest job may have come a little before that was posted."""
    posted_ago = 86400.0
    mine = add(store, 1, posted_ago - 60), add(store, 2, posted_ago + GRACE_S - 60), add(store, 3, 0)
    other, pinned = add(store, 4, posted_ago + GRACE_S + 60), add(store, 5)
    store.pin(pinned)
    room = make(store, 8, posted_ago)
    said = r"no room for 7340032 bytes.*pinned or belongs to jobs in progress"
    with pytest.raises(StoreFull, match=said), room.taking(7 * MIB):
        raise AssertionError("it was let in")
    assert all(map(store.is_complete, (*mine, pinned)))
    assert not store.has(other)
    assert room.describe()["refusals"] == 1
    with room.taking(3 * MIB):
        pass


def test_nothing_held_goes_before_the_chain_is_known(store: EmbeddedStore) -> None:
    kept, loose = add(store, 1, 5 * 86400), add(store, 2)
    with pytest.raises(StoreFull), make(store, 3, oldest_ago=None).taking(2 * MIB):
        raise AssertionError("it was let in")
    assert store.has(kept)
    assert not store.has(loose)


def test_those_who_come_at_once_share_what_there_is(store: EmbeddedStore) -> None:
    room = make(store, 10)
    with room.taking(6 * MIB):
        with pytest.raises(StoreFull), room.taking(6 * MIB):
            raise AssertionError("both were let in")
        with room.taking(3 * MIB):
            pass
    with room.taking(6 * MIB):
        pass


def test_what_can_never_fit_costs_nobody_anything(store: EmbeddedStore) -> None:
    loose, old = add(store, 1), add(store, 2, 5 * 86400)
    with pytest.raises(StoreFull, match="would not fit into an empty store"), make(store, 4).taking(5 * MIB):
        raise AssertionError("it was let in")
    assert store.has(loose)
    assert store.has(old)


def test_a_disk_that_is_nearly_full_takes_nothing(store: EmbeddedStore) -> None:
    free = shutil.disk_usage(store.directory).free
    loose = add(store, 1)
    room = Room(store, RoomLimits(0, spare_bytes=free + (1 << 40)), OwnRoots(), time.time)
    with pytest.raises(StoreFull, match="spare_disk_bytes"), room.taking(1):
        raise AssertionError("it was let in")
    assert not store.has(loose), "first it makes what room it can"


def test_who_adds_without_a_pause_is_waited_for_and_told(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorate_node.room.WAIT_S", 0.1)
    loose = add(store, 1)
    ready, done = threading.Event(), threading.Event()

    def keep() -> None:
        with store.keeping():
            ready.set()
            done.wait(30)

    thread = threading.Thread(target=keep)
    thread.start()
    ready.wait(30)
    with pytest.raises(StoreFull, match="others have been adding"), make(store, 1.5).taking(MIB):
        raise AssertionError("it was let in")
    done.set()
    thread.join()
    assert store.has(loose)
    with make(store, 1.5).taking(MIB):
        pass
    assert not store.has(loose)


def test_an_index_that_cannot_grow_is_busy_and_not_damaged(store: EmbeddedStore) -> None:
    """SQLite says of a full disk what it says of a file that may not grow."""
    kept = store.put_raw(b"kept")
    with store._index.connection() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(Busy, match="make room on its disk"):
        store.put_raw(bytes(60_000))
    assert store.get(kept) == b"kept"
    with store._index.connection() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    assert store.get(store.put_raw(bytes(60_000))) == bytes(60_000)


def test_rows_that_are_gone_are_room_again(store: EmbeddedStore) -> None:
    """Small blocks lie in the index, which keeps its size when they go."""
    for seed in range(60):
        store.put_raw(random.Random(seed).randbytes(60_000))
    with make(store, 4).taking(3 * MIB):
        pass
    assert store.stats().blocks == 0
    with sqlite3.connect(store.directory / "index.sqlite3") as connection:
        assert connection.execute("PRAGMA freelist_count").fetchone()[0] > 100, "the premise"
    connection.close()
