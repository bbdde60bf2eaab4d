"""A node of which some operators do not play by the rules: they know each other, and follow one `Strategy`.

Run it in place of `quorate-node`: `python -m tests.adversarial.farm_node --liars 3-5,9 --strategy always_lie run
--home DIR`. All other operators of the node are honest. With `--profile NAME` it runs classes of that profile too,
whose results are others: those that the strategy gives.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from tests.adversarial.strategies import STRATEGIES, Act, Said, Sight, Strategy

from quorate.protocol.commitment import compute_statement
from quorate.protocol.hashing import keccak
from quorate.protocol.spec import WASM_PROFILE
from quorate.protocol.types import AbstainReason, DisputeKind, Stage, Vote
from quorate_node.cli.main import report
from quorate_node.core.core import Core
from quorate_node.core.mind import Answer
from quorate_node.core.rounds import get_committee
from quorate_node.core.state import Identity, Network, Secret, Settings, Work
from quorate_node.core.views import Batch, BundleKey, Dispute, Round
from quorate_node.node import run_node


class StrategicCore(Core):
    """A liar's core: honest in everything but what its strategy says; `liars` are operator ids, its own included."""

    def __init__(
        self, identity: Identity, network: Network, settings: Settings, strategy: Strategy, liars: frozenset[int]
    ) -> None:
        super().__init__(identity, network, settings)
        self._strategy, self._liars = strategy, liars
        self._said: dict[bytes, Said] = {}  # by statement

    def choose_vote(self, key: BundleKey, work: Work, stage: Stage) -> Answer:
        honest = work.root
        assert honest is not None
        batch = self.state.chain.batches[key[0]]
        if stage is Stage.AUDIT:
            return self._audit(batch, key[1], honest)
        current = batch.round
        assert current is not None
        assert current.domain is not None
        said = self._say(batch, current, current.domain, key[1], honest)
        match said.act:
            case Act.SILENT:
                return None
            case Act.ABSTAIN:
                return AbstainReason.OTHER
        return said.vote or honest

    def shows(self, secret: Secret) -> bool:
        said = self._said.get(secret.statement)
        return said is None or said.act is not Act.HIDE

    def choose_answer(self, dispute: Dispute, honest: Vote) -> Answer:
        question, roots = dispute.question, dispute.record.roots
        assert question is not None
        answers = dict(zip(roots, question.answers, strict=True))
        root = next((root for root, answer in answers.items() if answer == honest), None)
        work = self.state.own.work.get(dispute.key)
        root = root or (work.root if work else None)
        if root is None:  # nobody in the dispute has our honest root: the liars stand by what they had accepted
            return answers[dispute.record.votes[0][1]] if self._is_ours(dispute) else honest
        wanted = self._strategy.class_vote(self.state.identity.operator_id, root, roots)
        return None if wanted is None else answers.get(wanted, honest)

    def _is_ours(self, dispute: Dispute) -> bool:
        voters = {dispute.table.members[member].operator_id for member, _ in dispute.record.votes}
        return dispute.record.kind is not DisputeKind.CONFLICT and voters <= self._liars

    def _audit(self, batch: Batch, bundle: int, honest: Vote) -> Vote:
        row = batch.outcomes[bundle].row
        is_ours = self._liars >= {batch.table.members[member].operator_id for member in row.voters}
        return row.vote if is_ours else honest

    def _say(self, batch: Batch, current: Round, domain: bytes, bundle: int, honest: Vote) -> Said:
        statement = compute_statement(domain, bundle)
        if statement not in self._said:
            committee = tuple(batch.table.members[member].operator_id for member in get_committee(batch, bundle))
            record = batch.bundles[bundle].record
            standing = tuple((batch.table.members[m].operator_id, record.vote or honest) for m in record.voters)
            era = self.state.chain.head.timestamp // self.state.network.params.era_period
            sight = Sight((batch.id, bundle), current.number, era, honest, committee, self._liars, standing)
            seat = committee.index(self.state.identity.operator_id)
            self._said[statement] = self._strategy.say(sight, seat)
        return self._said[statement]


def parse_ids(text: str) -> frozenset[int]:
    """Ids as in 3-5,9."""
    chosen: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        chosen |= set(range(int(first), int(last or first) + 1))
    return frozenset(chosen)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--liars", type=parse_ids, default=frozenset())
    parser.add_argument("--strategy", choices=sorted(STRATEGIES), default="always_lie")
    parser.add_argument("--profile", default=WASM_PROFILE)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--home", type=Path, required=True)
    options = parser.parse_args()
    strategy = STRATEGIES[options.strategy]()

    def make_core(identity: Identity, network: Network, settings: Settings) -> Core:
        settings = replace(settings, profiles=settings.profiles | {keccak(options.profile.encode())})
        if identity.operator_id in options.liars:
            return StrategicCore(identity, network, settings, strategy, options.liars)
        return Core(identity, network, settings)

    sys.exit(report(lambda: run_node(options.home, core=make_core)))


if __name__ == "__main__":
    main()
