"""What only the store on disk can get wrong: crashes, neighbours, files that change, damage."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from quorate.protocol.errors import DataError
from quorate.storage.base import BlockNotFound
from quorate.storage.cid import RAW, Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.index import StoreDamaged
from quorate.storage.memory import MemoryStore

MIB = 1 << 20

WRITER = """
import sys, random
from pathlib import Path
from quorate.storage.embedded import EmbeddedStore
store = EmbeddedStore(Path(sys.argv[1]))
chance = random.Random(int(sys.argv[2]))
for number in range(int(sys.argv[3])):
    data = chance.randbytes(chance.choice([10, 70_000, 3 << 20]))
    tree = {"a": data, "b/c": chance.randbytes(100), "same": b"same" * 50_000}
    print(store.add_tree(tree), flush=True)
"""


def start_writer(directory: Path, seed: int, rounds: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory), str(seed), str(rounds)], stdout=subprocess.PIPE, text=True
    )


def check_all(store: EmbeddedStore) -> int:
    """Every block that the index names must be what it is named; returns their number."""
    with store._index.connection() as connection:
        names = [bytes(name) for (name,) in connection.execute("SELECT multihash FROM block")]
    for name in names:
        store.get(Cid(1, RAW, name))
    return len(names)


def test_a_kill_in_mid_import_leaves_nothing_wrong(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    for seed in range(4):
        process = start_writer(directory, seed, 10_000)
        assert process.stdout is not None
        finished = [process.stdout.readline().strip() for _ in range(3)]
        time.sleep(0.05 * seed)
        process.send_signal(signal.SIGKILL)
        finished += process.stdout.read().split()
        process.wait()
        process.stdout.close()
        store = EmbeddedStore(directory)
        assert check_all(store) > 0
        for text in finished:
            if len(text) == len(finished[0]):
                assert store.is_complete(Cid.parse(text))
        assert store.read(store.add_bytes(b"goes on")) == b"goes on"
        store.close()


def test_segments_without_an_owner_are_removed_but_not_those_in_use(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "s")
    kept = store.add_bytes(os.urandom(3 * MIB))
    segments = tmp_path / "s" / "segments"
    orphan, young = segments / "orphan.seg", segments / "young.seg"
    orphan.write_bytes(b"left by a kill")
    young.write_bytes(b"just begun")
    with store.session() as session:
        data = os.urandom(100_000)
        session.put(Cid.of(data), data)
        writing = set(segments.iterdir()) - {orphan, young}
        for file in (orphan, *writing):
            os.utime(file, (1, 1))
        EmbeddedStore(tmp_path / "s").close()
        assert not orphan.exists()
        assert young.exists()
        assert all(file.exists() for file in writing)
    assert store.read(Cid.of(data)) == data
    assert store.is_complete(kept)


def test_processes_and_threads_write_at_once(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    processes = [start_writer(directory, seed, 15) for seed in range(3)]
    store = EmbeddedStore(directory)
    made: list[tuple[Cid, bytes]] = []

    def write(number: int) -> None:
        for each in range(10):
            data = bytes([number, each]) * 60_000
            made.append((store.add_bytes(data), data))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    roots = [Cid.parse(line) for process in processes for line in process.communicate()[0].split()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(roots) == 45
    assert len(made) == 40
    assert all(store.is_complete(root) for root in roots)
    assert all(store.read(cid) == data for cid, data in made)
    check_all(store)
    store.close()


def test_a_fork_gets_connections_of_its_own(embedded: EmbeddedStore) -> None:
    cid = embedded.add_bytes(b"before")
    child = os.fork()
    if child == 0:
        is_good = embedded.read(cid) == b"before" and embedded.add_bytes(b"by the child") is not None
        os._exit(0 if is_good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert embedded.read(Cid.of(b"by the child")) == b"by the child"


def test_a_referred_file_is_not_copied_and_its_change_is_noticed(embedded: EmbeddedStore, tmp_path: Path) -> None:
    path = tmp_path / "data"
    data = os.urandom(3 * MIB + 5)
    path.write_bytes(data)
    cid = embedded.add_path(path)
    assert list((embedded.directory / "segments").iterdir()) == []
    view = embedded.map_file(cid)
    assert view is not None
    assert view == data
    times = path.stat()
    changed = bytearray(data)
    changed[MIB + 1] ^= 1
    view.release()
    path.write_bytes(changed)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the change hides as well as it can
    assert embedded.map_file(cid) is None
    with pytest.raises(BlockNotFound, match="has changed"):
        embedded.read(cid)
    assert not embedded.is_complete(cid)
    path.unlink()
    assert not embedded.has(Cid.of(data[:MIB]))
    assert embedded.map_file(cid) is None
    copy = tmp_path / "copy"
    copy.write_bytes(data)
    assert embedded.add_path(copy) == cid
    assert embedded.read(cid) == data


def test_what_is_ours_replaces_what_is_not(embedded: EmbeddedStore, tmp_path: Path) -> None:
    path = tmp_path / "data"
    data = os.urandom(2 * MIB)
    path.write_bytes(data)
    cid = embedded.add_path(path)
    assert embedded.add_bytes(data) == cid
    path.unlink()
    assert embedded.read(cid) == data
    view = embedded.map_file(cid)
    assert view is not None
    assert view == data
    assert view.readonly


def test_fetched_files_lie_in_one_piece(embedded: EmbeddedStore) -> None:
    donor = MemoryStore()
    files = {"a": os.urandom(MIB + 1), "b": os.urandom(3 * MIB), "c": b"tiny", "d": b""}
    root = donor.add_tree(files)
    embedded.import_car(donor.export_car(root), root)
    for name, data in files.items():
        view = embedded.map_file(embedded.resolve(root, name))
        assert view is not None
        assert view == data
    assert embedded.map_file(embedded.add_bytes(bytes(3 * MIB))) is None  # one block, thrice
    with pytest.raises(DataError, match="no file"):
        embedded.map_file(root)


def test_large_imports_go_on_beside_the_hashing(embedded: EmbeddedStore) -> None:
    donor = MemoryStore()
    data = os.urandom(70 * MIB)
    root = donor.add_bytes(data)
    report = embedded.import_car(donor.export_car(root), root)
    assert report.new_blocks == report.blocks == 71
    again = embedded.import_car(donor.export_car(root), root)
    assert (again.new_blocks, again.new_bytes) == (0, 0)
    view = embedded.map_file(root)
    assert view is not None
    assert view == data
    assert b"".join(embedded.stream(root)) == data


def test_damaged_bytes_are_never_served(embedded: EmbeddedStore) -> None:
    data = os.urandom(100_000)
    cid = embedded.add_bytes(data)
    (segment,) = (embedded.directory / "segments").iterdir()
    with segment.open("r+b") as file:
        file.seek(500)
        file.write(b"rot")
    with pytest.raises(BlockNotFound, match="damaged"):
        embedded.get(cid)
    assert embedded.add_bytes(data) == cid
    assert embedded.read(cid) == data


def test_a_rotten_bit_is_not_mapped(embedded: EmbeddedStore) -> None:
    data = os.urandom(3 * MIB + 5)
    cid = embedded.add_bytes(data)
    assert embedded.map_file(cid) == data
    (segment,) = (embedded.directory / "segments").iterdir()
    with segment.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(bytes([data[2 * MIB] ^ 1]))
    assert embedded.map_file(cid) is None
    with pytest.raises(BlockNotFound, match="damaged"):
        embedded.read(cid)
    assert not embedded.is_complete(cid), "so that it is fetched again"


def read_all(directory: Path) -> None:
    half = EmbeddedStore(directory)
    for number in range(200):
        data = bytes([number]) * 3000
        assert half.read(Cid.of(data)) == data


def test_a_cut_segment_and_a_torn_index_are_noticed(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    store = EmbeddedStore(directory)
    cid = store.add_bytes(os.urandom(3 * MIB))
    (segment,) = (directory / "segments").iterdir()
    os.truncate(segment, MIB + 10)
    assert store.map_file(cid) is None
    with pytest.raises(BlockNotFound):
        store.read(cid)
    for number in range(200):
        store.add_bytes(bytes([number]) * 3000)
    store.close()
    index = directory / "index.sqlite3"
    torn = index.read_bytes()
    index.write_bytes(b"rubbish!" * 512 + torn[4096:])
    with pytest.raises(StoreDamaged, match="damaged"):
        EmbeddedStore(directory)
    index.write_bytes(torn[: len(torn) // 2])
    with pytest.raises((StoreDamaged, BlockNotFound)):
        read_all(directory)


def test_a_store_moves_with_its_directory(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "old")
    data = os.urandom(2 * MIB)
    cid = store.add_bytes(data)
    store.close()
    (tmp_path / "old").rename(tmp_path / "new")
    moved = EmbeddedStore(tmp_path / "new")
    assert moved.read(cid) == data
    moved.close()


def test_a_directory_that_cannot_be_one_is_the_callers_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot hold a store"):
        EmbeddedStore(tmp_path / "file" / "store")


def test_a_lost_index_is_told_and_the_bytes_stay(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    store.add_bytes(os.urandom(200_000))
    store.close()
    (segment,) = (tmp_path / "segments").iterdir()
    os.utime(segment, (1, 1))
    for file in tmp_path.glob("index*"):
        file.rename(file.with_name("moved-" + file.name))
    with pytest.raises(StoreDamaged, match="is lost"):
        EmbeddedStore(tmp_path)
    assert segment.stat().st_size == 200_000
    for blank in (b"", _make_blank_index(tmp_path / "other")):  # as where the log with all that was written is gone
        (tmp_path / "index.sqlite3").write_bytes(blank)
        with pytest.raises(StoreDamaged, match="is lost"):
            EmbeddedStore(tmp_path)
        assert segment.stat().st_size == 200_000
    for file in tmp_path.glob("index*"):
        file.unlink()
    for file in tmp_path.glob("moved-*"):
        file.rename(file.with_name(file.name.removeprefix("moved-")))
    EmbeddedStore(tmp_path).close()
    assert segment.exists()


def _make_blank_index(path: Path) -> bytes:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    return path.read_bytes()
