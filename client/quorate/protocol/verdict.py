"""What a class vote decides: who was right, who pays, who is paid (section 5 of contracts/README.md)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

from quorate.protocol.hashing import keccak
from quorate.protocol.params import BPS
from quorate.protocol.types import AbstainReason, CastVotes, DisputeKind, DisputeRecord, Question, Table, Verdict, Vote

SPENT_PERCENT = 40
"""The most of what was taken that voters and challengers get; slashing oneself never pays."""
CHALLENGER_BONDS = 10
SILENCE_BPS = (10, 100, 500)
"""Of a member's units, for its first, second, third and later silent window."""
NO_DATA = AbstainReason.NO_DATA


class Conduct(IntEnum):
    """What a class vote finds of a member."""

    NOTHING = 0
    RIGHT = 1
    WRONG = 2
    WRONG_TOGETHER = 3


class Aftermath(IntEnum):
    """What the money behind the last row of the tally depends on."""

    NOTHING = 0
    UPHELD = 1  # a challenge or audit was right, but the bundle was reversed before
    REVERSED = 2  # was right, and reverses the bundle
    DISMISSED = 3  # a challenge was wrong: its bond pays the voters


@dataclass(frozen=True, slots=True)
class TallyRow:
    """One byte of a tally: windows of silence, conduct, and whether a seat voted on what nobody can fetch."""

    silent: int = 0
    conduct: Conduct = Conduct.NOTHING
    is_unknowable: bool = False

    def encode(self) -> int:
        """The byte."""
        return self.silent | self.conduct << 3 | self.is_unknowable << 5

    @classmethod
    @cache
    def decode(cls, value: int) -> TallyRow:
        """Inverse of encode; there are few rows, and a class has many members."""
        return cls(value & 7, Conduct(value >> 3 & 3), bool(value >> 5 & 1))


@dataclass(frozen=True, slots=True)
class WindowVotes:
    """What is known at the end of a window: `votes` cast earlier or opened now, `abstained` with the reason, `closed`
    committed and not opened, by member; `silent` windows before this one, by row."""

    votes: Mapping[int, Vote]
    abstained: Mapping[int, int]
    closed: frozenset[int]
    silent: Sequence[int]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a class vote ends. `root` is what the bundle is accepted with (None: void), `tally` a row for each member.

    `aftermath` is UPHELD for every challenge or audit that was right; who knows whether it is the bundle's first
    makes it REVERSED.
    """

    answer: Vote | None
    root: Vote | None
    tally: tuple[TallyRow, ...]
    aftermath: Aftermath = Aftermath.NOTHING

    @property
    def verdict(self) -> Verdict:
        """Accepted or void."""
        return Verdict.VOID if self.root is None else Verdict.ACCEPTED

    @property
    def encoded_tally(self) -> bytes:
        """A byte for each row."""
        return bytes(row.encode() for row in self.tally)


def find_winner(table: Table, votes: Mapping[int, Vote]) -> Vote | None:
    """The answer that members with more than half of all units of the class gave, if any."""
    units: dict[Vote, int] = defaultdict(int)
    for member, vote in votes.items():
        units[vote] += table.units_of(member)
    return next((vote for vote, count in units.items() if 2 * count > len(table.units)), None)


def count_silence(window: WindowVotes, decides: bool) -> tuple[int, ...]:
    """Silent windows of each row, this one included; who committed is not silent where the call decides."""
    spoke = {*window.votes, *window.abstained, *(window.closed if decides else ())}
    return tuple(before + (member not in spoke) for member, before in enumerate(window.silent))


def is_no_data(table: Table, window: WindowVotes) -> bool:
    """Whether more than half of the units that answered said that the data is not to be had."""
    answered = sum(table.units_of(member) for member in {*window.votes, *window.abstained})
    missing = sum(table.units_of(member) for member, reason in window.abstained.items() if reason == NO_DATA)
    return 2 * missing > answered


def go_on(window: WindowVotes) -> CastVotes:
    """What the next window starts with, after one that did not decide."""
    return CastVotes(dict(window.votes), count_silence(window, decides=False))


def end_vote(
    record: DisputeRecord, question: Question, table: Table, window: WindowVotes, convicted: int = 0
) -> Ending:
    """End a class vote after a window that decides, or after the last one.

    `convicted` entries, the first ones, were found wrong before, in another dispute of the same outcome: one mistake is
    punished once, however many challenges it has.
    """
    won = find_winner(table, window.votes)
    if won is None:
        return _end_without_winner(record, table, window)
    answers = dict(zip(record.roots, question.answers, strict=True))
    surviving = next((root for root, answer in answers.items() if answer == won), None)
    conduct = _find_conduct(record, answers, window.votes, won, convicted)
    silent = count_silence(window, decides=True)
    tally = tuple(TallyRow(n, conduct.get(member, Conduct.NOTHING)) for member, n in enumerate(silent))
    if record.kind is DisputeKind.CONFLICT:
        return Ending(won, surviving, tally)
    if surviving is not None and surviving == record.accepted:
        is_challenge = record.kind is DisputeKind.CHALLENGE
        return Ending(won, surviving, tally, Aftermath.DISMISSED if is_challenge else Aftermath.NOTHING)
    return Ending(won, None, tally, Aftermath.UPHELD)


def _end_without_winner(record: DisputeRecord, table: Table, window: WindowVotes) -> Ending:
    seated = {member for member, _ in record.votes} if record.kind is DisputeKind.CONFLICT else set()
    if is_no_data(table, window):
        # Nobody can know: silence is no fault, and a vote on what nobody can fetch is worth an abstention.
        tally = tuple(TallyRow(0, is_unknowable=member in seated) for member in range(len(table.members)))
    else:
        tally = tuple(TallyRow(silent) for silent in count_silence(window, decides=False))
    return Ending(None, record.accepted, tally)


def dismiss_at_once(record: DisputeRecord, question: Question, table: Table) -> Ending | None:
    """End of a challenge that claims the very leaf that was accepted: nobody is paid or punished. None: ask the class.

    `question` is that of `compute_question`; where it names no task the leaf is not known.
    """
    if record.kind is not DisputeKind.CHALLENGE or not question.tasks:
        return None
    answer = question.answers[0]
    if answer != compute_claim(record):
        return None
    return Ending(answer, record.accepted, (TallyRow(),) * len(table.members))


def compute_claim(record: DisputeRecord) -> Vote:
    """Answer that a challenger claims to its own question."""
    return Vote(keccak(record.claim))


def _find_conduct(
    record: DisputeRecord, answers: Mapping[Vote, Vote], votes: Mapping[int, Vote], won: Vote, convicted: int
) -> dict[int, Conduct]:
    """What each member did that was wrong, or right without a seat."""
    entries = [(member, answers[root]) for member, root in record.votes]
    seated = {member for member, _ in entries}
    again = {member for member, root in record.votes[:convicted] if root == record.accepted}
    # Who repeats its own seat adds nothing; who was right is paid for the seat.
    fresh = [
        (m, answer) for m, answer in votes.items() if m not in seated or not (answer == won or (m, answer) in entries)
    ]
    found = {member: Conduct.RIGHT for member, answer in fresh if answer == won}
    givers: dict[Vote, set[int]] = defaultdict(set)
    seats, auditors = entries[: record.seat_count], entries[record.seat_count :]
    # Seats by themselves: else anybody of the class could repeat a lone seat's mistake, and take all of its stake.
    for group, excused in (seats, again), (auditors, again), (fresh, set[int]()):
        for member, answer in group:
            givers[answer].add(member)
        for member, answer in group:
            if answer != won and member not in excused:
                conduct = Conduct.WRONG_TOGETHER if len(givers[answer]) > 1 else Conduct.WRONG
                found[member] = max(found.get(member, conduct), conduct)
    return found


def compute_silence_fine(units: int, unit_wei: int, silent: int) -> int:
    """Wei for so many silent windows of a member with so many units, rounded down."""
    rates = (SILENCE_BPS[min(window, len(SILENCE_BPS) - 1)] for window in range(silent))
    return units * unit_wei * sum(rates) // BPS


@dataclass(frozen=True, slots=True)
class Shares:
    """Where the money of a dispute goes behind its last row, in wei: `voter` is for each right class voter."""

    voter: int
    challenger: int
    requester: int
    treasury: int


def share_out(record: DisputeRecord, aftermath: Aftermath, voters: int, taken: int) -> Shares:
    """Share out what was taken from members, and the bond of a challenge that failed, among right class `voters`."""
    bond = record.pot if aftermath is Aftermath.DISMISSED else 0
    budget = taken * SPENT_PERCENT // 100
    from_taken = min(record.price, budget // voters) if voters else 0
    from_bond = min(record.price, bond // voters) if voters else 0
    budget -= from_taken * voters
    is_upheld = aftermath in (Aftermath.UPHELD, Aftermath.REVERSED)
    is_challenge = record.kind is DisputeKind.CHALLENGE
    challenger = min(CHALLENGER_BONDS * record.pot, budget) if is_upheld and is_challenge else 0
    left = taken - from_taken * voters - challenger
    requester = min(record.escrow, left) if aftermath is Aftermath.REVERSED else 0
    return Shares(from_taken + from_bond, challenger, requester, left - requester + bond - from_bond * voters)


def decode_tally(data: bytes) -> tuple[TallyRow, ...]:
    """Rows of a tally."""
    return tuple(map(TallyRow.decode, data))
