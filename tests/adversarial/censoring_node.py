"""A node whose collator loses the commitments of some operators, and is honest otherwise.

Run it in place of `quorate-node`: `python -m tests.adversarial.censoring_node --victims 4-6 run --home DIR`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.adversarial.farm_node import parse_ids

from quorate_node.cli.main import report
from quorate_node.core.core import Core
from quorate_node.core.instructions import Instruction
from quorate_node.core.state import Identity, Network, Settings
from quorate_node.core.stimuli import CommitListReceived, Stimulus
from quorate_node.node import run_node


class CensoringCore(Core):
    """Takes signed lists of its victims, says so, and forgets them."""

    def __init__(self, identity: Identity, network: Network, settings: Settings, victims: frozenset[int]) -> None:
        super().__init__(identity, network, settings)
        self._victims = victims

    def handle(self, stimulus: Stimulus) -> list[Instruction]:
        if isinstance(stimulus, CommitListReceived):
            batch = self.state.chain.batches.get(stimulus.batch_id)
            if batch and batch.table.members[stimulus.commit_list.member].operator_id in self._victims:
                return []
        return super().handle(stimulus)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--victims", type=parse_ids, required=True)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--home", type=Path, required=True)
    options = parser.parse_args()

    def make_core(identity: Identity, network: Network, settings: Settings) -> Core:
        return CensoringCore(identity, network, settings, options.victims)

    sys.exit(report(lambda: run_node(options.home, core=make_core)))


if __name__ == "__main__":
    main()
