"""What the registry knows of operators and classes, and the pure rules on it (section 3 of contracts/README.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from quorate.protocol.types import Address, OperatorId, Table

EMPTY_TABLE = Table((), ())
MAX_CAPACITY = (1 << 64) - 1
MAX_SEATS = (1 << 23) - 1
LONE_WRONG_PERCENT = (20, 40, 100)
OFFENCE_PERCENT = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """Failed seats of one fault era that is not judged yet; `done` are seats that the operator's `seats` forgot."""

    era: int = 0
    failed: int = 0
    unrevealed: int = 0
    done: int = 0

    def is_faulty(self, done: int) -> bool:
        """Whether more than 3 seats and 5 % of all seats failed; `done` counts those that were filled."""
        return self.failed > 3 and 20 * self.failed > self.failed + done


@dataclass(slots=True)
class Operator:
    """An operator's account; amounts in wei, `seats` filled in the fault era `seats_era` (modulo 256)."""

    owner: Address
    signing_key: Address
    stake: int = 0
    unbonding: int = 0
    release_at: int = 0
    lone_wrong: int = 0
    ejected: bool = False
    classes: list[int] = field(default_factory=list)
    seats: int = 0
    seats_era: int = 0
    faults: FaultRecord = FaultRecord()
    jailed_until: int = 0
    offence_era: int = 0
    offences: int = 0

    @property
    def holdings(self) -> int:
        """What can be taken, in wei."""
        return self.stake + self.unbonding

    def seats_in(self, era: int) -> int:
        """Seats filled in a fault era, as far as they are still known."""
        return self.seats if self.seats_era == era % 256 else 0

    def count_seats(self, seats: int, era: int) -> None:
        """Seats are counted for one fault era; those of another stay known to a record that is not judged yet."""
        if self.seats_era != era % 256:
            if self.faults.failed and self.faults.era % 256 == self.seats_era:
                self.faults = replace(self.faults, done=self.faults.done + self.seats)
            self.seats, self.seats_era = 0, era % 256
        self.seats = min(self.seats + seats, MAX_SEATS)

    @property
    def is_faulty(self) -> bool:
        """Whether too many of the seats failed in the era of the record that waits."""
        return self.faults.is_faulty(self.faults.done + self.seats_in(self.faults.era))

    def next_offences(self, era_period: int, fault_memory: int) -> int:
        """How many offences in a row the record makes; 0 when it is none. The periods are in seconds."""
        if not self.faults.unrevealed or not self.is_faulty:
            return 0
        is_remembered = (self.faults.era - self.offence_era) * era_period < fault_memory
        return min(self.offences + 1, len(OFFENCE_PERCENT)) if is_remembered else 1

    def compute_slash(self, offences: int) -> int:
        """What so many offences in a row cost, in wei, rounded down."""
        return self.holdings * OFFENCE_PERCENT[offences - 1] // 100 if offences else 0


@dataclass(slots=True)
class Membership:
    """Allocation of an operator to a class: units of stake, wei for a FUEL_UNIT, reference fuel a second."""

    units: int
    ask: int
    capacity: int


class Earning(NamedTuple):
    """What `credit` gives an operator: wei, and how many seats it filled for them."""

    operator_id: OperatorId
    amount: int
    seats: int = 0

    def encode(self) -> int:
        """The entry's word."""
        return self.operator_id << 128 | self.seats << 96 | self.amount


@dataclass(frozen=True, slots=True)
class EraTable:
    """A table with what its members can do together, in reference fuel a second."""

    table: Table
    capacity: int


@dataclass(slots=True)
class ClassState:
    """A class; `members` in their order in storage, `tables` by number, 0 being the empty one."""

    profile: bytes
    unit_wei: int
    price: int
    era_end: int
    judged: bool = False
    era: int = 0
    median_ask: int = 0
    dirty: bool = False
    members: dict[OperatorId, Membership] = field(default_factory=dict)
    order: list[OperatorId] = field(default_factory=list)
    tables: list[EraTable] = field(default_factory=lambda: [EraTable(EMPTY_TABLE, 0)])

    @property
    def table_number(self) -> int:
        """Number of the present table."""
        return len(self.tables) - 1

    @property
    def current(self) -> EraTable:
        """The present table."""
        return self.tables[-1]


def compute_median_ask(members: Sequence[Membership]) -> int:
    """Least ask such that the units of members with ask ≤ it are at least half of all; 0 without members."""
    return _compute_median([(m.ask, m.units) for m in members])


def compute_median_capacity(members: Sequence[Membership]) -> int:
    """The same of what members declare for a unit: who declares much alone changes nothing."""
    return _compute_median([(m.capacity // m.units, m.units) for m in members])


def _compute_median(weighted: list[tuple[int, int]]) -> int:
    total, up_to = sum(weight for _, weight in weighted), 0
    for value, weight in sorted(weighted):
        up_to += weight
        if 2 * up_to >= total:
            return value
    return 0


def compute_next_price(price: int, median_ask: int) -> int:
    """Move a price towards the median by at most a tenth (floor, but at least 1 wei)."""
    step = max(price // 10, 1)
    return min(price + step, median_ask) if median_ask > price else max(price - step, median_ask)
