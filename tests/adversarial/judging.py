"""A class vote of the model: windows, their end, and who is punished, all by `verdict` and `punishing`."""

from __future__ import annotations

from quorate.protocol import events as ev
from quorate.protocol.context import Call
from quorate.protocol.params import Params
from quorate.protocol.punishing import Punishment
from quorate.protocol.registry import Registry
from quorate.protocol.types import CastVotes, DisputeRecord, Question, Table, Vote
from quorate.protocol.verdict import Conduct, Ending, TallyRow, WindowVotes, end_vote, find_winner, go_on

HARMLESS = frozenset(TallyRow(conduct=conduct).encode() for conduct in (Conduct.NOTHING, Conduct.RIGHT))
"""Rows of a tally that take nothing from anybody."""


class ClassVote:
    """One dispute, window by window. The question is the whole bundle: its answers are the roots themselves."""

    def __init__(self, params: Params, record: DisputeRecord, table: Table) -> None:
        self.params, self.record, self.table = params, record, table
        self.question = Question((), record.roots)
        self.votes: dict[int, Vote] = {}
        self._before = CastVotes({}, (0,) * len(table.members))
        self._window = 0

    def cast(self, row: int, vote: Vote) -> None:
        """A member's vote; the first one stands."""
        self.votes.setdefault(row, vote)

    def close_window(self) -> Ending | None:
        """The end of the class vote, or None when another window follows."""
        window = WindowVotes(self.votes, {}, frozenset(), self._before.silent)
        self._window += 1
        if find_winner(self.table, self.votes) is None and self._window < self.params.vote_windows:
            self._before = go_on(window)
            return None
        return end_vote(self.record, self.question, self.table, window)


def punish(registry: Registry, call: Call, record: DisputeRecord, table: Table, ending: Ending) -> list[ev.Event]:
    """Fine and slash every row of the tally, and share out what came of it."""
    tally = ending.encoded_tally
    punishment = Punishment(registry, call, record, table, tally)
    taken = sum(punishment.punish_row(row) for row, value in enumerate(tally) if value not in HARMLESS)
    punishment.share_out(ending.aftermath, taken)
    return punishment.events
