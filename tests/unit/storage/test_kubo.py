"""What only a store in a daemon can get wrong: other CIDs, a daemon that dies, lies, is another, or is away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tests.kubo import BINARY, WHY_NOT, Kubo
from tests.unit.storage.proxy import Proxy

from quorate.protocol.errors import ConfigurationError, DataError
from quorate.storage import unixfs
from quorate.storage.base import DEFAULT_PROFILE, MAX_BLOCK_BYTES, BlockNotFound
from quorate.storage.cid import DAG_PB, RAW, Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.fetch import fetch_dag
from quorate.storage.gateway import build_gateway
from quorate.storage.kubo import ASKED_BLOCKS, FLUSH_BYTES, KuboStore
from quorate.storage.kubo_rpc import DaemonGone, DaemonRefused, parse_address
from quorate.storage.memory import MemoryStore
from quorate.storage.opening import open_store
from quorate.storage.serve import LoopbackServer

MIB = 1 << 20
SIZES = (0, 1, 262_144, 262_145, MIB, MIB + 1, 5 * MIB + 3)
TRUTH, LIE = b"the truth ", b"the untruth"[:10]
needs_kubo = pytest.mark.kubo


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Kubo]:
    """One that this test may kill."""
    if BINARY is None:
        pytest.skip(WHY_NOT)
    with Kubo(tmp_path / "daemon") as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files around the sizes of chunks, folders in folders, and ten thousand entries, which are sharded."""
    folder = tmp_path_factory.mktemp("in")
    (folder / "some" / "deeper").mkdir(parents=True)
    (folder / "some" / "empty").mkdir()
    for size in SIZES:
        (folder / "some" / f"{size}.bin").write_bytes(os.urandom(size))
    (folder / "some" / "deeper" / ".hidden").write_bytes(b"hidden")
    (folder / "many").mkdir()
    for number in range(10_000):
        (folder / "many" / f"image-{number:05}.tif").write_bytes(b"%d" % number)
    return folder


@needs_kubo
@pytest.mark.parametrize("profile", ["unixfs-v1-2025", "unixfs-v0-2015"])
def test_cids_are_those_of_the_daemons_own_add(profile: str, folder: Path, tmp_path: Path) -> None:
    if BINARY is None:
        pytest.skip(WHY_NOT)
    with Kubo(tmp_path / "kubo", profile) as daemon, closing(KuboStore(daemon.url)) as store:

        def add(path: Path, *options: str) -> Cid:
            return Cid.parse(daemon.run("add", "-r", "-Q", "-H", *options, str(path)).decode().strip())

        some = add(folder / "some")
        assert store.is_complete(some), "what the daemon added is content like any other"
        store.export(some, tmp_path / "some")
        assert MemoryStore().add_path(tmp_path / "some", profile) == some
        for size in SIZES:
            file = folder / "some" / f"{size}.bin"
            cid = add(file)
            assert store.resolve(some, file.name) == cid
            assert store.read(cid) == file.read_bytes()
        theirs = add(folder, "--only-hash")
        assert not store.has(theirs)
        if profile != DEFAULT_PROFILE:  # pushing ten thousand files once will do
            assert MemoryStore().add_path(folder, profile) == theirs
            return
        assert store.add_path(folder) == theirs
        assert store.is_complete(theirs)
        assert store.resolve(theirs, "some") == some
        many = store.resolve(theirs, "many")
        assert unixfs.Node.parse(many, store.get(many)).message.kind == unixfs.SHARD
        assert [entry.name for entry in store.list(many)] == sorted(os.listdir(folder / "many"))  # noqa: PTH208
        assert daemon.run("cat", f"{theirs}/many/image-09999.tif") == b"9999"


@needs_kubo
def test_what_is_added_here_is_read_by_ipfs_cat_and_from_a_gateway(kubo: Kubo, in_kubo: KuboStore) -> None:
    data = os.urandom(3 * MIB)
    root = in_kubo.add_tree({"results/mask.bin": data, "log": b"done"})
    assert kubo.run("cat", f"{root}/results/mask.bin") == data
    copy = MemoryStore()
    assert fetch_dag(copy, root, [kubo.gateway]).provider == kubo.gateway
    assert copy.read(copy.resolve(root, "results/mask.bin")) == data
    with LoopbackServer(build_gateway(in_kubo)) as server:
        assert fetch_dag(MemoryStore(), root, [server.url]).bytes > len(data)


@needs_kubo
def test_what_the_daemon_would_have_to_fetch_is_not_here(kubo: Kubo, in_kubo: KuboStore, daemon: Kubo) -> None:
    other = KuboStore(daemon.url)
    root = other.add_tree({"far": b"away"})
    other.close()
    listening = [line for line in daemon.run("swarm", "addrs", "listen").decode().split() if "/tcp/" in line]
    kubo.run("swarm", "connect", f"{listening[0]}/p2p/{daemon.run('id', '-f', '<id>').decode()}")
    assert not in_kubo.has(root)
    assert not in_kubo.is_complete(root)
    assert in_kubo.size(root) is None
    with pytest.raises(BlockNotFound, match="let it fetch it"):
        in_kubo.get(root)
    assert kubo.run("cat", f"{root}/far") == b"away"  # that goes to the network
    assert in_kubo.is_complete(root)


@needs_kubo
def test_pins_survive_collection_and_only_the_whole_is_pinned(kubo: Kubo, in_kubo: KuboStore) -> None:
    kept = in_kubo.add_tree({"a": os.urandom(2 * MIB + 1)})
    lost = in_kubo.put_raw(b"nobody pins this")
    in_kubo.pin(kept)
    node = MemoryStore()
    partial = node.add_tree({"here": b"here", "not": b"here"})
    in_kubo.put(partial, node.get(partial))
    with pytest.raises(BlockNotFound, match=str(Cid.of(b"here"))):
        in_kubo.pin(partial)
    kubo.run("repo", "gc", "--quiet")
    assert (in_kubo.is_complete(kept), in_kubo.has(lost), list(in_kubo.pins())) == (True, False, [kept])
    in_kubo.unpin(kept)
    in_kubo.unpin(kept)
    kubo.run("repo", "gc", "--quiet")
    assert not in_kubo.has(kept)
    assert list(in_kubo.pins()) == []


@needs_kubo
def test_a_block_that_the_daemon_cannot_decode_is_kept_all_the_same(in_kubo: KuboStore) -> None:
    rubbish = b"\xff\xff no node of any kind"
    cid = Cid.of(rubbish, DAG_PB)
    in_kubo.put(cid, rubbish)
    assert in_kubo.get(cid) == rubbish
    with pytest.raises(DataError):
        in_kubo.is_complete(cid)


@needs_kubo
def test_many_blocks_go_in_several_pushes(in_kubo: KuboStore) -> None:
    data = os.urandom(FLUSH_BYTES + 5 * MIB)
    with in_kubo.session() as session:
        for start in range(0, len(data), MIB):
            session.put(Cid.of(data[start : start + MIB]), data[start : start + MIB])
        assert in_kubo.has(Cid.of(data[:MIB])), "the first push was not kept back"
        assert not in_kubo.has(Cid.of(data[-MIB:]))
    assert in_kubo.has(Cid.of(data[-MIB:]))
    assert (session.new_blocks, session.new_bytes) == (len(data) // MIB, len(data))
    with in_kubo.session() as again:
        again.put(Cid.of(data[:MIB]), data[:MIB])
    assert (again.new_blocks, again.new_bytes) == (0, 0)
    with in_kubo.session() as small:
        for _ in range(2):
            for number in range(ASKED_BLOCKS + 1):
                small.put(Cid.of(b"%d" % number), b"%d" % number)
    assert small.new_blocks == ASKED_BLOCKS + 1


@needs_kubo
def test_threads_share_a_store(in_kubo: KuboStore) -> None:
    contents = [os.urandom(300_000 + number) for number in range(24)]

    def add_and_read(data: bytes) -> bytes:
        folder = in_kubo.add_tree({"f": data})
        return in_kubo.read(in_kubo.resolve(folder, "f"))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(add_and_read, contents)) == contents


@needs_kubo
def test_a_daemon_that_dies_while_it_is_read(daemon: Kubo, tmp_path: Path) -> None:
    data = os.urandom(32 * MIB)
    seen = 0

    def kill(passing: bytes) -> bytes:
        nonlocal seen
        seen += len(passing)
        if seen > 8 * MIB:
            daemon.kill()
        return passing

    with Proxy(daemon.url) as proxy:
        store = KuboStore(proxy.url)
        root = store.add_bytes(data)
        proxy.to_client = kill
        received: list[bytes] = []
        with pytest.raises(DaemonGone, match="start it"):
            received.extend(store.stream(root))
        assert MIB < len(b"".join(received)) < len(data)
        assert data.startswith(b"".join(received))
        for use in (store.has, store.get, store.is_complete, store.pin, store.read, lambda _: store.pins()):
            with pytest.raises(DaemonGone):
                use(root)
        with pytest.raises(DaemonGone):
            store.export(root, tmp_path / "out")
        daemon.start()
        proxy.target, seen = daemon.url, 0
        copy, pieces = MemoryStore(), store.export_car(root)
        with pytest.raises(DaemonGone):
            copy.import_car(pieces, root)
        assert copy._blocks, "what came before is kept"
        assert not copy.is_complete(root)
        daemon.start()
        proxy.target, proxy.to_client = daemon.url, lambda passing: passing
        assert copy.import_car(store.export_car(root), root).blocks == 33
        assert copy.read(root) == store.read(root) == data
        assert store.export(root, tmp_path / "out") == len(data)
        store.close()


@needs_kubo
def test_a_daemon_that_dies_while_it_is_written(daemon: Kubo) -> None:
    data, seen = os.urandom(24 * MIB), 0

    def kill(passing: bytes) -> bytes:
        nonlocal seen
        seen += len(passing)
        if seen > 8 * MIB:
            daemon.kill()
        return passing

    with Proxy(daemon.url, to_daemon=kill) as proxy:
        store = KuboStore(proxy.url)
        with pytest.raises(DaemonGone):
            store.add_bytes(data)
        daemon.start()
        proxy.target, proxy.to_daemon = daemon.url, lambda passing: passing
        root = MemoryStore().add_bytes(data)
        assert not store.is_complete(root)
        for start in range(0, len(data), MIB):  # whatever it kept is right
            cid = Cid.of(data[start : start + MIB])
            assert not store.has(cid) or store.get(cid) == data[start : start + MIB]
        assert store.add_bytes(data) == root
        assert store.read(root) == data
        store.close()


@needs_kubo
def test_a_daemon_that_lies_is_never_believed(kubo: Kubo, in_kubo: KuboStore, tmp_path: Path) -> None:
    data = TRUTH * 200_000
    root = in_kubo.add_tree({"file": data, "name the truth ": b"small"})
    file = in_kubo.resolve(root, "file")
    with Proxy(kubo.url, to_client=lambda passing: passing.replace(TRUTH, LIE)) as proxy:
        liar = KuboStore(proxy.url)
        for use in (liar.read, liar.get, lambda cid: list(liar.stream(cid)), lambda cid: list(liar.export_car(cid))):
            with pytest.raises(BlockNotFound, match="gave other bytes"):
                use(root if use == liar.get else file)
        with pytest.raises(BlockNotFound, match="gave other bytes"):
            liar.list(root)
        assert not liar.is_complete(root)
        assert not liar.is_complete(file)
        for cid in (root, file):
            with pytest.raises(BlockNotFound, match="gave other bytes"):
                liar.export(cid, tmp_path / "out")
        assert os.listdir(tmp_path) == []  # noqa: PTH208
        liar.close()


@needs_kubo
def test_a_repository_that_rots_is_noticed(kubo: Kubo, in_kubo: KuboStore) -> None:
    data = os.urandom(3 * MIB)
    root = in_kubo.add_bytes(data)
    leaf = Cid.of(data[MIB : 2 * MIB], RAW)
    blocks = [path for path in kubo.repository.glob("blocks/*/*.data") if path.read_bytes() == data[MIB : 2 * MIB]]
    blocks[0].write_bytes(bytes(MIB))
    assert not in_kubo.is_complete(root)
    with pytest.raises(BlockNotFound, match=f"{leaf}.*repo verify"):
        in_kubo.read(root)
    with pytest.raises(BlockNotFound, match=str(leaf)):
        EmbeddedStore(kubo.repository.parent / "other").import_car(in_kubo.export_car(root), root)


class _Stranger(BaseHTTPRequestHandler):
    """Something at the address that is no Kubo of ours: `version` says what it calls itself, `answer` what it sends."""

    version = b'{"Version": "0.43.0"}'
    answer = b"{}"
    times = 1

    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        if "/version" in self.path:
            self.wfile.write(self.version)
            return
        for _ in range(self.times):
            try:
                self.wfile.write(self.answer)
            except OSError:
                return

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[tuple[type[_Stranger], str]]:
    kind = type("Stranger", (_Stranger,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield kind, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_block_without_end_is_cut_off(stranger: tuple[type[_Stranger], str]) -> None:
    kind, url = stranger
    kind.answer, kind.times = bytes(MIB), 1 << 30
    store = KuboStore(url)
    with pytest.raises(DataError, match=str(MAX_BLOCK_BYTES)):
        store.get(Cid.of(b"short"))
    with pytest.raises(DataError, match=str(MAX_BLOCK_BYTES)):
        store.is_complete(Cid.of(b"short"))


@pytest.mark.parametrize("answer", [b"{}", b"[]", b"no JSON", b'{"Stats": {"BlockCount": 0}}', b"", b"null"])
def test_answers_that_make_no_sense_are_errors(stranger: tuple[type[_Stranger], str], answer: bytes) -> None:
    kind, url = stranger
    kind.answer = answer
    with pytest.raises((DaemonRefused, DaemonGone)):
        KuboStore(url).add_bytes(b"data" * 1000)


def test_other_daemons_are_told_apart(stranger: tuple[type[_Stranger], str]) -> None:
    kind, url = stranger
    kind.version = b'{"Version": "0.22.0"}'
    with pytest.raises(ConfigurationError, match=r"0\.40 or newer"):
        KuboStore(url).has(Cid.of(b""))
    kind.version = b'{"Version": "nginx"}'
    with pytest.raises(ConfigurationError, match="not a Kubo"):
        KuboStore(url).has(Cid.of(b""))
    with (
        LoopbackServer(build_gateway(MemoryStore())) as server,
        pytest.raises(ConfigurationError, match=r"Addresses\.API"),
    ):
        KuboStore(server.url).has(Cid.of(b""))
    with pytest.raises(DaemonGone, match="ipfs daemon"):
        KuboStore("http://127.0.0.1:1").has(Cid.of(b""))


def test_addresses(tmp_path: Path) -> None:
    assert parse_address("http://127.0.0.1:5001") == ("/ip4/127.0.0.1/tcp/5001/http", True)
    assert parse_address("http://localhost") == ("/dns/localhost/tcp/5001/http", True)
    assert parse_address("https://ipfs.example/") == ("/dns/ipfs.example/tcp/443/https", False)
    assert parse_address("http://[::1]:5001") == ("/ip6/::1/tcp/5001/http", True)
    assert parse_address("/ip4/10.0.0.1/tcp/5001") == ("/ip4/10.0.0.1/tcp/5001", False)
    for bad in (
        "http://",
        "http://a b:1",
        "http://host:99999",
        "http://host/api/v0",
        "/ip4/1.2.3",
        "http://u:p@host",
        "/ip4/127.0.0.1/udp/1",
    ):
        with pytest.raises(ConfigurationError, match="no address of a Kubo daemon"):
            parse_address(bad)
    opened = open_store("/ip4/127.0.0.1/tcp/5001")
    assert isinstance(opened, KuboStore)
    with pytest.raises(ConfigurationError, match="no address of a Kubo daemon"):
        open_store("ftp://127.0.0.1:5001")
    folder = open_store(str(tmp_path / "s"))
    assert isinstance(folder, EmbeddedStore)
    folder.close()
