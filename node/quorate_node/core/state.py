"""What a node knows: its deployment, the chain as told by events, its own work, its secrets and its mail.

The records are mutable and belong to one `Core`; nothing outside `quorate_node.core` writes to them. Everything
under "chain" can be rebuilt from events alone, which is how a reorganisation is survived.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from quorate.protocol.params import Params
from quorate.protocol.profiles import Description
from quorate.protocol.spec import WASM_PROFILE
from quorate.protocol.types import (
    AbstainReason,
    Address,
    CommitList,
    JobId,
    OperatorId,
    SignedOrder,
    Stage,
    Terms,
    Vote,
)
from quorate_node.core.guard import Guard, GuardSettings
from quorate_node.core.policy import DEFAULT_LIMITS, Limits
from quorate_node.core.views import NEVER, ChainView, SeatKey

MAX_NOTES = 50

WorkKey = tuple[int, ...]
"""(batch id, bundle) for a whole bundle, (batch id, bundle, dispute id) for the tasks that a class is asked about."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is. `operator_id` is 0 for a collator without stake; `account` sends its transactions."""

    operator_id: OperatorId
    account: Address


@dataclass(frozen=True, slots=True)
class Network:
    """Constants of a deployment."""

    chain_id: int
    market: Address
    separator: bytes
    params: Params
    disputes: Address


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator decides; `classes` are those that it keeps alive, `fee_wei` what it asks as a collator.

    `challenge_budget_wei` is what it puts up for bonds of challenges at most (0: it never challenges), `watch_bps` the
    share of accepted bundles, in 1/10,000, that it executes without a seat to find wrong ones. `reveal_depth` is how
    many blocks a commitment must be deep before its opening leaves. `profiles` are hashes of the descriptions of
    those that it runs.
    """

    classes: tuple[int, ...] = (1,)
    is_collator: bool = False
    fee_wei: int = 0
    limits: Limits = DEFAULT_LIMITS
    challenge_budget_wei: int = 0
    watch_bps: int = 0
    reveal_depth: int = 0
    profiles: frozenset[bytes] = frozenset({Description(WASM_PROFILE).digest})
    guard: GuardSettings = GuardSettings()


# own ----------------------------------------------------------------------------------------------------------------


class WorkStatus(StrEnum):
    """Where an execution stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(slots=True)
class Work:
    """One execution; that of a whole bundle serves every round, audit, challenge and class vote alike.

    `leaves` are by task within the bundle; of a task that was not asked for the leaf is empty, and `root` is None then.
    `abstention` is the reason to give while there is no result.
    """

    job_id: JobId
    job_bundle: int = 0
    status: WorkStatus = WorkStatus.RUNNING
    root: Vote | None = None
    leaves: tuple[bytes, ...] = ()
    reason: str = ""
    abstention: AbstainReason = AbstainReason.TIME
    since: float = 0.0
    retry_at: float | None = None
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Secret:
    """What this node has committed to, or is about to: all that an opening needs. An abstention has no salt."""

    bundle: int
    seat: int
    statement: bytes
    vote: Vote
    salt: bytes
    commitment: bytes
    leaves: tuple[bytes, ...] = ()

    @property
    def is_abstention(self) -> bool:
        """Whether there is nothing to open."""
        return not self.salt


@dataclass(frozen=True, slots=True)
class SecretGroup:
    """Commitments under one signature: journalled, signed and sent as one, for ever in this grouping.

    `subject` is a batch id in stage BUNDLE and a dispute id in stage CLASS_VOTE, where `domain` is the statement of a
    window and `round` its number.
    """

    stage: Stage
    subject: int
    round: int
    domain: bytes
    member: int
    secrets: tuple[Secret, ...]


@dataclass(slots=True)
class Own:
    """This node's work and secrets.

    `acknowledged` are openings that a collator says it has, by round domain; `taken` are class votes (False) and their
    openings (True) that all who bring them to the chain have, by statement. `journal_at` is when the journal, which
    failed, is tried again. `challenged` are bonds in wei by
    (batch id, bundle, task), `found_leaves` what other operators served, by root.
    """

    work: dict[WorkKey, Work] = field(default_factory=dict)
    seats: dict[bytes, tuple[SeatKey, ...]] = field(default_factory=dict)
    groups: dict[bytes, list[SecretGroup]] = field(default_factory=dict)
    journaling: set[bytes] = field(default_factory=set)
    journal_at: float = NEVER
    ready_since: dict[bytes, float] = field(default_factory=dict)
    acknowledged: set[tuple[bytes, SeatKey]] = field(default_factory=set)
    taken: set[tuple[bytes, bool]] = field(default_factory=set)
    challenged: dict[tuple[int, int, int], int] = field(default_factory=dict)
    found_leaves: OrderedDict[Vote, tuple[bytes, ...]] = field(default_factory=OrderedDict)

    def groups_of(self, batch_id: int) -> Iterator[SecretGroup]:
        """What this node committed to in the rounds of a batch."""
        for groups in self.groups.values():
            yield from (each for each in groups if each.stage is Stage.BUNDLE and each.subject == batch_id)


@dataclass(slots=True)
class QueuedOrders:
    """Orders that fit one batch; `since` is when the first of them came."""

    terms: Terms
    since: float
    orders: list[SignedOrder] = field(default_factory=list)
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class SignedExtension:
    """A requester's wish for `rounds` more for bundles of a batch that stands in `round`."""

    batch_id: int
    bundles: tuple[int, ...]
    round: int
    rounds: int
    signature: bytes


@dataclass(slots=True)
class Mail:
    """What came to this node as a collator.

    Lists of commitments are kept by round domain; `sent` are signatures of those in a transaction. `posting` are
    orders in a transaction, by its key; `posts` counts them.
    """

    lists: dict[bytes, list[CommitList]] = field(default_factory=dict)
    sent: dict[bytes, set[bytes]] = field(default_factory=dict)
    first_at: dict[bytes, float] = field(default_factory=dict)
    planned: dict[int, tuple[int, ...]] = field(default_factory=dict)
    queue: dict[Terms, QueuedOrders] = field(default_factory=dict)
    posting: dict[tuple[object, ...], QueuedOrders] = field(default_factory=dict)
    posts: int = 0
    extensions: list[SignedExtension] = field(default_factory=list)


@dataclass(slots=True)
class Rehearsal:
    """What a dry run has found: bundles of which this host's result was that accepted, another, or none at all."""

    agreed: int = 0
    differed: int = 0
    abstained: int = 0
    seen: set[tuple[int, int]] = field(default_factory=set)


@dataclass(slots=True)
class State:
    """Everything; `now` is the agent's clock in seconds, `unix` the host's, `asked` when an instruction was last given
    by its key."""

    identity: Identity
    network: Network
    settings: Settings = Settings()
    now: float = 0.0
    unix: float = 0.0
    chain: ChainView = field(default_factory=ChainView)
    own: Own = field(default_factory=Own)
    mail: Mail = field(default_factory=Mail)
    asked: dict[tuple[object, ...], float] = field(default_factory=dict)
    under_way: set[tuple[object, ...]] = field(default_factory=set)
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_NOTES))
    guard: Guard = field(init=False)
    rehearsal: Rehearsal = field(default_factory=Rehearsal)

    def __post_init__(self) -> None:
        self.guard = Guard(self.settings.guard)

    def is_due(self, key: tuple[object, ...], every_s: float) -> bool:
        """Whether an instruction may be given (again); giving it is noted."""
        if key in self.under_way or self.now < self.asked.get(key, NEVER) + every_s:
            return False
        self.asked[key] = self.now
        return True
