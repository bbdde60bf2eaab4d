"""What a node can be told to do: everything that `Core.handle` returns and the agent performs.

An instruction that sends a transaction has a `key`; it is answered by `CallEnded(key)`, and is not given again before.
"""

from __future__ import annotations

from dataclasses import dataclass

from quorate.protocol.planning import Settlement
from quorate.protocol.types import Address, JobId, JobOrder, Opening, SignedOrder, Stage, Terms, Vote
from quorate.protocol.vote_planning import VoteSettlement
from quorate_node.core.state import BundleKey, SeatKey, SecretGroup

CallKey = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class ReadHeader:
    """Read the header of a mined block; answered by HeaderRead."""

    batch_id: int
    round: int
    block: int


@dataclass(frozen=True, slots=True)
class Execute:
    """Run a bundle's tasks; answered by BundleExecuted or BundleFailed.

    `collators` and `operators` may know where the input is; `period_s` is the time that the batch grants.
    """

    key: BundleKey
    job_id: JobId
    order: JobOrder
    job_bundle: int
    collators: tuple[Address, ...]
    operators: tuple[int, ...]
    period_s: int


@dataclass(frozen=True, slots=True)
class DraftVote:
    """A vote before salt and commitment, which need the signing key."""

    bundle: int
    seat: int
    vote: Vote
    leaves: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class JournalCommit:
    """Put votes on disk for good, with salts and commitments; answered by GroupJournaled."""

    stage: Stage
    subject: int
    round: int
    domain: bytes
    member: int
    votes: tuple[DraftVote, ...]


@dataclass(frozen=True, slots=True)
class SendCommitments:
    """Sign a group's commitments and send them to a collator."""

    group: SecretGroup
    collator: Address


@dataclass(frozen=True, slots=True)
class SendOpenings:
    """Send openings of a batch's round to a collator and to operators who may settle in its place."""

    batch_id: int
    round: int
    openings: tuple[tuple[SeatKey, Opening], ...]
    collator: Address
    operators: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SendVote:
    """Sign the commitment of a class vote and send it."""

    group: SecretGroup
    collator: Address


@dataclass(frozen=True, slots=True)
class SendVoteOpening:
    """Send the opening of a class vote."""

    dispute_id: int
    member: int
    opening: Opening
    collator: Address
    operators: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Post:
    """Open a batch, fill and close it in one transaction."""

    key: CallKey
    terms: Terms
    orders: tuple[SignedOrder, ...]


@dataclass(frozen=True, slots=True)
class ProveBeacon:
    key: CallKey
    batch_id: int
    header: bytes


@dataclass(frozen=True, slots=True)
class Expire:
    key: CallKey
    batch_id: int


@dataclass(frozen=True, slots=True)
class AdvanceEra:
    """The median is computed from the members when it is sent: slashes change their units without an event."""

    key: CallKey
    class_id: int


@dataclass(frozen=True, slots=True)
class Commit:
    key: CallKey
    batch_id: int
    first: int
    end: int
    lists: bytes


@dataclass(frozen=True, slots=True)
class Settle:
    key: CallKey
    batch_id: int
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class CommitVotes:
    key: CallKey
    dispute_id: int
    record: bytes
    lists: bytes


@dataclass(frozen=True, slots=True)
class CommitOwnVote:
    """Sign the commitment of a class vote and put it on chain without a collator."""

    key: CallKey
    group: SecretGroup
    record: bytes


@dataclass(frozen=True, slots=True)
class SettleVotes:
    key: CallKey
    dispute_id: int
    record: bytes
    settlement: VoteSettlement


@dataclass(frozen=True, slots=True)
class Note:
    """Log a line: something was refused, failed or is odd."""

    text: str
    job_id: JobId | None = None


Transaction = Post | ProveBeacon | Expire | AdvanceEra | Commit | Settle | CommitVotes | CommitOwnVote | SettleVotes
Message = SendCommitments | SendOpenings | SendVote | SendVoteOpening
Instruction = ReadHeader | Execute | JournalCommit | Note | Message | Transaction
