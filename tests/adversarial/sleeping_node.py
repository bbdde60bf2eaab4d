"""A node whose collator takes orders, says so, and never posts any. It does all else as it should.

Run it in place of `quorate-node`: `python -m tests.adversarial.sleeping_node run --home DIR`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from quorate_node.cli.main import report
from quorate_node.core.core import Core
from quorate_node.core.instructions import Instruction, Post
from quorate_node.core.stimuli import Stimulus
from quorate_node.node import run_node


class SleepingCore(Core):
    """Drops what it decides to post."""

    def handle(self, stimulus: Stimulus) -> list[Instruction]:
        return [each for each in super().handle(stimulus) if not isinstance(each, Post)]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--home", type=Path, required=True)
    home: Path = parser.parse_args().home
    sys.exit(report(lambda: run_node(home, core=SleepingCore)))


if __name__ == "__main__":
    main()
