"""Making room: what is pinned, held or just being added stays, whoever uses the store at the same time."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from quorate.protocol.errors import Busy, DataError
from quorate.storage import dagpb, index
from quorate.storage.base import BlockNotFound
from quorate.storage.cid import DAG_CBOR, DAG_PB, Cid
from quorate.storage.collecting import punch
from quorate.storage.dagpb import Link
from quorate.storage.embedded import EmbeddedStore

MIB = 1 << 20


def fill(store: EmbeddedStore, seed: int) -> tuple[Cid, dict[str, bytes]]:
    """A tree of small and large files, unlike that of any other seed."""
    noise = bytes((seed * 31 + i) % 251 for i in range(251)) * 12_000
    files = {"large": noise, "dir/small": b"%d" % seed, "dir/again": b"%d" % seed, "middle": noise[:70_000]}
    return store.add_tree(files), files


def check(store: EmbeddedStore, root: Cid, files: dict[str, bytes]) -> None:
    assert store.is_complete(root)
    for name, content in files.items():
        assert store.read(store.resolve(root, name)) == content


def test_only_what_no_pin_and_no_hold_reaches_goes(embedded: EmbeddedStore) -> None:
    (pinned, kept), (held, also), (loose, _) = (fill(embedded, seed) for seed in (1, 2, 3))
    embedded.pin(pinned)
    embedded.hold([held])
    before = embedded.stats()
    told = embedded.collect(is_dry=True)
    assert embedded.stats() == before
    found = embedded.collect()
    assert found == told
    assert (found.roots, found.incomplete) == (2, ())
    assert found.blocks > 4
    assert found.bytes > 3_000_000
    after = embedded.stats()
    assert (after.blocks, after.bytes) == (before.blocks - found.blocks, before.bytes - found.bytes)
    assert after.disk_bytes < before.disk_bytes - 2_500_000
    check(embedded, pinned, kept)
    check(embedded, held, also)
    assert not embedded.has(loose)
    with pytest.raises(BlockNotFound):
        embedded.get(loose)
    embedded.unpin(pinned)
    embedded.hold([held], -1)  # a shorter hold takes nothing back
    assert embedded.collect().blocks > 4
    check(embedded, held, also)
    assert fill(embedded, 3)[0] == loose
    check(embedded, loose, fill(embedded, 3)[1])


def test_holds_end_and_callers_may_keep_more(embedded: EmbeddedStore) -> None:
    (brief, _), (named, files) = fill(embedded, 1), fill(embedded, 2)
    embedded.hold([brief], -1)
    embedded.collect(keep=[named])
    check(embedded, named, files)
    assert not embedded.has(brief)


def test_blocks_that_share_a_file_with_others_give_their_room_back(embedded: EmbeddedStore, tmp_path: Path) -> None:
    with (tmp_path / "probe").open("wb") as probe:
        if not punch(probe.fileno(), 0, 4096):
            pytest.skip("this file system makes no holes in files")
    first, second = bytes(range(256)) * 4096, bytes(reversed(range(256))) * 4096
    with embedded.adding() as additions:  # one session, so one segment
        stays, goes = additions.put_raw(first), additions.put_raw(second)
    embedded.pin(stays)
    before = embedded.stats().disk_bytes
    assert embedded.collect().blocks == 1
    assert embedded.get(stays) == first
    assert not embedded.has(goes)
    (segment,) = (embedded.directory / "segments").iterdir()
    assert segment.stat().st_size == 2 * MIB
    assert embedded.stats().disk_bytes <= before - MIB // 2


def test_files_of_others_are_never_touched(embedded: EmbeddedStore, tmp_path: Path) -> None:
    mine = tmp_path / "mine.bin"
    mine.write_bytes(os.urandom(3 * MIB))
    content = mine.read_bytes()
    cid = embedded.add_path(mine)
    assert embedded.stats().referred_bytes == 3 * MIB
    assert embedded.collect().blocks == 4
    assert mine.read_bytes() == content
    assert not embedded.has(cid)
    assert embedded.stats().referred_bytes == 0


def test_copies_do_not_need_the_file_any_more(embedded: EmbeddedStore, tmp_path: Path) -> None:
    mine, told = tmp_path / "mine.bin", list[int]()
    mine.write_bytes(os.urandom(2 * MIB + 5))
    content = mine.read_bytes()
    cid = embedded.add_path(mine, copy=True, on_bytes=told.append)
    assert sum(told) == len(content)
    mine.unlink()
    assert embedded.read(cid) == content


def test_links_of_other_codecs_are_followed(embedded: EmbeddedStore) -> None:
    leaf = embedded.put_raw(b"leaf")
    document = b"\xa1\x61a\xd8\x2a\x58\x25\0" + leaf.to_bytes()
    root = Cid.of(document, DAG_CBOR)
    embedded.put(root, document)
    inline = Cid(1, DAG_PB, bytes((0, 0)))
    block = dagpb.encode([Link(root, "a"), Link(inline, "b")], b"\x08\x01")
    top = Cid.of(block, DAG_PB)
    embedded.put(top, block)
    embedded.put_raw(b"loose")
    embedded.pin(top)
    assert embedded.collect().blocks == 1
    assert embedded.is_complete(top)
    assert embedded.get(leaf) == b"leaf"


def test_a_leaf_that_is_also_a_node_keeps_what_is_below(embedded: EmbeddedStore) -> None:
    root, files = fill(embedded, 1)
    embedded.pin(Cid(1, 0x55, root.multihash))  # the same bytes as a raw block
    embedded.pin(root)
    embedded.collect()
    check(embedded, root, files)


def test_a_part_that_is_missing_is_told_and_the_rest_stays(embedded: EmbeddedStore) -> None:
    root, _ = fill(embedded, 1)
    gone = embedded.resolve(root, "dir")
    with sqlite3.connect(embedded.directory / "index.sqlite3") as connection:
        connection.execute("DELETE FROM block WHERE multihash = ?", (gone.multihash,))
    connection.close()
    embedded.pin(root)
    found = embedded.collect()
    assert found.incomplete == (root,)
    assert embedded.read(embedded.resolve(root, "large"))


def test_a_damaged_node_stops_it_before_anything_goes(embedded: EmbeddedStore) -> None:
    (root, _), (loose, files) = fill(embedded, 1), fill(embedded, 2)
    embedded.pin(root)
    with sqlite3.connect(embedded.directory / "index.sqlite3") as connection:
        connection.execute("UPDATE block SET data = zeroblob(size) WHERE multihash = ?", (root.multihash,))
    connection.close()
    with pytest.raises(DataError, match=r"damaged on disk.*nothing was removed"):
        embedded.collect()
    check(embedded, loose, files)


def test_it_waits_for_those_who_add_and_gives_up_in_the_end(embedded: EmbeddedStore) -> None:
    with embedded.adding() as additions:
        cid = additions.put_raw(b"x" * 100_000)
        with pytest.raises(Busy, match="without a pause"):
            embedded.collect(wait_s=0.1)
        done = threading.Event()
        thread = threading.Thread(target=lambda: (embedded.collect(), done.set()))
        thread.start()
        assert not done.wait(0.2)
    thread.join(10)
    assert done.is_set()
    assert not embedded.has(cid)
    with embedded.keeping():
        cid = embedded.put_raw(b"x" * 100_000)
        with pytest.raises(Busy):
            embedded.collect(wait_s=0)
        embedded.pin(cid)
    embedded.collect()
    assert embedded.has(cid)


WRITER = """
    import sys
    from pathlib import Path
    from quorate.storage.embedded import EmbeddedStore

    store = EmbeddedStore(Path(sys.argv[1]))
    for round in range(25):
        noise = bytes((round * 7 + int(sys.argv[2]) + i) % 253 for i in range(253)) * 3000
        with store.keeping():
            root = store.add_tree({"large": noise, "small": b"%d" % round, "common": b"c" * 100_000})
            store.pin(root)
        print(root, flush=True)
"""


def test_other_processes_lose_nothing_that_they_pin(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path), str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    removed = 0
    while any(writer.poll() is None for writer in writers):
        store.add_tree({"loose": os.urandom(80_000)})
        removed += store.collect(wait_s=30).blocks
    removed += store.collect().blocks
    assert removed > 0
    for writer in writers:
        out, _ = writer.communicate()
        assert writer.returncode == 0
        assert len(out.split()) == 25
        for line in out.split():
            assert store.is_complete(Cid.parse(line))
            for _, entry in store.walk(Cid.parse(line)):
                assert len(store.read(entry.cid)) == entry.size
    store.close()


def test_killed_in_the_middle_it_removed_all_or_nothing(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    root, files = fill(store, 1)
    store.pin(root)
    fill(store, 2)
    before = store.stats().blocks
    code = (
        "import os, sys; from pathlib import Path; from quorate.storage import collecting\n"
        "from quorate.storage.embedded import EmbeddedStore\n"
        "store = EmbeddedStore(Path(sys.argv[1]))\n"
        "real = collecting.Collector._sweep\n"
        "def sweep(self, connection):\n"
        "    connection.set_trace_callback(lambda text: os._exit(9) if text.startswith(sys.argv[2]) else None)\n"
        "    real(self, connection)\n"
        "collecting.Collector._sweep = sweep\n"
        "store.collect()\n"
    )
    for statement, is_same in (("DELETE FROM file", True), ("PRAGMA", False)):
        assert subprocess.run([sys.executable, "-c", code, str(tmp_path), statement], check=False).returncode == 9
        assert (store.stats().blocks == before) is is_same
        check(store, root, files)
    store.close()


def test_a_store_of_the_first_format_is_brought_up(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "index.sqlite3")
    connection.executescript(index._SCHEMAS[0] + "; PRAGMA user_version = 1")
    connection.close()
    with_old = EmbeddedStore(tmp_path)
    cid = with_old.put_raw(b"kept")
    with_old.hold([cid])
    with_old.collect()
    assert with_old.get(cid) == b"kept"
    with_old.close()
