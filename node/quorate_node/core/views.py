"""The chain as its events tell it: operators, classes, batches, disputes. Rebuilt from events alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from quorate.protocol.job import BatchStatus
from quorate.protocol.types import (
    ZERO32,
    Address,
    CarryRecord,
    CastVotes,
    CommitList,
    DisputeRecord,
    JobId,
    JobOrder,
    Opening,
    OutcomeRow,
    Question,
    Table,
    Terms,
    Vote,
)

NEVER = -1e18
"""A moment on the agent's clock before all others."""
BundleKey = tuple[int, int]
"""(batch id, bundle)."""
SeatKey = tuple[int, int]
"""(bundle, seat) within a batch and round."""


def find_member(table: Table, operator_id: int) -> int | None:
    """Row of an operator in a table."""
    return table.find_row(operator_id)


@dataclass(frozen=True, slots=True)
class Head:
    """Newest block that was seen; `timestamp` in unix seconds."""

    number: int = 0
    timestamp: int = 0


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
    audit_from: int = 0  # least round whose outcomes the present draw of audits is about

    def find_member(self, operator_id: int) -> int | None:
        """Row of an operator in the batch's table."""
        return find_member(self.table, operator_id)


@dataclass(slots=True)
class Dispute:
    """A class vote. `since` and `since_block` are the start of its present phase, publishing or a window.

    `published` are leaves by root; `cast` what earlier windows left; `pages` the vote commitments of this window that
    the chain did not skip, of which `abstained` say nothing; `tally` is there once it is decided, of which `row` rows
    are punished. `openings` and `mail` may have come by mail.
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
    abstained: int = 0
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
        self.abstained = 0


@dataclass(slots=True)
class ClassView:
    """A class: price in wei for a FUEL_UNIT, `era_end` in unix seconds, number of the present table.

    `joined` are the operators that the next table may have, whether or not the present one has them.
    """

    profile: bytes
    price: int
    era_end: int
    table: int = 0
    judged: bool = False
    joined: set[int] = field(default_factory=set)


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
