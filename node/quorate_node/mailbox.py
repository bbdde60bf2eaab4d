"""Taking messages of nodes, from the network and from operators of this very process: one door, the same checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from quorate.chain.signing import recover
from quorate.messages import (
    OPENING_BYTES,
    CommitmentsMessage,
    Message,
    OpeningsMessage,
    VoteMessage,
    VoteOpeningMessage,
)
from quorate_node.core import mailroom
from quorate_node.core.state import State
from quorate_node.core.stimuli import Stimulus

LIST_BYTES = 2 + 2 + 65
COMMIT_ITEM_BYTES = 2 + 1 + 32
KINDS: Mapping[str, type[Message]] = {
    "commitments": CommitmentsMessage,
    "openings": OpeningsMessage,
    "votes": VoteMessage,
    "vote-openings": VoteOpeningMessage,
}
"""Path of a kind → its schema."""


class Mailbox:
    """Checks messages by the state of now and hands them to the core that takes mail."""

    def __init__(self, get_state: Callable[[], State], feed: Callable[[Stimulus], object]) -> None:
        self._get_state, self._feed = get_state, feed

    def take(self, message: Message) -> None:
        """Take one message. Raises MessageRefused, or ValidationError for one that makes no sense."""
        self._feed(check_message(self._get_state(), message))


def check_message(state: State, message: Message) -> Stimulus:
    """What a message tells, if it is good."""
    match message:
        case CommitmentsMessage(batch_id=batch_id, round=round_, page=page):
            mailroom.check_extent(state, batch_id, round_, len(page), LIST_BYTES, COMMIT_ITEM_BYTES)
            return mailroom.check_commit_list(state, message.batch_id, message.round, message.to_list(), recover)
        case OpeningsMessage(batch_id=batch_id, round=round_, page=page):
            mailroom.check_extent(state, batch_id, round_, len(page), 0, OPENING_BYTES)
            return mailroom.check_openings(state, message.batch_id, message.round, message.to_openings())
        case VoteMessage():
            return mailroom.check_vote(state, message.dispute_id, message.to_vote(), recover)
        case VoteOpeningMessage():
            return mailroom.check_vote_opening(state, message.dispute_id, message.member, message.to_opening())
    raise AssertionError(f"{type(message).__name__} is no message between nodes")
