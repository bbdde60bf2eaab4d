"""A node whose core lies: honest in its first job, then it votes for a root that nobody computed.

Run it in place of `quorate-node`: `python -m tests.adversarial.lying_node run --home DIR`. It lies in the committee
and in the class vote about it alike, always with the same wrong root, as a liar that hopes to get away with it would.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from quorate.protocol.hashing import keccak
from quorate.protocol.types import JobId, Stage, Vote
from quorate_node.cli.main import report
from quorate_node.core.core import Core
from quorate_node.core.state import BundleKey, Identity, Network, Settings, Work
from quorate_node.node import run_node


class LyingCore(Core):
    """Votes wrongly from its second job on. It knows a job again by its id, also in the class vote."""

    def __init__(self, identity: Identity, network: Network, settings: Settings) -> None:
        super().__init__(identity, network, settings)
        self._first: JobId | None = None
        self._lied_about: set[JobId] = set()

    def choose_vote(self, key: BundleKey, work: Work, stage: Stage) -> Vote:
        honest = super().choose_vote(key, work, stage)
        if stage is Stage.CLASS_VOTE and work.job_id not in self._lied_about:
            return honest  # somebody else is accused
        self._first = self._first or work.job_id
        if work.job_id == self._first:
            return honest
        self._lied_about.add(work.job_id)
        return Vote(keccak(b"a lie about " + honest))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--home", type=Path, required=True)
    home = parser.parse_args().home
    sys.exit(report(lambda: run_node(home, core=LyingCore)))


if __name__ == "__main__":
    main()
