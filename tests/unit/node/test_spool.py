"""Content that waits on the store's disk until all of it has come."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from quorate.protocol.errors import Busy
from quorate.storage.embedded import EmbeddedStore
from quorate_node.room import Room, RoomLimits, StoreFull
from quorate_node.roots import OwnRoots
from quorate_node.spool import Spool

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with closing(EmbeddedStore(tmp_path / "store")) as opened:
        yield opened


def make(store: EmbeddedStore, limits: RoomLimits) -> Room:
    return Room(store, limits, OwnRoots(), lambda: None)


def test_what_waits_takes_up_room(store: EmbeddedStore) -> None:
    room = make(store, RoomLimits(4 * MIB))
    with closing(Spool(room)) as spool:
        spool.write(bytes(2 * MIB))
        with pytest.raises(StoreFull), room.taking(2 * MIB):
            raise AssertionError("it was let in")
        with pytest.raises(StoreFull):
            spool.write(bytes(2 * MIB))
        spool.write(b"end")
        assert b"".join(spool.take_out()) == bytes(2 * MIB) + b"end"
    assert room.figures.spooled_bytes == 0
    with room.taking(3 * MIB):
        pass


def test_what_waits_on_the_disk_is_not_counted_against_it_twice(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk of 10 MiB, of which one is kept free."""
    room, on_disk = make(store, RoomLimits(0, MIB)), 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10 * MIB, on_disk, 10 * MIB - on_disk))
    with closing(Spool(room)) as spool:
        spool.write(bytes(6 * MIB))
        on_disk = 6 * MIB
        assert room.count_left() == 3 * MIB
        with room.taking(3 * MIB), pytest.raises(StoreFull):
            spool.write(b"x")


def test_the_disk_gets_back_what_was_taken_out(store: EmbeddedStore) -> None:
    with closing(Spool(make(store, RoomLimits()))) as spool:
        spool.write(os.urandom(4 * MIB))
        before = os.fstat(spool._file.fileno()).st_blocks
        assert before * 512 >= 4 * MIB
        left = [os.fstat(spool._file.fileno()).st_blocks for _ in spool.take_out()]
        assert len(left) == 4
        assert left[-1] * 4 < before


def test_whoever_writes_after_the_end_leaves_no_promise(store: EmbeddedStore) -> None:
    room = make(store, RoomLimits(4 * MIB))
    spool = Spool(room)
    threads = [threading.Thread(target=write_on, args=(spool,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    spool.close()
    for thread in threads:
        thread.join()
    with pytest.raises(Busy, match="given up"):
        spool.write(b"x")
    assert (room._promised, room.figures.spooled_bytes) == (0, 0)


def write_on(spool: Spool) -> None:
    """Until it is closed."""
    try:
        while True:
            spool.write(bytes(10))
    except Busy:
        return
