"""Filecoin: how fast a piece is read that is paid and verified chunk by chunk, and how fast a piece CID is computed.

Reading is by a process of its own from the shipped provider, another one, over loopback, with a chain on which rails
are; then once more with the reader killed twice and the provider once, and what was paid is added up. The piece CID is
computed beside the plain loop over hashlib: both run by turns over the same bytes from a file, ours as `quorate-node
filecoin piece-cid` does, the loop over as much of it as it does in a few seconds, on one core as Python has it. Their
roots over that part must be the same.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from _bench import Bench, median, whole
from _streaming import Trade, trading

from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.piecetree import CHUNK_BYTES, compute_piece
from quorate_node.filecoin import hashing

MIB = 1 << 20


def write_file(path: Path, size: int, seed: int) -> None:
    """Bytes of which no two MiB are alike."""
    with path.open("wb") as file:
        for number in range(size // MIB):
            file.write(hashlib.shake_128(f"{seed} {number}".encode()).digest(MIB))


def read_first(path: Path, chunks: int) -> Iterator[bytes]:
    """The first chunks of a file."""
    with path.open("rb", buffering=0) as file:
        yield from islice(iter(lambda: file.read(CHUNK_BYTES), b""), chunks)


def read_peak() -> int:
    """KiB that this process held at most, since it was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure(bench: Bench, path: Path) -> None:
    """Rows of `pieces`: who, bytes, seconds of the clock and of the processor, and KiB of growth."""

    def ours() -> PieceCid:
        return hashing.hash_stream(hashing.read_parts(path))

    def plain() -> PieceCid:
        return compute_piece(read_first(path, bench.args.plain_chunks))

    for number in range(bench.args.rounds):
        for name, work in (("ours", ours), ("plain", plain)):
            Path("/proc/self/clear_refs").write_text("5")
            before, cpu, began = read_peak(), time.process_time(), time.perf_counter()
            piece = work()
            row = {"round": number, "what": name, "bytes": piece.size_bytes}
            row |= {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
            bench.record("pieces", row | {"growth_kib": read_peak() - before, "cid": str(piece.v2)})
            bench.say(f"  {name}: {row['bytes'] / row['seconds'] / 1e6:,.1f} MB/s")


def stream(bench: Bench, trade: Trade, size: int) -> None:
    """Rows of `streams`, each a whole piece, and one of `cuts`: base units that came and went."""
    for number in range(bench.args.streams):
        row = trade.measure()
        bench.record("streams", {"round": number} | row)
        bench.say(f"  stream: {row['bytes'] / row['seconds'] / 1e6:,.1f} MB/s")
    port = int(trade.provider.url.rpartition(":")[2])
    bench.record("cuts", {"price": row["paid"], "size": size} | trade.cut_and_resume(size, port))


def is_same(path: Path, chunks: int) -> bool:
    """Whether both give the same piece over the part that the plain loop does."""
    plain, fast = compute_piece(read_first(path, chunks)), hashing.hash_stream(read_first(path, chunks))
    return plain == fast


def figure(bench: Bench) -> dict[str, Any]:
    """From the rows alone."""
    rows = bench.rows("pieces")

    def rates(what: str, clock: str) -> list[float]:
        return [row["bytes"] / row[clock] / 1e6 for row in rows if row["what"] == what]

    pairs = zip(rates("ours", "seconds"), rates("plain", "seconds"), strict=True)
    streams, (cut,) = bench.rows("streams"), bench.rows("cuts")
    return {
        "stream_mb_s": median((row["bytes"] / row["seconds"] / 1e6 for row in streams), 1),
        "stream_bytes": streams[0]["bytes"],
        "rss_growth_mb": {
            "provider": round(max(row["provider_growth_kib"] for row in streams) / 1024, 1),
            "reader": round(max(row["growth_kib"] for row in streams) / 1024, 1),
        },
        "paid_twice": max(cut["taken"], cut["delivered"], cut["spent"]) - cut["price"],
        "piece_cid_mb_s": median(rates("ours", "seconds"), 1),
        "piece_cid_mb_s_a_core": median(rates("ours", "cpu_seconds"), 1),
        "plain_mb_s": median(rates("plain", "seconds"), 1),
        "piece_cid_ratio": median((ours / plain for ours, plain in pairs), 2),
        "piece_cid_threads": hashing.count_cores(),
        "piece_cid_rss_growth_mb": round(max(row["growth_kib"] for row in rows if row["what"] == "ours") / 1024, 1),
    }


def main() -> int:
    bench = Bench(
        "filecoin",
        __doc__ or "",
        {
            "--size": {"type": whole(8), "default": 1024, "metavar": "MIB", "help": "the file (default: %(default)s)"},
            "--plain-chunks": {"type": whole(2), "default": 64, "help": "chunks of 1,040,384 B for the plain loop"},
            "--rounds": {"type": whole(1), "default": 3, "help": "turns of each (default: %(default)s)"},
            "--streams": {
                "type": whole(1),
                "default": 3,
                "help": "times that the piece is read (default: %(default)s)",
            },
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "piece")
        write_file(path, bench.args.size * MIB, bench.args.seed)
        measure(bench, path)
        with trading(Path(folder), path) as trade:
            stream(bench, trade, bench.args.size * MIB)
        if not is_same(path, 3):
            bench.say("bench: the two give different pieces")
            return 1
    bench.finish(figure(bench))
    return 0


if __name__ == "__main__":
    sys.exit(main())
