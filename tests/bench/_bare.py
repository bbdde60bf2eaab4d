"""A process that runs the cloud mask over many tiles with wasmtime's own WASI: what two of them do is the least cost.

Usage: python tests/bench/_bare.py bare|profile SINGLES OUTPUTS, with wasmtime's engine as it comes or with that of the
job profile, which meters fuel and makes all NaNs the same, so that every host gets the same bytes. It compiles, says
that it is ready, and waits for one line with the tiles' names; then it runs them one after the other and tells seconds
of the clock and of the processor.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from _scenes import MODULE, NativeWasi

from quorate_node.executor.wasm import build_engine

ENOUGH_FUEL = 1 << 40


def main() -> None:
    """One round."""
    kind, (singles, outputs) = sys.argv[1], map(Path, sys.argv[2:])
    outputs.mkdir(parents=True, exist_ok=True)
    bare = NativeWasi(MODULE, build_engine(), ENOUGH_FUEL) if kind == "profile" else NativeWasi(MODULE)
    print("ready", flush=True)
    names = sys.stdin.readline().split()
    bare.time(singles / names[0], outputs)
    print("warm", flush=True)
    sys.stdin.readline()
    began, cpu = time.perf_counter(), time.process_time()
    for name in names:
        bare.time(singles / name, outputs)
    taken = {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu, "tiles": len(names)}
    print(json.dumps(taken), flush=True)


if __name__ == "__main__":
    main()
