"""The steps of a job, and what is known of its bundles."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from quorate.protocol.types import OrderSkip, Verdict, Vote


class JobStage(StrEnum):
    """Steps of a job, in the words of a requester."""

    POSTED = "posted"
    ASSIGNED = "assigned"
    COMMITTED = "committed"
    REVEALED = "revealed"
    CARRIED = "carried"
    DISPUTED = "disputed"
    ACCEPTED = "accepted"
    FINAL = "final"
    EXTENDED = "extended"
    VOID = "void"
    SKIPPED = "skipped"
    EXPIRED = "expired"

    @property
    def is_end(self) -> bool:
        """Whether nothing follows by itself; what is accepted may still be reversed, until it is final."""
        return self in (JobStage.ACCEPTED, JobStage.FINAL, JobStage.VOID, JobStage.SKIPPED, JobStage.EXPIRED)


PASSING_SKIPS = frozenset({OrderSkip.FULL, OrderSkip.CAPACITY})
"""A collator may post the order again in its next batch or era."""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """One step: where it stands on the chain, and `detail` for people. `timestamp` is the block's, 0 if not asked."""

    stage: JobStage
    round: int
    block: int
    transaction: bytes
    detail: str = ""
    timestamp: int = 0


@dataclass(frozen=True, slots=True)
class SeatVote:
    """How one seat voted, by member index of the batch's table; `vote` is None for who stayed silent or abstained."""

    seat: int | None
    member: int
    vote: Vote | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Slash:
    """Stake taken after a dispute, in wei."""

    operator_id: int
    amount: int
    ejected: bool
    transaction: bytes


@dataclass(slots=True)
class TrackedBundle:
    """One of the job's bundles; `committed` maps seats of the present round to members, `abstained` to reasons.

    `reasons` counts abstentions of all rounds; `voters` and `opened`, how many seats' votes were seen, are those of its
    last row, which `round` gave and which stands in the batch's outcome page number `page`; `wrong` are members that a
    class vote found wrong. `shown` are votes of this round's seats that were opened, `settled_in` the transaction that
    gave its last row: where seats differ and nobody judges, only its input tells their votes.
    """

    committed: dict[int, int] = field(default_factory=dict)
    abstained: dict[int, str] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    voters: tuple[int, ...] = ()
    opened: int = 0
    page: int = 0
    round: int = 0
    wrong: set[int] = field(default_factory=set)
    is_reversed: bool = False
    standing: dict[int, Vote] = field(default_factory=dict)
    seats: tuple[SeatVote, ...] = ()
    verdict: Verdict | None = None
    vote: Vote | None = None
    dispute_id: int | None = None
    shown: dict[int, Vote] = field(default_factory=dict)
    settled_in: bytes | None = None

    @property
    def is_decided(self) -> bool:
        """Whether its verdict is the last one."""
        return self.verdict in (Verdict.ACCEPTED, Verdict.VOID)
