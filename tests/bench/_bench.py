"""What all benchmarks share: arguments, raw rows that are kept, and one JSON object at the end."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts" / "lib"))  # benchmarks read scenes and draw as demos do


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Type of an argument: a whole number within bounds."""
    bounds = f"a whole number from {least} " + ("on" if most is None else f"to {most}")

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not {bounds}") from error
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text} is not {bounds}")
        return number

    return parse


def share(text: str) -> float:
    """Type of an argument: a part of a whole, which may be nothing but not all."""
    try:
        number = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
    if not 0 <= number < 1:  # nan is neither
        raise argparse.ArgumentTypeError(f"{text} is not at least 0 and below 1")
    return number


class Bench:
    """One run of a benchmark.

    Rows go to out/bench/NAME/*.jsonl as they are measured; figures are to be computed from `rows` alone, so that
    whoever doubts a figure can recompute it from the file. `check` says what is wrong with arguments together.
    """

    def __init__(
        self,
        name: str,
        description: str,
        arguments: Mapping[str, Mapping[str, Any]] | None = None,
        check: Callable[[argparse.Namespace], str | None] | None = None,
    ) -> None:
        parser = argparse.ArgumentParser(prog=f"scripts/bench {name}", description=description)
        parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
        parser.add_argument("--seed", type=int, default=1, help="seed of all that is random (default: %(default)s)")
        for flag, options in (arguments or {}).items():
            parser.add_argument(flag, **options)
        self.args = parser.parse_args()
        self.name, self.prefix = name, ""
        self.folder = ROOT / "out" / "bench" / name
        if check is not None and (problem := check(self.args)):
            parser.error(problem)
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob("*.jsonl"):
            old.unlink()

    def keep_as(self, label: str) -> None:
        """Keep rows in out/bench/NAME-LABEL-KIND.jsonl instead: runs of other labels stay as they are."""
        self.prefix, self.folder = f"{self.name}-{label}-", self.folder.parent
        for old in self.folder.glob(f"{self.prefix}*.jsonl"):
            old.unlink()

    def path(self, kind: str) -> Path:
        """File of a kind of rows."""
        return self.folder / f"{self.prefix}{kind}.jsonl"

    def record(self, kind: str, row: Mapping[str, Any]) -> None:
        """Append one measurement to KIND.jsonl."""
        with self.path(kind).open("a") as file:
            file.write(json.dumps(row, sort_keys=True) + "\n")

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """All rows of KIND.jsonl, read back from the file."""
        path = self.path(kind)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def say(self, text: str) -> None:
        """Progress, on stderr."""
        print(text, file=sys.stderr, flush=True)

    def finish(self, figures: Mapping[str, Any]) -> None:
        """Print a table, and with --json the object that others parse."""
        for name, value in figures.items():
            self.say(f"  {name:<28} {json.dumps(value) if isinstance(value, dict) else value}")
        if self.args.json:
            meta = {"commit": _commit(), "seed": self.args.seed, "argv": sys.argv[1:], "cpu": _cpu()}
            print(json.dumps({**figures, **meta}))


def median(values: Iterable[float], digits: int = 4) -> float:
    """Median, rounded for reading."""
    return round(statistics.median(values), digits)


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} × {len(names)}" if names else platform.machine()
