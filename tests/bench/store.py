"""The store: importing a large file, fetching it verified over loopback, and many small blocks.

Importing runs by turns with a plain sha256 over the same file, fetching with `curl` of the same answer to a file; what
is imported is durable when it is counted. Server and client are processes of their own, whose peak memory is read from
the kernel, reset before each fetch.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from _bench import Bench, median, whole

from quorate.storage import adding
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.unixfs import profile_named

MIB = 1 << 20
SMALL_BYTES, SMALL_BATCH = 1024, 1000
SERVER = """
import sys, time
from pathlib import Path
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import build_gateway
from quorate.storage.serve import LoopbackServer
with LoopbackServer(build_gateway(EmbeddedStore(Path(sys.argv[1])))) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""
CLIENT = """
import sys, time
from pathlib import Path
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.fetch import fetch_dag
store = EmbeddedStore(Path(sys.argv[1]))
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
Path("/proc/self/clear_refs").write_text("5")
before, began = peak(), time.perf_counter()
report = fetch_dag(store, Cid.parse(sys.argv[3]), [sys.argv[2]])
print(time.perf_counter() - began, report.bytes, peak() - before)
"""


def write_file(path: Path, size: int, seed: int) -> None:
    """Bytes of which no two MiB are alike."""
    with path.open("wb") as file:
        for number in range(size // MIB):
            file.write(hashlib.shake_128(f"{seed} {number}".encode()).digest(MIB))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def hash_plainly(path: Path) -> bytes:
    digest, buffer = hashlib.sha256(), bytearray(MIB)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.digest()


def import_by_reference(folder: Path, path: Path) -> Cid:
    with closing(EmbeddedStore(folder)) as store:
        return store.add_path(path)


class _Copying:
    """A session that refers to nobody's files."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def put(self, cid: Cid, block: bytes, *, is_chunk: bool = False) -> None:
        self._session.put(cid, block, is_chunk=is_chunk)

    def refer(self, cid: Cid, path: Path, offset: int, length: int) -> bool:
        return False


def import_a_copy(folder: Path, path: Path) -> Cid:
    with closing(EmbeddedStore(folder)) as store, store.session() as session:
        return adding.add_path(_Copying(session), path, profile_named("unixfs-v1-2025")).cid  # type: ignore[arg-type]


def add_small(folder: Path, count: int) -> None:
    with closing(EmbeddedStore(folder)) as store:
        for first in range(0, count, SMALL_BATCH):
            with store.adding() as additions:
                for number in range(first, first + SMALL_BATCH):
                    additions.put_raw(number.to_bytes(8, "big") * (SMALL_BYTES // 8))


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, int]]:
    """A gateway over a store in a process of its own: URL and process id."""
    command = [sys.executable, "-c", SERVER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.pid
        assert process.stdin is not None
        process.stdin.close()


def read_peak(pid: int) -> int:
    """KiB, since it was reset."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure_imports(bench: Bench, home: Path, path: Path) -> Cid:
    root: Cid | None = None
    for number in range(bench.args.rounds):
        for name, work in (
            ("sha256", lambda: hash_plainly(path)),
            ("import", lambda: import_by_reference(home / "reference", path)),
            ("copy", lambda: import_a_copy(home / "copy", path)),
        ):
            for old in ("reference", "copy"):
                if name != "sha256":
                    shutil.rmtree(home / old, ignore_errors=True)
            seconds, found = timed(work)
            bench.record("imports", {"round": number, "what": name, "seconds": seconds, "bytes": path.stat().st_size})
            root = found if name == "import" else root
    assert root is not None
    return root


def measure_fetches(bench: Bench, home: Path, root: Cid) -> None:
    with serving(home / "donor") as (url, pid):
        for number in range(bench.args.rounds):
            shutil.rmtree(home / "client", ignore_errors=True)
            Path(f"/proc/{pid}/clear_refs").write_text("5")
            before = read_peak(pid)
            command = [sys.executable, "-c", CLIENT, str(home / "client"), url, str(root)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds, received, growth = done.stdout.split()
            row = {"round": number, "what": "fetch", "seconds": float(seconds), "bytes": int(received)}
            row |= {"client_kib": int(growth), "server_kib": read_peak(pid) - before}
            bench.record("fetches", row)
            target = home / "curled"
            car = f"{url}/ipfs/{root}?format=car&dag-scope=all"
            spent, _ = timed(lambda: subprocess.run(["curl", "-sf", "-o", str(target), car], check=True))  # noqa: B023  (called at once)
            row = {"round": number, "what": "curl", "seconds": spent, "bytes": target.stat().st_size}
            bench.record("fetches", row)
            target.unlink()


def figure(bench: Bench) -> dict[str, Any]:
    """From the rows alone."""

    def rate(kind: str, what: str) -> float:
        return median(row["bytes"] / row["seconds"] for row in bench.rows(kind) if row["what"] == what)

    def ratio(kind: str, ours: str, theirs: str) -> float:
        rows = bench.rows(kind)
        pairs = ({row["what"]: row for row in rows if row["round"] == n} for n in range(bench.args.rounds))
        return median(
            (pair[ours]["bytes"] / pair[ours]["seconds"]) / (pair[theirs]["bytes"] / pair[theirs]["seconds"])
            for pair in pairs
        )

    fetches = [row for row in bench.rows("fetches") if row["what"] == "fetch"]
    return {
        "import_gb_s": round(rate("imports", "import") / 1e9, 3),
        "import_ratio_to_sha256": ratio("imports", "import", "sha256"),
        "import_copy_gb_s": round(rate("imports", "copy") / 1e9, 3),
        "fetch_mb_s": round(rate("fetches", "fetch") / 1e6, 1),
        "fetch_ratio_to_curl": ratio("fetches", "fetch", "curl"),
        "rss_growth_mb": {
            "server": round(max(row["server_kib"] for row in fetches) / 1024, 1),
            "client": round(max(row["client_kib"] for row in fetches) / 1024, 1),
        },
        "small_blocks_s": round(median(row["blocks"] / row["seconds"] for row in bench.rows("small"))),
    }


def main() -> None:
    bench = Bench(
        "store",
        "Import, fetch and small blocks of the embedded store.",
        {
            "--mib": {"type": whole(1), "default": 1024, "help": "size of the file (default: %(default)s)"},
            "--rounds": {"type": whole(1), "default": 3, "help": "repetitions (default: %(default)s)"},
            "--blocks": {"type": whole(SMALL_BATCH), "default": 100_000, "help": "small blocks (default: %(default)s)"},
            "--folder": {"type": Path, "default": None, "help": "where to work (a temporary folder)"},
        },
    )
    with tempfile.TemporaryDirectory(dir=bench.args.folder) as folder:
        home = Path(folder)
        path = home / "large"
        bench.say(f"writing {bench.args.mib} MiB")
        write_file(path, bench.args.mib * MIB, bench.args.seed)
        os.sync()
        hash_plainly(path)  # so that all read from the page cache
        bench.say("importing, by turns with sha256")
        root = measure_imports(bench, home, path)
        import_by_reference(home / "donor", path)
        bench.say("fetching, by turns with curl")
        measure_fetches(bench, home, root)
        for number in range(bench.args.rounds):
            shutil.rmtree(home / "small", ignore_errors=True)
            seconds, _ = timed(lambda: add_small(home / "small", bench.args.blocks))
            bench.record("small", {"round": number, "seconds": seconds, "blocks": bench.args.blocks})
        bench.finish(figure(bench))


if __name__ == "__main__":
    main()
