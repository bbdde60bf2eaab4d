"""A node that dies at steps which are armed for it: see `tests.faults.steps`; `tests.faults.walk` arms them.

Run it in place of `quorate-node`: `python -m tests.faults.dying_node FOLDER run --home DIR`. FOLDER holds what is armed
and what was seen, for all nodes of a network. A HOME with a file `mutant` has a fault planted that the walk must find:
`journal`: votes are not written down; with `forgetful` it does not look for what it has lost on the chain either.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.steps import Steps

from quorate_node import node
from quorate_node.cli.main import report
from quorate_node.core import seats
from quorate_node.core.core import Core
from quorate_node.core.instructions import Instruction
from quorate_node.core.state import Identity, Network, Settings, State
from quorate_node.journal import Journal

MUTANT = "mutant"
COMMITTED = "-committed"


def has_committed(state: State) -> bool:
    """Whether a vote of this operator stands on the chain and is not opened there: its opening must not be lost."""
    for batch in list(state.chain.batches.values()):
        current = batch.round
        groups = state.own.groups.get(current.domain, ()) if current and current.domain else ()
        for group in groups:
            for secret in group.secrets:
                is_pending = secret.bundle in batch.pending and not secret.is_abstention
                if is_pending and current and (secret.bundle, secret.seat) in current.committed:
                    return True
    return False


def plant(kind: str) -> None:
    """Take away what a node relies on."""
    Journal.append = lambda self, group: None  # type: ignore[method-assign]
    if kind == "forgetful":
        decide = seats._decide_votes

        def decide_in_time(state: State, batch: Any, *rest: Any) -> Iterator[Instruction]:
            if not seats.is_past(state, batch, 2):
                yield from decide(state, batch, *rest)

        seats._decide_votes = decide_in_time


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--home", type=Path, required=True)
    given = parser.parse_args()
    cores: list[Core] = []

    def make_core(identity: Identity, network: Network, settings: Settings) -> Core:
        cores.append(Core(identity, network, settings))
        return cores[-1]

    mutant = given.home / MUTANT
    if mutant.exists():
        plant(mutant.read_text())
    Steps(given.folder, given.home, lambda: COMMITTED if any(has_committed(c.state) for c in cores) else "").install()
    sys.exit(report(lambda: node.run_node(given.home, core=make_core)))


if __name__ == "__main__":
    main()
