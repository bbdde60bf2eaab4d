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
from quorate_node.core.mind import Answer
from quorate_node.core.state import Identity, Network, Settings, Work
from quorate_node.core.views import BundleKey, Dispute, find_member
from quorate_node.node import run_node


class LyingCore(Core):
    """Votes wrongly from its second job on, and stands by it when the class is asked."""

    def __init__(self, identity: Identity, network: Network, settings: Settings) -> None:
        super().__init__(identity, network, settings)
        self._first: JobId | None = None

    def choose_vote(self, key: BundleKey, work: Work, stage: Stage) -> Answer:
        honest = work.root
        assert honest is not None
        self._first = self._first or work.job_id
        if work.job_id == self._first or stage is Stage.AUDIT:
            return honest
        return self._lie(honest)

    def choose_answer(self, dispute: Dispute, honest: Vote) -> Answer:
        return stand_by(dispute, self.state.identity.operator_id, honest)

    def _lie(self, honest: Vote) -> Vote:
        return Vote(keccak(b"a lie about " + honest))


def stand_by(dispute: Dispute, operator_id: int, honest: Vote) -> Vote:
    """The answer of the root that this operator voted for in its seat; the honest one if somebody else is accused."""
    mine = find_member(dispute.table, operator_id)
    roots = dict(dispute.record.votes)
    if mine not in roots or dispute.question is None:
        return honest
    return dispute.question.answers[dispute.record.roots.index(roots[mine])]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--home", type=Path, required=True)
    home = parser.parse_args().home
    sys.exit(report(lambda: run_node(home, core=LyingCore)))


if __name__ == "__main__":
    main()
