"""What can happen to a node: everything that `Core.handle` reacts to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from quorate.protocol.events import Event
from quorate.protocol.types import AbstainReason, CommitList, Opening, SignedOrder, Table, Vote
from quorate_node.core.state import SecretGroup, SignedExtension, WorkKey
from quorate_node.core.views import Head, SeatKey


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; `now` in seconds of the agent's monotonic clock, `unix` in those of the host's (0: not known).

    Decisions are taken here.
    """

    now: float
    unix: float = 0.0


@dataclass(frozen=True, slots=True)
class Logged:
    """An event with its block's number and timestamp (unix seconds)."""

    event: Event
    block: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class ChainAdvanced:
    """New blocks up to `head`, their events in order, and the tables (class, number) that they name."""

    head: Head
    events: tuple[Logged, ...] = ()
    tables: Mapping[tuple[int, int], Table] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChainReorganised:
    """Blocks that were handled are gone: all events follow again from the first."""


@dataclass(frozen=True, slots=True)
class HeaderRead:
    """RLP of the header that decides a round."""

    batch_id: int
    round: int
    header: bytes


@dataclass(frozen=True, slots=True)
class BundleExecuted:
    """Leaves of a bundle's tasks in their order, and their Merkle root; seconds spent on content and on execution.

    Where only some tasks were asked for, the other leaves are empty and there is no root.
    """

    key: WorkKey
    root: Vote | None
    leaves: tuple[bytes, ...]
    content_s: float = 0.0
    execute_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BundleFailed:
    """This host has no result; `retry` tells that another try may help (content was not to be found).

    `is_host_fault` where the host is to blame, and not the job, its content or a setting.
    """

    key: WorkKey
    reason: str
    retry: bool = False
    abstention: AbstainReason = AbstainReason.OTHER
    is_host_fault: bool = False


@dataclass(frozen=True, slots=True)
class AuditHeaderRead:
    """RLP of the header that decides the audits of a batch."""

    batch_id: int
    header: bytes


@dataclass(frozen=True, slots=True)
class LeavesFound:
    """Leaves that an operator served; their Merkle root was checked to be `root`."""

    root: Vote
    leaves: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class OpeningsAcknowledged:
    """The collator of a round says that it has these openings."""

    domain: bytes
    seats: tuple[SeatKey, ...]


@dataclass(frozen=True, slots=True)
class VoteTaken:
    """All to whom a class vote's commitment (or its opening) was sent say that they have it."""

    statement: bytes
    is_opening: bool


@dataclass(frozen=True, slots=True)
class GroupJournaled:
    """Secrets are on disk: their commitments may leave the machine. Also told for each group found at the start."""

    group: SecretGroup


@dataclass(frozen=True, slots=True)
class JournalFailed:
    """Secrets of a domain could not be written: none of them leaves, and it may be tried again."""

    domain: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A transaction, named by its instruction's key, was mined or refused (`error`)."""

    key: tuple[object, ...]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class OrdersQueued:
    """Orders that this collator accepted and shall post."""

    orders: tuple[SignedOrder, ...]


@dataclass(frozen=True, slots=True)
class ExtensionQueued:
    """An extension that this collator accepted and shall bring to the chain."""

    extension: SignedExtension


@dataclass(frozen=True, slots=True)
class ClassesChosen:
    """The operator keeps other classes alive from now on, and runs other profiles; see Settings."""

    classes: tuple[int, ...]
    profiles: frozenset[bytes]


# from peers: verified by `collation` before the core sees them


@dataclass(frozen=True, slots=True)
class CommitListReceived:
    """A signed list for a batch of this collator."""

    batch_id: int
    round: int
    commit_list: CommitList


@dataclass(frozen=True, slots=True)
class OpeningsReceived:
    """Openings of commitments that stand on chain."""

    batch_id: int
    round: int
    openings: Mapping[SeatKey, Opening]


@dataclass(frozen=True, slots=True)
class VoteReceived:
    """A class voter's signed commitment."""

    dispute_id: int
    vote_commit: tuple[int, bytes, bytes]


@dataclass(frozen=True, slots=True)
class VoteOpeningReceived:
    """Opening of a class vote that stands on chain."""

    dispute_id: int
    member: int
    opening: Opening


Stimulus = (
    Tick
    | ChainAdvanced
    | ChainReorganised
    | HeaderRead
    | AuditHeaderRead
    | LeavesFound
    | OpeningsAcknowledged
    | VoteTaken
    | BundleExecuted
    | BundleFailed
    | GroupJournaled
    | JournalFailed
    | CallEnded
    | OrdersQueued
    | ExtensionQueued
    | ClassesChosen
    | CommitListReceived
    | OpeningsReceived
    | VoteReceived
    | VoteOpeningReceived
)
