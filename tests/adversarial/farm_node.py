"""A node with several operators of which some do not play by the rules, each with a core of its own.

Run it in place of `quorate-node`: `python -m tests.adversarial.farm_node --core lying:3-5,9 run --home DIR` gives the
operators with ids 3, 4, 5 and 9 the core `lying`; all others are honest. `--core` may be given several times.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.adversarial.lying_node import LyingCore

from quorate_node.cli.main import report
from quorate_node.core.core import Core
from quorate_node.core.state import Identity, Network, Settings
from quorate_node.node import CoreType, run_node

STRATEGIES: Mapping[str, CoreType] = {"lying": LyingCore}


def parse_rule(text: str) -> tuple[CoreType, frozenset[int]]:
    """`NAME:IDS` with ids as in 3-5,9."""
    name, _, ids = text.partition(":")
    chosen: set[int] = set()
    for part in ids.split(","):
        first, _, last = part.partition("-")
        chosen |= set(range(int(first), int(last or first) + 1))
    return STRATEGIES[name], frozenset(chosen)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", action="append", default=[], type=parse_rule)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--home", type=Path, required=True)
    options = parser.parse_args()

    def make_core(identity: Identity, network: Network, settings: Settings) -> Core:
        for make, ids in options.core:
            if identity.operator_id in ids:
                found: Core = make(identity, network, settings)
                return found
        return Core(identity, network, settings)

    sys.exit(report(lambda: run_node(options.home, core=make_core)))


if __name__ == "__main__":
    main()
