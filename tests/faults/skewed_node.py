"""A node whose host's clock is wrong by some seconds, and drifts back and forth by a few.

Run it in place of `quorate-node`: `python -m tests.faults.skewed_node SECONDS run --home DIR`.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

from quorate_node.cli.main import report
from quorate_node.node import run_node

DRIFT_S = 5.0


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--home", type=Path, required=True)
    given = parser.parse_args()
    true = time.time
    time.time = lambda: true() + given.seconds + DRIFT_S * math.sin(true())
    sys.exit(report(lambda: run_node(given.home)))


if __name__ == "__main__":
    main()
