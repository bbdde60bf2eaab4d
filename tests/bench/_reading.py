"""A reader in a process of its own, for the benchmark: FOLDER PIECE DEST [DIE_AFTER_BYTES].

It retrieves PIECE with providers, limit and wallet of FOLDER, prints one JSON object, and with DIE_AFTER_BYTES kills
itself as soon as so many have come.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from quorate.filecoin.retrieval.opening import open_reader
from quorate.filecoin.retrieval.options import ReaderOptions
from quorate.filecoin.retrieval.wanted import parse_wanted
from quorate_node.filecoin.hashing import hasher

PASSPHRASE = b"bench"


def read_kib(name: str, pid: int | str = "self") -> int:
    """VmRSS or VmHWM of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def main(folder: str, piece: str, dest: str, die_after: str = "0") -> None:
    """What came, how fast, and what it took."""
    left = int(die_after)

    def on_bytes(count: int) -> None:
        nonlocal left
        if left:
            left -= count
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    with hasher() as found:
        reader = open_reader(Path(folder), ReaderOptions(), lambda file: PASSPHRASE, found.compute, on_bytes)
        reader.quote(parse_wanted(piece))  # all code is loaded
        before, began, cpu = read_kib("VmRSS"), time.perf_counter(), time.process_time()
        report = reader.bring_piece(parse_wanted(piece), Path(dest))
        row = {"bytes": report.bytes, "paid": report.paid, "seconds": time.perf_counter() - began}
        row |= {"cpu_seconds": time.process_time() - cpu, "growth_kib": read_kib("VmHWM") - before}
    print(json.dumps(row))


if __name__ == "__main__":
    main(*sys.argv[1:])
