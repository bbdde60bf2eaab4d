"""What colluding liars do: pure decisions from what liars can know, for the bench's model and for lying nodes alike.

The liars of a class see the whole committee (everybody can draw it) and know each other; they have one plan, a
`Strategy`. It is asked once for each seat of theirs in each round, by batch, round, bundle and seat ascending, and once
for each of them in each window of a class vote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from quorate.protocol.hashing import keccak
from quorate.protocol.types import Vote

GROUPS = 3
"""Into how many groups `disjoint_groups` splits the liars."""


class Act(StrEnum):
    """What one seat does: opens a vote, signs an abstention, commits and never opens, or nothing at all."""

    VOTE = "vote"
    ABSTAIN = "abstain"
    HIDE = "hide"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Said:
    """An act with its vote; the vote is None where there is none."""

    act: Act
    vote: Vote | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """What liars see of one bundle in one round; operators by id, `standing` the opened votes of earlier rounds.

    `bundle` is (batch, bundle), `era` the fault era. `honest` is what running the program gives: liars can run it too.
    """

    bundle: tuple[int, int]
    round: int
    era: int
    honest: Vote
    committee: tuple[int, ...]
    liars: frozenset[int]
    standing: tuple[tuple[int, Vote], ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether a lie of all would go through: every seat is theirs, and no honest vote stands."""
        return self.liars.issuperset(self.committee) and all(vote != self.honest for _, vote in self.standing)


@lru_cache(maxsize=1 << 12)
def make_lie(honest: Vote, group: int = 0) -> Vote:
    """The wrong answer that one group of liars has agreed on."""
    return Vote(keccak(b"a lie about " + honest + group.to_bytes(4, "big")))


class Strategy:
    """One plan of all liars. The plain one does nothing wrong."""

    def say(self, sight: Sight, seat: int) -> Said:
        """What the liar in this seat does."""
        return Said(Act.VOTE, sight.honest)

    def class_vote(self, operator: int, honest: Vote, accused: Sequence[Vote]) -> Vote | None:
        """A liar's vote when the class is asked; `accused` are the roots of the dispute. None is silence."""
        return honest

    def audit(self, honest: Vote, accepted: Vote) -> Vote | None:
        """A liar's vote as an auditor: it covers what was accepted, right or wrong."""
        return accepted


class AlwaysLie(Strategy):
    """The same wrong answer in every seat and in the class vote."""

    def say(self, sight: Sight, seat: int) -> Said:
        return Said(Act.VOTE, make_lie(sight.honest))

    def class_vote(self, operator: int, honest: Vote, accused: Sequence[Vote]) -> Vote | None:
        lie = make_lie(honest)
        return lie if lie in accused else honest


class LieIfUnanimous(Strategy):
    """Lies only with every seat in hand, and is honest otherwise: it earns, and makes no conflict."""

    def say(self, sight: Sight, seat: int) -> Said:
        return Said(Act.VOTE, make_lie(sight.honest) if sight.is_ours else sight.honest)

    def class_vote(self, operator: int, honest: Vote, accused: Sequence[Vote]) -> Vote | None:
        lie = make_lie(honest)  # an audit or a challenge found it: they stand to it together
        return lie if lie in accused else honest


class NeverReveal(Strategy):
    """Commits and never opens."""

    def say(self, sight: Sight, seat: int) -> Said:
        return Said(Act.HIDE, sight.honest)


class NeverCommit(Strategy):
    """Takes seats and says nothing."""

    def say(self, sight: Sight, seat: int) -> Said:
        return Said(Act.SILENT)

    def class_vote(self, operator: int, honest: Vote, accused: Sequence[Vote]) -> Vote | None:
        return None

    def audit(self, honest: Vote, accepted: Vote) -> Vote | None:
        return None


class AlwaysAbstain(Strategy):
    """Signs an abstention for every seat: half the price of silence, and no fault."""

    def say(self, sight: Sight, seat: int) -> Said:
        return Said(Act.ABSTAIN)

    def class_vote(self, operator: int, honest: Vote, accused: Sequence[Vote]) -> Vote | None:
        return None

    def audit(self, honest: Vote, accepted: Vote) -> Vote | None:
        return None


class SilentUnlessUnanimous(LieIfUnanimous):
    """Waits for a committee of its own: every other one is made to fail, so that fresh ones are drawn."""

    def say(self, sight: Sight, seat: int) -> Said:
        return Said(Act.VOTE, make_lie(sight.honest)) if sight.is_ours else Said(Act.SILENT)


class Grief(Strategy):
    """One seat of theirs in every committee commits and never opens, the others earn: delay as cheap as it gets.

    A liar fails only as often in a fault era as jails nobody: three times, or one seat in twenty.
    """

    def __init__(self) -> None:
        self._failed: Counter[tuple[int, int]] = Counter()  # by (operator, era)
        self._done: Counter[tuple[int, int]] = Counter()
        self._failing: dict[tuple[int, int, int], int | None] = {}  # seat by bundle and round

    def say(self, sight: Sight, seat: int) -> Said:
        key = (sight.committee[seat], sight.era)
        place = (*sight.bundle, sight.round)
        if place not in self._failing:
            self._failing[place] = self._choose(sight)
        if self._failing[place] == seat:
            self._failed[key] += 1
            return Said(Act.HIDE, sight.honest)
        self._done[key] += 1
        return Said(Act.VOTE, sight.honest)

    def _choose(self, sight: Sight) -> int | None:
        for seat, operator in enumerate(sight.committee):
            key = (operator, sight.era)
            failed = self._failed[key] + 1
            if operator in sight.liars and (failed <= 3 or 20 * failed <= failed + self._done[key]):
                return seat
        return None


class DisjointGroups(Strategy):
    """Groups with different wrong answers: no majority for any, and as many conflicts as there can be."""

    def say(self, sight: Sight, seat: int) -> Said:
        return Said(Act.VOTE, make_lie(sight.honest, sight.committee[seat] % GROUPS))

    def class_vote(self, operator: int, honest: Vote, accused: Sequence[Vote]) -> Vote | None:
        lie = make_lie(honest, operator % GROUPS)
        return lie if lie in accused else honest


class OneLiePerWindow(Strategy):
    """Each liar lies once in a fault era, alone, with an answer of its own, and keeps quiet until the next."""

    def __init__(self) -> None:
        self._spent: dict[int, int] = {}  # operator → era of its last lie
        self._told: dict[tuple[int, int], int] = {}  # bundle → who lies in it

    def say(self, sight: Sight, seat: int) -> Said:
        operator = sight.committee[seat]
        if sight.bundle not in self._told and self._spent.get(operator) != sight.era:
            self._told[sight.bundle], self._spent[operator] = operator, sight.era
        is_lying = self._told.get(sight.bundle) == operator
        return Said(Act.VOTE, make_lie(sight.honest, operator) if is_lying else sight.honest)


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "honest": Strategy,
    "always_lie": AlwaysLie,
    "lie_if_unanimous": LieIfUnanimous,
    "never_reveal": NeverReveal,
    "never_commit": NeverCommit,
    "always_abstain": AlwaysAbstain,
    "silent_unless_unanimous": SilentUnlessUnanimous,
    "grief": Grief,
    "disjoint_groups": DisjointGroups,
    "split_liars": LieIfUnanimous,
    "one_lie_per_window": OneLiePerWindow,
}
"""By the name that `scripts/bench adversary --strategy` takes. `split_liars` differs in who holds how much stake: the
honest are few and rich, the liars many and poor."""
