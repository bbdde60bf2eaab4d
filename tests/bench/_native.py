"""A process that runs the cloud mask with wasmtime's own WASI, once for each line on standard input.

What two of them do at once beside one tells how much of a second worker this machine can give to anybody.
Usage: python tests/bench/_native.py SCENE OUTPUTS FUEL
"""

from __future__ import annotations

import sys
from pathlib import Path

from _scenes import MODULE, NativeWasi

from quorate_node.executor.wasm import build_engine


def main() -> None:
    """Answer each line with the seconds of a run, the first one unasked."""
    scene, outputs, fuel = sys.argv[1:]
    native = NativeWasi(MODULE, build_engine(), int(fuel))
    Path(outputs).mkdir(exist_ok=True)
    print(native.time(Path(scene), Path(outputs)), flush=True)
    for _ in sys.stdin:
        print(native.time(Path(scene), Path(outputs)), flush=True)


if __name__ == "__main__":
    main()
