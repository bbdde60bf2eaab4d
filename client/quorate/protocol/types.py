"""Values that travel: ids, orders, terms, lists of commitments, records. Widths are those of contracts/README.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import NewType

from quorate.protocol.errors import ValidationError

Address = NewType("Address", bytes)  # 20 bytes
OperatorId = NewType("OperatorId", int)  # u24, from 1
ClassId = NewType("ClassId", int)  # u32, from 1
BatchId = NewType("BatchId", int)  # u64: sequence u32 ‖ slot u32
DisputeId = NewType("DisputeId", int)  # u64: sequence u32 ‖ slot u32
JobId = NewType("JobId", bytes)  # EIP-712 digest of the order
Vote = NewType("Vote", bytes)  # 32 bytes: Merkle root of a bundle's leaves

ZERO32 = bytes(32)
REASONS = 256
"""A commitment below this is an abstention: the number is its reason."""


class Stage(IntEnum):
    """What a round's commitments are about."""

    BUNDLE = 0
    CLASS_VOTE = 1  # only what a node's own journal calls a class vote; its statement has its own form
    AUDIT = 2


class Verdict(IntEnum):
    """Outcome of a bundle in a settle call or a dispute."""

    ACCEPTED = 1
    DISPUTED = 2
    CARRIED = 3
    VOID = 4


class FineKind(IntEnum):
    """What an operator is fined for; the last two are faults."""

    ABSENT = 0
    ABSTAINED = 1
    SILENT = 2
    UNREVEALED = 3


class SignatureKind(IntEnum):
    """How a group of orders is signed."""

    ECDSA = 0
    WALLET = 1  # EIP-1271: the requester is a contract


class OrderFlag(IntFlag):
    """Wishes of an order; other bits are refused."""

    STRICT = 1  # never accepted by what a part of the seats opened


class AbstainReason(IntEnum):
    """Why a seat does not vote."""

    OTHER = 0
    NO_DATA = 1
    RESOURCES = 2
    TIME = 3
    POLICY = 4
    DATA_MISMATCH = 5


class OrderSkip(IntEnum):
    """Why `post` left an order out; the first reason that holds, in this order."""

    EMPTY = 1
    UNSUPPORTED = 2
    EXPIRED = 3
    UNITS = 4
    FEE = 5
    PRICE = 6
    PERIOD = 7
    FULL = 8
    CAPACITY = 9
    SIGNATURE = 10
    NONCE = 11
    DEPOSIT = 12


class ListSkip(IntEnum):
    """Why `commit` or `commitVotes` left a list of commitments out."""

    MEMBER = 1
    SIGNATURE = 2
    ORDER = 3
    RANGE = 4
    NOT_PENDING = 5
    NOT_DRAWN = 6
    DUPLICATE = 7


def _check_width(name: str, value: int, bits: int) -> None:
    if not 0 <= value < 1 << bits:
        raise ValidationError(f"{name} = {value} does not fit in {bits} unsigned bits")


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What a requester signs. `fuel_limit` is for a task, `input_bytes` for a bundle, `max_price` wei a FUEL_UNIT."""

    requester: Address
    nonce: int
    class_id: int
    spec_hash: bytes
    task_count: int
    fuel_limit: int
    input_bytes: int
    seats: int
    rounds: int
    commit_period: int
    min_units: int
    max_price: int
    max_fee: int
    valid_until: int
    strategy: int = 0
    flags: int = 0

    def __post_init__(self) -> None:
        if len(self.requester) != 20 or len(self.spec_hash) != 32:
            raise ValidationError("an order needs a requester of 20 bytes and a spec_hash of 32 bytes")
        for name, bits in ORDER_WIDTHS.items():
            _check_width(name, getattr(self, name), bits)


ORDER_WIDTHS = {
    "nonce": 64, "class_id": 32, "task_count": 32, "fuel_limit": 64, "input_bytes": 64, "seats": 8, "rounds": 8,
    "commit_period": 32, "min_units": 32, "max_price": 64, "max_fee": 64, "valid_until": 40, "strategy": 8, "flags": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SignedOrder:
    """An order with the requester's signature: 65 bytes r ‖ s ‖ v (v is 27 or 28), or what its contract accepts."""

    order: JobOrder
    signature: bytes
    kind: SignatureKind = SignatureKind.ECDSA

    def __post_init__(self) -> None:
        if self.kind == SignatureKind.ECDSA and len(self.signature) != 65:
            raise ValidationError(f"a signature has 65 bytes, not {len(self.signature)}")
        _check_width("length of the signature", len(self.signature), 16)


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms of a batch; orders of other seats or rounds carry a signature that does not verify under them."""

    class_id: int
    seats: int
    rounds: int
    commit_period: int
    fee_wei: int


@dataclass(frozen=True, slots=True)
class CommitItem:
    """One seat's commitment."""

    bundle: int
    seat: int
    commitment: bytes

    @property
    def reason(self) -> int | None:
        """Reason of an abstention; None for a commitment to a vote."""
        value = int.from_bytes(self.commitment, "big")
        return value if value < REASONS else None


@dataclass(frozen=True, slots=True)
class CommitList:
    """Commitments of one table member under one signature; items ascend strictly by (bundle, seat)."""

    member: int
    items: tuple[CommitItem, ...]
    signature: bytes


@dataclass(frozen=True, slots=True)
class Opening:
    """A vote with the 16-byte salt that opens its commitment."""

    vote: Vote
    salt: bytes


@dataclass(frozen=True, slots=True)
class PostRecord:
    """What settle needs of an accepted order."""

    requester: Address
    task_price: int
    task_count: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class CarryRecord:
    """A bundle as a round finds it, with the votes that stand; `shares` prices are in its escrow.

    `opened` is the sum over earlier rounds of seats with a vote, `abstainers` has a member once for each seat.
    """

    bundle: int
    requester: Address
    price: int
    tasks: int
    flags: int
    shares: int
    pot: int = 0
    opened: int = 0
    vote: Vote | None = None
    voters: tuple[int, ...] = ()
    abstainers: tuple[int, ...] = ()

    @property
    def is_strict(self) -> bool:
        """Whether the order refuses acceptance by less than every seat of a round."""
        return bool(self.flags & OrderFlag.STRICT)


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """What a settle call told of one bundle; `voters` stand where the bundle is accepted, or void with one vote."""

    bundle: int
    verdict: Verdict
    vote: Vote
    opened: int
    voters: tuple[int, ...]


class DisputeKind(IntEnum):
    """What opened a dispute."""

    CONFLICT = 0
    CHALLENGE = 1
    AUDIT = 2


@lru_cache(maxsize=1 << 10)
def _find_roots(votes: tuple[tuple[int, Vote], ...]) -> tuple[Vote, ...]:
    return tuple(sorted({vote for _, vote in votes}))  # operators of a farm ask in every tick


@dataclass(frozen=True, slots=True)
class DisputeRecord:
    """All that a class vote needs to know; the chain keeps its hash. `votes` are (member, root) of seats.

    `escrow` of a conflict is held by the market and includes `fee` and `audit_fee`; that of other kinds is what a
    reversal refunds at most. `pot` of a challenge is its bond, `round` that of the outcome in doubt (a conflict: 0).
    """

    kind: DisputeKind
    batch_id: BatchId
    bundle: int
    tasks: int
    requester: Address
    price: int
    pot: int
    escrow: int
    fee: int
    audit_fee: int
    collator: Address
    class_id: int
    table: int
    challenger: Address
    task: int
    claim: bytes
    round: int
    votes: tuple[tuple[int, Vote], ...]

    @property
    def roots(self) -> tuple[Vote, ...]:
        """Distinct votes, ascending."""
        return _find_roots(self.votes)

    @property
    def seat_count(self) -> int:
        """Entries that sat; behind them stands only the auditor that agreed with a result that is challenged."""
        count = len(self.votes)
        has_auditor = self.kind is DisputeKind.CHALLENGE and count > 1 and (count - 1) * self.price >= self.escrow
        return count - has_auditor

    @property
    def accepted(self) -> Vote | None:
        """The root that the bundle was accepted with; None for a conflict."""
        return None if self.kind is DisputeKind.CONFLICT else self.votes[0][1]


@dataclass(frozen=True, slots=True)
class Question:
    """What the class is asked: each root's answer, in the order of the roots. No task means the whole bundle."""

    tasks: tuple[int, ...]
    answers: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class CastVotes:
    """What earlier windows left: votes that stand, by member, and windows of silence by row."""

    votes: Mapping[int, Vote]
    silent: tuple[int, ...]


VoteCommit = tuple[int, bytes, bytes]
"""A class voter's (member, signature, commitment)."""


@dataclass(frozen=True, slots=True)
class Member:
    """A row of a class's table."""

    key: Address
    operator_id: OperatorId


@dataclass(frozen=True, slots=True)
class Table:
    """Who can be drawn in a class: rows, and for each unit of stake the index of its row."""

    members: tuple[Member, ...]
    units: tuple[int, ...]
    _units_of: Counter[int] = field(init=False, repr=False, compare=False)
    _row_of: dict[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A class vote asks for every row: counting each time took a second at a thousand members.
        object.__setattr__(self, "_units_of", Counter(self.units))
        object.__setattr__(self, "_row_of", {int(each.operator_id): row for row, each in enumerate(self.members)})

    def find_row(self, operator_id: int) -> int | None:
        """Row of an operator, if it has one."""
        return self._row_of.get(operator_id)

    def units_of(self, member: int) -> int:
        """Units of one row."""
        return self._units_of[member]
