"""Build node/quorate_node/filecoin/tree.wasm from tree.c by `ziglang`: the same bytes on every machine.

    python scripts/lib/treewasm.py             rebuild it in place
    python scripts/lib/treewasm.py --check     rebuild it elsewhere and compare; exit 1 if the committed file differs

The version of the compiler decides the bytes: it stands in scripts/lock.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "node" / "quorate_node" / "filecoin"
FLAGS = ("-std=c17", "-O2", "-s", "-Wall", "-Wextra", "-Werror", "-target", "wasm32-freestanding", "-msimd128")
LINKING = ("-nostdlib", "-Wl,--no-entry")


def build(output: Path) -> None:
    """Compile it; the source's path is relative so that none of the machine's own reaches the output."""
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *LINKING, "tree.c", "-o", str(output.resolve())]
    subprocess.run(command, cwd=FOLDER, check=True)
    output.chmod(0o644)


def main() -> int:
    """Command line."""
    committed = FOLDER / "tree.wasm"
    if sys.argv[1:] != ["--check"]:
        build(committed)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        build(fresh := Path(scratch, "tree.wasm"))
        if committed.read_bytes() != fresh.read_bytes():
            print("tree.wasm is not what tree.c builds: run python scripts/lib/treewasm.py", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
