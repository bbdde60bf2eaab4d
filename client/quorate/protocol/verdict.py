"""What a class vote decides: who was right, who pays, who is paid (section 5 of contracts/README.md)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from quorate.protocol.types import DisputeRecord, Table, Verdict, Vote

VOTER_SHARE_PERCENT = 40
"""The most of a slash that class voters share; the rest goes to the treasury, so that slashing oneself never pays."""


@dataclass(frozen=True, slots=True)
class DisputeOutcome:
    """Verdict of a class vote; members are rows of the dispute's table, amounts wei.

    `wrong` is (member, whether it was wrong together), ascending by member. `earnings` are paid from the escrow.
    """

    verdict: Verdict
    vote: Vote | None
    earnings: Mapping[int, int]
    wrong: tuple[tuple[int, bool], ...]
    right_voters: tuple[int, ...]
    fee: int
    refund: int


def decide_dispute(record: DisputeRecord, table: Table, class_votes: Mapping[int, Vote]) -> DisputeOutcome:
    """Decide a dispute from the class votes opened, by member. More than half of all units of the table decides."""
    units: dict[Vote, int] = defaultdict(int)
    for member, vote in class_votes.items():
        units[vote] += table.units_of(member)
    won = next((vote for vote, count in units.items() if 2 * count > len(table.units)), None)
    if won is None:
        return DisputeOutcome(Verdict.VOID, None, {}, (), (), fee=0, refund=record.escrow)
    earnings = {member: record.price for member, vote in record.votes if vote == won}
    seated = {member for member, _ in record.votes}
    right = tuple(sorted(m for m, vote in class_votes.items() if vote == won and m not in seated))
    refund = record.escrow - record.fee - sum(earnings.values())
    return DisputeOutcome(
        Verdict.ACCEPTED, won, earnings, _find_wrong(record, class_votes, won), right, record.fee, refund
    )


def compute_voter_share(price: int, slashed: int, voters: int) -> int:
    """Wei for each right class voter out of what was slashed, rounded down."""
    return min(price, slashed * VOTER_SHARE_PERCENT // (100 * voters)) if voters else 0


def _find_wrong(record: DisputeRecord, class_votes: Mapping[int, Vote], won: Vote) -> tuple[tuple[int, bool], ...]:
    """Each wrong member once, with whether another gave one of its wrong votes too."""
    givers: dict[Vote, set[int]] = defaultdict(set)
    for member, vote in (*record.votes, *class_votes.items()):
        if vote != won:
            givers[vote].add(member)
    wrong = sorted({member for members in givers.values() for member in members})
    return tuple((m, any(len(members) > 1 for members in givers.values() if m in members)) for m in wrong)
