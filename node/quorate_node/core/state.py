"""What a node knows: its deployment, the chain as told by events, its own work, its secrets and its mail.

The records are mutable and belong to one `Core`; nothing outside `quorate_node.core` writes to them. Everything
under "chain" can be rebuilt from events alone, which is how a reorganisation is survived.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

from quorate.protocol.job import BatchStatus
from quorate.protocol.params import Params
from quorate.protocol.types import (
    ZERO32,
    AbstainReason,
    Address,
    CarryRecord,
    CastVotes,
    CommitList,
    DisputeRecord,
    JobId,
    JobOrder,
    Opening,
    OperatorId,
    OutcomeRow,
    Question,
    SignedOrder,
    Stage,
    Table,
    Terms,
    Vote,
)
from quorate_node.core.policy import DEFAULT_LIMITS, Limits

MAX_NOTES = 50
NEVER = -1e18
"""A moment on the agent's clock before all others."""

BundleKey = tuple[int, int]
"""(batch id, bundle)."""
WorkKey = tuple[int, ...]
"""(batch id, bundle) for a whole bundle, (batch id, bundle, dispute id) for the tasks that a class is asked about."""
SeatKey = tuple[int, int]
"""(bundle, seat) within a batch and round."""


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
    many blocks a commitment must be deep before its opening leaves.
    """

    classes: tuple[int, ...] = (1,)
    is_collator: bool = False
    fee_wei: int = 0
    limits: Limits = DEFAULT_LIMITS
    challenge_budget_wei: int = 0
    watch_bps: int = 0
    reveal_depth: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """Newest block that was seen; `timestamp` in unix seconds."""

    number: int = 0
    timestamp: int = 0


# chain --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Bundle:
    """Up to 256 tasks of one job; `job_bundle` is its number within the job."""

    number: int
    job_id: JobId
    order: JobOrder
    job_bundle: int
    record: CarryRecord


@dataclass(slots=True)
class Round:
    """One committee's try; `domain` is known with the beacon, `start_*` once the beacon is proven on chain.

    `pages` are commit pages without the lists that the chain skipped. A header that the chain refused is doubted, and
    read again: it may be one of before a reorganisation.
    """

    number: int
    beacon_block: int
    header: bytes = b""
    is_doubted: bool = False
    header_asked_at: float = NEVER
    beacon: bytes | None = None
    domain: bytes | None = None
    start_time: int | None = None
    start_block: int = 0
    committees: dict[int, tuple[int, ...]] = field(default_factory=dict)
    pages: list[tuple[CommitList, ...]] = field(default_factory=list)
    committed: dict[SeatKey, bytes] = field(default_factory=dict)
    commit_block: dict[int, int] = field(default_factory=dict)
    openings: dict[SeatKey, Opening] = field(default_factory=dict)
    revealed: set[SeatKey] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A bundle's newest row, the round of its outcome page, and that page's place in the chain of them."""

    round: int
    page: int
    row: OutcomeRow


@dataclass(slots=True)
class Audits:
    """The audit draw of a settled batch: `header` of `beacon_block` decides, `start_time` is set once it is proven.

    `done` are bundles that were audited.
    """

    beacon_block: int
    round: int
    header: bytes = b""
    header_asked_at: float = NEVER
    domain: bytes | None = None
    start_time: int | None = None
    done: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Batch:
    """A batch as its events tell it. `pages` are the record or carry pages of the present round.

    `record_pages` and `outcome_pages` (round u8 ‖ rows) are what the chain keeps hashes of, from the first.
    """

    id: int
    collator: Address
    table_number: int
    terms: Terms
    table: Table
    opened_at: int
    judged: bool = True
    status: BatchStatus = BatchStatus.POSTING
    post_hash: bytes = ZERO32
    round: Round | None = None
    pages: list[bytes] = field(default_factory=list)
    page_bundles: list[tuple[int, ...]] = field(default_factory=list)
    carried_pages: list[bytes] = field(default_factory=list)
    bundles: dict[int, Bundle] = field(default_factory=dict)
    pending: set[int] = field(default_factory=set)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    record_pages: list[bytes] = field(default_factory=list)
    record_bundles: list[tuple[int, ...]] = field(default_factory=list)
    outcome_pages: list[bytes] = field(default_factory=list)
    final_at: int = 0
    audits: Audits | None = None

    def find_member(self, operator_id: int) -> int | None:
        """Row of an operator in the batch's table."""
        return find_member(self.table, operator_id)


@dataclass(slots=True)
class Dispute:
    """A class vote. `since` and `since_block` are the start of its present phase, publishing or a window.

    `published` are leaves by root; `cast` what earlier windows left; `pages` the vote commitments of this window that
    the chain did not skip; `tally` is there once it is decided, of which `row` rows are punished. `openings` and `mail`
    may have come by mail.
    """

    id: int
    record: DisputeRecord
    record_bytes: bytes
    table: Table
    bundle: Bundle | None
    since: int
    since_block: int
    published: dict[Vote, tuple[bytes, ...]] = field(default_factory=dict)
    question: Question | None = None
    question_bytes: bytes = b""
    window: int = 0
    statement: bytes = ZERO32
    cast: CastVotes | None = None
    tally: bytes = b""
    row: int = 0
    pages: list[tuple[tuple[int, bytes, bytes], ...]] = field(default_factory=list)
    committed: dict[int, bytes] = field(default_factory=dict)
    openings: dict[int, Opening] = field(default_factory=dict)
    revealed: set[int] = field(default_factory=set)
    mail: dict[int, tuple[int, bytes, bytes]] = field(default_factory=dict)

    @property
    def key(self) -> BundleKey:
        """The bundle in question."""
        return self.record.batch_id, self.record.bundle

    @property
    def voted(self) -> Mapping[int, Vote]:
        """Votes of earlier windows, which stand."""
        return self.cast.votes if self.cast else {}

    def clear_window(self) -> None:
        """A fresh window: nothing is committed in it."""
        self.pages, self.committed, self.openings, self.revealed, self.mail = [], {}, {}, set(), {}


@dataclass(slots=True)
class ClassView:
    """A class: price in wei for a FUEL_UNIT, `era_end` in unix seconds, number of the present table."""

    profile: bytes
    price: int
    era_end: int
    table: int = 0
    judged: bool = False


@dataclass(slots=True)
class Faults:
    """Seats of one fault era: how many failed, how many were paid. Told since this node runs, not before."""

    era: int
    failed: int = 0
    done: int = 0

    @property
    def is_faulty(self) -> bool:
        """Whether judging the record jails the operator."""
        return self.failed > 3 and 20 * self.failed > self.failed + self.done


@dataclass(slots=True)
class OperatorView:
    """An operator's public side; `jailed_until` in unix seconds, 0 outside of a jail.

    `was_left_out` tells that a vote which it committed was once settled as not opened.
    """

    owner: Address
    signing_key: Address
    url: str = ""
    faults: Faults | None = None
    jailed_until: int = 0
    ejected: bool = False
    was_left_out: bool = False


@dataclass(slots=True)
class ChainView:
    """All that events have told. The operators of one process share it, openings that came by mail included."""

    head: Head = Head()
    batches: dict[int, Batch] = field(default_factory=dict)
    disputes: dict[int, Dispute] = field(default_factory=dict)
    classes: dict[int, ClassView] = field(default_factory=dict)
    operators: dict[int, OperatorView] = field(default_factory=dict)
    operator_by_address: dict[Address, int] = field(default_factory=dict)
    tables: dict[tuple[int, int], Table] = field(default_factory=dict)
    skipped: OrderedDict[JobId, str] = field(default_factory=OrderedDict)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is under way: no round and no class vote."""
        return not self.disputes and all(each.status is BatchStatus.SETTLED for each in self.batches.values())

    def reset(self) -> None:
        """Forget everything, in place: others hold on to this object."""
        fresh = ChainView()
        for each in fields(self):
            setattr(self, each.name, getattr(fresh, each.name))


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

    `acknowledged` are openings that a collator says it has, by round domain. `challenged` are bonds in wei by
    (batch id, bundle, task), `found_leaves` what other operators served, by root.
    """

    work: dict[WorkKey, Work] = field(default_factory=dict)
    seats: dict[bytes, tuple[SeatKey, ...]] = field(default_factory=dict)
    groups: dict[bytes, list[SecretGroup]] = field(default_factory=dict)
    journaling: set[bytes] = field(default_factory=set)
    ready_since: dict[bytes, float] = field(default_factory=dict)
    acknowledged: set[tuple[bytes, SeatKey]] = field(default_factory=set)
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
    planned: dict[int, int] = field(default_factory=dict)
    queue: dict[Terms, QueuedOrders] = field(default_factory=dict)
    posting: dict[tuple[object, ...], QueuedOrders] = field(default_factory=dict)
    posts: int = 0
    extensions: list[SignedExtension] = field(default_factory=list)


@dataclass(slots=True)
class State:
    """Everything; `now` is the agent's clock in seconds, `asked` when an instruction was last given by its key."""

    identity: Identity
    network: Network
    settings: Settings = Settings()
    now: float = 0.0
    chain: ChainView = field(default_factory=ChainView)
    own: Own = field(default_factory=Own)
    mail: Mail = field(default_factory=Mail)
    asked: dict[tuple[object, ...], float] = field(default_factory=dict)
    under_way: set[tuple[object, ...]] = field(default_factory=set)
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_NOTES))

    def is_due(self, key: tuple[object, ...], every_s: float) -> bool:
        """Whether an instruction may be given (again); giving it is noted."""
        if key in self.under_way or self.now < self.asked.get(key, NEVER) + every_s:
            return False
        self.asked[key] = self.now
        return True


def find_member(table: Table, operator_id: int) -> int | None:
    """Row of an operator in a table."""
    for row, member in enumerate(table.members):
        if member.operator_id == operator_id:
            return row
    return None
