"""Build the example programs: C by `ziglang` to WASM, whose bytes are the same on every machine, and to native code.

    python client/examples/build.py             rebuild each NAME/NAME.wasm in place
    python client/examples/build.py --check     rebuild elsewhere and compare; exit 1 if a committed .wasm differs
    python client/examples/build.py --native D  static binaries into D, for comparisons of speed

The version of the compiler decides the bytes: it stands in scripts/lock.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
FLAGS = ("-std=c17", "-O2", "-s", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off")
# The stack lies below the data, so that overflowing it traps instead of overwriting the data; 1 MiB instead of 16.
WASM_FLAGS = ("-target", "wasm32-wasi", "-Wl,-z,stack-size=1048576")
NATIVE_FLAGS = ("-target", "x86_64-linux-musl", "-static")


def sources() -> list[Path]:
    """Every example's source: NAME/NAME.c."""
    return sorted(path for path in EXAMPLES.glob("*/*.c") if path.stem == path.parent.name)


def compile_source(source: Path, output: Path, flags: Sequence[str]) -> None:
    """Compile one file; paths are relative so that none of the machine's own reaches the output."""
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *flags, source.name, "-lm", "-o", str(output.resolve())]
    subprocess.run(command, cwd=source.parent, check=True)


def build_wasm() -> int:
    """Rebuild in place."""
    for source in sources():
        output = source.with_suffix(".wasm")
        compile_source(source, output, WASM_FLAGS)
        print(f"{output.relative_to(EXAMPLES)}: {output.stat().st_size} bytes")
    return 0


def check_wasm() -> int:
    """Compare the committed files with fresh ones; 1 if any differs."""
    stale = 0
    with tempfile.TemporaryDirectory() as folder:
        for source in sources():
            fresh, committed = Path(folder, f"{source.stem}.wasm"), source.with_suffix(".wasm")
            compile_source(source, fresh, WASM_FLAGS)
            if not committed.exists() or committed.read_bytes() != fresh.read_bytes():
                stale += 1
                print(f"{committed.relative_to(EXAMPLES)} is not what its source builds: run {Path(__file__).name}")
    print(f"{len(sources()) - stale} of {len(sources())} examples rebuild to the same bytes")
    return 1 if stale else 0


def build_native(folder: Path) -> int:
    """Static Linux binaries, which take the input and the output directory as arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources():
        compile_source(source, folder / source.stem, NATIVE_FLAGS)
    return 0


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="compare with the committed files")
    choice.add_argument("--native", metavar="DIR", type=Path, help="build static native binaries into DIR")
    options = parser.parse_args()
    if options.check:
        return check_wasm()
    return build_native(options.native) if options.native else build_wasm()


if __name__ == "__main__":
    sys.exit(main())
