"""What a node knows: its deployment, the chain as told by events, its own work, its secrets and its mail.

The records are mutable and belong to one `Core`; nothing outside `quorate_node.core` writes to them. Everything
under "chain" can be rebuilt from events alone, which is how a reorganisation is survived.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field, fields
from enum import StrEnum

from quorate.protocol.job import BatchStatus
from quorate.protocol.params import Params
from quorate.protocol.types import (
    ZERO32,
    Address,
    CarryRecord,
    CommitList,
    DisputeRecord,
    JobId,
    JobOrder,
    Opening,
    OperatorId,
    SignedOrder,
    Stage,
    Table,
    Terms,
    Verdict,
    Vote,
)
from quorate_node.core.policy import DEFAULT_LIMITS, Limits

MAX_NOTES = 50
NEVER = -1e18
"""A moment on the agent's clock before all others."""

BundleKey = tuple[int, int]
"""(batch id, bundle)."""
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


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator decides; `classes` are those that it keeps alive, `fee_wei` what it asks as a collator."""

    classes: tuple[int, ...] = (1,)
    is_collator: bool = False
    fee_wei: int = 0
    limits: Limits = DEFAULT_LIMITS


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

    `pages` are commit pages without the lists that the chain skipped.
    """

    number: int
    beacon_block: int
    header: bytes = b""
    header_asked_at: float = NEVER
    beacon: bytes | None = None
    domain: bytes | None = None
    start_time: int | None = None
    start_block: int = 0
    committees: dict[int, tuple[int, ...]] = field(default_factory=dict)
    pages: list[tuple[CommitList, ...]] = field(default_factory=list)
    committed: dict[SeatKey, bytes] = field(default_factory=dict)
    openings: dict[SeatKey, Opening] = field(default_factory=dict)


@dataclass(slots=True)
class Batch:
    """A batch as its events tell it. `pages` are the record or carry pages of the present round."""

    id: int
    collator: Address
    table_number: int
    terms: Terms
    table: Table
    opened_at: int
    status: BatchStatus = BatchStatus.POSTING
    post_hash: bytes = ZERO32
    round: Round | None = None
    pages: list[bytes] = field(default_factory=list)
    page_bundles: list[tuple[int, ...]] = field(default_factory=list)
    carried_pages: list[bytes] = field(default_factory=list)
    bundles: dict[int, Bundle] = field(default_factory=dict)
    pending: set[int] = field(default_factory=set)
    verdicts: dict[int, tuple[Verdict, Vote]] = field(default_factory=dict)
    final_at: int = 0

    def find_member(self, operator_id: int) -> int | None:
        """Row of an operator in the batch's table."""
        return find_member(self.table, operator_id)


@dataclass(slots=True)
class Dispute:
    """A class vote; `lists` are vote commitments on chain as (member, signature, commitment), page by page."""

    id: int
    record: DisputeRecord
    record_bytes: bytes
    table: Table
    bundle: Bundle | None
    opened_at: int
    open_block: int
    pages: list[tuple[tuple[int, bytes, bytes], ...]] = field(default_factory=list)
    committed: dict[int, bytes] = field(default_factory=dict)
    openings: dict[int, Opening] = field(default_factory=dict)
    mail: dict[int, tuple[int, bytes, bytes]] = field(default_factory=dict)

    @property
    def key(self) -> BundleKey:
        """The bundle in conflict."""
        return self.record.batch_id, self.record.bundle


@dataclass(slots=True)
class ClassView:
    """A class: price in wei for a FUEL_UNIT, `era_end` in unix seconds, number of the present table."""

    profile: bytes
    price: int
    era_end: int
    table: int = 0


@dataclass(slots=True)
class OperatorView:
    """An operator's public side; `jailed_until` in unix seconds, 0 outside of a jail."""

    owner: Address
    signing_key: Address
    url: str = ""
    jailed_until: int = 0
    ejected: bool = False


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
    """One execution of a bundle; it serves every round and the class vote alike."""

    job_id: JobId
    job_bundle: int = 0
    status: WorkStatus = WorkStatus.RUNNING
    root: Vote | None = None
    leaves: tuple[bytes, ...] = ()
    reason: str = ""
    since: float = 0.0
    retry_at: float | None = None


@dataclass(frozen=True, slots=True)
class Secret:
    """A vote that this node has committed to, or is about to: what an opening needs."""

    bundle: int
    seat: int
    statement: bytes
    vote: Vote
    salt: bytes
    commitment: bytes
    leaves: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class SecretGroup:
    """Commitments under one signature: journalled, signed and sent as one, for ever in this grouping.

    `subject` is a batch id in stage BUNDLE and a dispute id in stage CLASS_VOTE.
    """

    stage: Stage
    subject: int
    round: int
    domain: bytes
    member: int
    secrets: tuple[Secret, ...]


@dataclass(slots=True)
class Own:
    """This node's work and secrets."""

    work: dict[BundleKey, Work] = field(default_factory=dict)
    seats: dict[bytes, tuple[SeatKey, ...]] = field(default_factory=dict)
    groups: dict[bytes, list[SecretGroup]] = field(default_factory=dict)
    journaling: set[tuple[bytes, int]] = field(default_factory=set)
    ready_since: dict[bytes, float] = field(default_factory=dict)


@dataclass(slots=True)
class QueuedOrders:
    """Orders that fit one batch; `since` is when the first of them came."""

    terms: Terms
    since: float
    orders: list[SignedOrder] = field(default_factory=list)
    attempts: int = 0


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
