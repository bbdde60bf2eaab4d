"""What a node can be told to do: everything that `Core.handle` returns and the agent performs.

An instruction that sends a transaction has a `key`; it is answered by `CallEnded(key)`, and is not given again before.
"""

from __future__ import annotations

from dataclasses import dataclass

from quorate.protocol.outcomes import Proof
from quorate.protocol.planning import Reveal as RevealPlan
from quorate.protocol.planning import Settlement
from quorate.protocol.types import (
    AbstainReason,
    Address,
    JobId,
    JobOrder,
    Opening,
    SignedOrder,
    Stage,
    Terms,
    Vote,
)
from quorate.protocol.vote_planning import VoteReveal, VoteSettlement
from quorate_node.core.state import SecretGroup, SignedExtension, WorkKey
from quorate_node.core.views import SeatKey

CallKey = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class ReadHeader:
    """Read the header of a mined block; answered by HeaderRead."""

    batch_id: int
    round: int
    block: int


@dataclass(frozen=True, slots=True)
class ReadAuditHeader:
    """Read the header that decides a settled batch's audits; answered by AuditHeaderRead."""

    batch_id: int
    block: int


@dataclass(frozen=True, slots=True)
class Execute:
    """Run tasks of a bundle (none named: all); answered by BundleExecuted or BundleFailed.

    `collators` and `operators` may know where the input is; `period_s` is the time that the batch grants, `profile`
    that of the order's class.
    """

    key: WorkKey
    job_id: JobId
    order: JobOrder
    job_bundle: int
    collators: tuple[Address, ...]
    operators: tuple[int, ...]
    period_s: int
    profile: bytes
    tasks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class AskLeaves:
    """Ask operators for the leaves of a root that they voted for; answered by LeavesFound if somebody has them."""

    root: Vote
    operators: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DraftVote:
    """A vote before salt and commitment, which need the signing key; without a vote an abstention for a reason."""

    bundle: int
    seat: int
    vote: Vote | None
    leaves: tuple[bytes, ...] = ()
    reason: AbstainReason = AbstainReason.OTHER


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
    """Send openings of a batch's round to a collator and to operators who may settle in its place.

    Answered by OpeningsAcknowledged when the collator has taken them.
    """

    batch_id: int
    round: int
    domain: bytes
    openings: tuple[tuple[SeatKey, Opening], ...]
    collator: Address
    operators: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SendVote:
    """Sign the commitment of a class vote and send it to those who bring it to the chain."""

    group: SecretGroup
    collator: Address
    operators: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SendVoteOpening:
    """Send the opening of a class vote on a window's statement."""

    dispute_id: int
    member: int
    opening: Opening
    collator: Address
    operators: tuple[int, ...] = ()
    statement: bytes = b""


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
    """The medians are computed from the members when it is sent: slashes change their units without an event."""

    key: CallKey
    class_id: int


@dataclass(frozen=True, slots=True)
class Judge:
    key: CallKey
    operator_id: int


@dataclass(frozen=True, slots=True)
class Rejoin:
    """Only an owner can; done when the signing key is the owner's, else noted."""

    key: CallKey


@dataclass(frozen=True, slots=True)
class Commit:
    key: CallKey
    batch_id: int
    first: int
    end: int
    lists: bytes


@dataclass(frozen=True, slots=True)
class CommitOwn:
    """Sign a group's commitments and put them on chain without the collator; the batch has `end` bundles."""

    key: CallKey
    batch_id: int
    end: int
    group: SecretGroup


@dataclass(frozen=True, slots=True)
class Reveal:
    key: CallKey
    batch_id: int
    reveal: RevealPlan


@dataclass(frozen=True, slots=True)
class Settle:
    key: CallKey
    batch_id: int
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class Publish:
    key: CallKey
    dispute_id: int
    record: bytes
    leaves: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    key: CallKey
    dispute_id: int
    record: bytes
    leaves: bytes


@dataclass(frozen=True, slots=True)
class CommitVotes:
    key: CallKey
    dispute_id: int
    record: bytes
    question: bytes
    lists: bytes


@dataclass(frozen=True, slots=True)
class CommitOwnVote:
    """Sign the commitment of a class vote and put it on chain without anybody's help."""

    key: CallKey
    group: SecretGroup
    record: bytes
    question: bytes


@dataclass(frozen=True, slots=True)
class RevealVotes:
    key: CallKey
    dispute_id: int
    record: bytes
    question: bytes
    reveal: VoteReveal


@dataclass(frozen=True, slots=True)
class SettleVotes:
    key: CallKey
    dispute_id: int
    record: bytes
    question: bytes
    settlement: VoteSettlement


@dataclass(frozen=True, slots=True)
class Punish:
    key: CallKey
    dispute_id: int
    record: bytes
    tally: bytes
    up_to: int


@dataclass(frozen=True, slots=True)
class ProveAudit:
    key: CallKey
    batch_id: int
    header: bytes


@dataclass(frozen=True, slots=True)
class Audit:
    """Sign an auditor's vote under the audit's `domain` and send it."""

    key: CallKey
    batch_id: int
    bundle: int
    auditor: int
    vote: Vote
    domain: bytes
    proof: Proof


@dataclass(frozen=True, slots=True)
class Challenge:
    """`bond` in wei goes along."""

    key: CallKey
    batch_id: int
    proof: Proof
    bundle: int
    task: int
    leaf: bytes
    bond: int


@dataclass(frozen=True, slots=True)
class Extend:
    key: CallKey
    extension: SignedExtension
    proof: Proof


@dataclass(frozen=True, slots=True)
class Note:
    """Log a line: something was refused, failed or is odd."""

    text: str
    job_id: JobId | None = None


Transaction = (
    Post
    | ProveBeacon
    | Expire
    | AdvanceEra
    | Judge
    | Rejoin
    | Commit
    | CommitOwn
    | Reveal
    | Settle
    | Publish
    | Ask
    | CommitVotes
    | CommitOwnVote
    | RevealVotes
    | SettleVotes
    | Punish
    | ProveAudit
    | Audit
    | Challenge
    | Extend
)
Message = SendCommitments | SendOpenings | SendVote | SendVoteOpening
Instruction = ReadHeader | ReadAuditHeader | Execute | AskLeaves | JournalCommit | Note | Message | Transaction
