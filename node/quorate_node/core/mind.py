"""What an operator decides freely: how it votes. The core is honest; tests of attacks give it another mind."""

from __future__ import annotations

from typing import Protocol

from quorate.protocol.types import AbstainReason, Stage, Vote
from quorate_node.core.state import Secret, Work
from quorate_node.core.views import BundleKey, Dispute

Answer = Vote | AbstainReason | None
"""A vote, an abstention with its reason, or silence."""


class Mind(Protocol):
    """Asked whenever a vote is due."""

    def choose_vote(self, key: BundleKey, work: Work, stage: Stage) -> Answer:
        """What to say of a bundle in a seat or an audit, given the work that was done on it."""

    def choose_answer(self, dispute: Dispute, honest: Vote) -> Answer:
        """What to say in a class vote, given the answer that was computed."""

    def shows(self, secret: Secret) -> bool:
        """Whether a commitment that stands is opened."""
