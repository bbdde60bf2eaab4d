"""A node that is killed, once: between its commitment and its reveal, with its openings in hand and none sent; or when
one of its operators first votes as a member of the class, with that vote neither written down nor sent.

Run it in place of `quorate-node`: `python -m tests.adversarial.crashing_node [--before class-vote] run --home DIR`.
Started again on the same home it behaves.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from quorate.protocol.types import Stage
from quorate_node.cli.main import report
from quorate_node.core.core import Core
from quorate_node.core.instructions import Instruction, JournalCommit, SendOpenings
from quorate_node.core.state import Identity, Network, Settings
from quorate_node.core.stimuli import Stimulus
from quorate_node.node import run_node

MARKER = "crashed"
LAST: dict[str, Callable[[Instruction], bool]] = {
    "openings": lambda each: isinstance(each, SendOpenings),
    "class-vote": lambda each: isinstance(each, JournalCommit) and each.stage is Stage.CLASS_VOTE,
}
"""What it decides to do, and does no more."""


class CrashingCore(Core):
    """Dies by SIGKILL at the first instruction that `is_last` holds for."""

    def __init__(
        self,
        identity: Identity,
        network: Network,
        settings: Settings,
        marker: Path,
        is_last: Callable[[Instruction], bool],
    ) -> None:
        super().__init__(identity, network, settings)
        self._marker, self._is_last = marker, is_last

    def handle(self, stimulus: Stimulus) -> list[Instruction]:
        instructions = super().handle(stimulus)
        if any(map(self._is_last, instructions)) and not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return instructions


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", choices=sorted(LAST), default="openings")
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--home", type=Path, required=True)
    options = parser.parse_args()
    home: Path = options.home

    def make_core(identity: Identity, network: Network, settings: Settings) -> Core:
        return CrashingCore(identity, network, settings, home / MARKER, LAST[options.before])

    sys.exit(report(lambda: run_node(home, core=make_core)))


if __name__ == "__main__":
    main()
