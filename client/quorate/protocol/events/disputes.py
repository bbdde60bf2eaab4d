"""Events of Disputes and Challenges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quorate.protocol.events.base import ChallengesEvent, DisputesEvent
from quorate.protocol.types import Address


@dataclass(frozen=True, slots=True)
class DisputeOpened(DisputesEvent):
    """A conflict, a challenge or a dissenting audit goes to the class."""

    name: ClassVar[str] = "DisputeOpened"
    dispute_id: int
    batch_id: int
    bundle: int
    record: bytes


@dataclass(frozen=True, slots=True)
class LeavesPublished(DisputesEvent):
    """The leaves of one root, 32 bytes a task."""

    name: ClassVar[str] = "LeavesPublished"
    dispute_id: int
    root: bytes
    leaves: bytes


@dataclass(frozen=True, slots=True)
class QuestionAsked(DisputesEvent):
    """The first window starts."""

    name: ClassVar[str] = "QuestionAsked"
    dispute_id: int
    question: bytes


@dataclass(frozen=True, slots=True)
class VotesCommitted(DisputesEvent):
    """Class votes as sent, with what was skipped."""

    name: ClassVar[str] = "VotesCommitted"
    dispute_id: int
    window: int
    lists: bytes
    skips: bytes


@dataclass(frozen=True, slots=True)
class VotesRevealed(DisputesEvent):
    """Openings that a later `settleVotes` must not leave out."""

    name: ClassVar[str] = "VotesRevealed"
    dispute_id: int
    window: int
    votes: bytes
    openings: bytes


@dataclass(frozen=True, slots=True)
class VoteWindowOpened(DisputesEvent):
    """No majority yet: another window, with the votes that stand."""

    name: ClassVar[str] = "VoteWindowOpened"
    dispute_id: int
    window: int
    cast: bytes


@dataclass(frozen=True, slots=True)
class DisputeDecided(DisputesEvent):
    """Verdict 1 accepted with `root`, 4 void; `answer` won, or is 0; `tally` has a byte for each row of the table."""

    name: ClassVar[str] = "DisputeDecided"
    dispute_id: int
    batch_id: int
    bundle: int
    verdict: int
    root: bytes
    answer: bytes
    tally: bytes


@dataclass(frozen=True, slots=True)
class RowsPunished(DisputesEvent):
    """The tally was gone through up to `row`; `taken` is the sum of all fines and slashes of the dispute, in wei."""

    name: ClassVar[str] = "RowsPunished"
    dispute_id: int
    row: int
    taken: int


@dataclass(frozen=True, slots=True)
class DisputeSettled(DisputesEvent):
    """Everybody is punished and paid."""

    name: ClassVar[str] = "DisputeSettled"
    dispute_id: int
    batch_id: int
    bundle: int


@dataclass(frozen=True, slots=True)
class ResultChallenged(ChallengesEvent):
    """Somebody says that a task of an accepted bundle has another leaf."""

    name: ClassVar[str] = "ResultChallenged"
    batch_id: int
    bundle: int
    task: int
    challenger: Address
    dispute_id: int


@dataclass(frozen=True, slots=True)
class BundleAudited(ChallengesEvent):
    """An auditor's vote; `dispute_id` is 0 where it is the accepted one."""

    name: ClassVar[str] = "BundleAudited"
    batch_id: int
    bundle: int
    operator_id: int
    vote: bytes
    dispute_id: int
