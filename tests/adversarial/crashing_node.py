"""A node that is killed, once, between its commitment and its reveal: with its openings in hand and none sent.

Run it in place of `quorate-node`: `python -m tests.adversarial.crashing_node run --home DIR`. Started again on the same
home it behaves.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from quorate_node.cli.main import report
from quorate_node.core.core import Core
from quorate_node.core.instructions import Instruction, SendOpenings
from quorate_node.core.state import Identity, Network, Settings
from quorate_node.core.stimuli import Stimulus
from quorate_node.node import run_node

MARKER = "crashed"


class CrashingCore(Core):
    """Dies by SIGKILL at its first SendOpenings."""

    def __init__(self, identity: Identity, network: Network, settings: Settings, marker: Path) -> None:
        super().__init__(identity, network, settings)
        self._marker = marker

    def handle(self, stimulus: Stimulus) -> list[Instruction]:
        instructions = super().handle(stimulus)
        if any(isinstance(each, SendOpenings) for each in instructions) and not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return instructions


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--home", type=Path, required=True)
    home: Path = parser.parse_args().home

    def make_core(identity: Identity, network: Network, settings: Settings) -> Core:
        return CrashingCore(identity, network, settings, home / MARKER)

    sys.exit(report(lambda: run_node(home, core=make_core)))


if __name__ == "__main__":
    main()
