"""Who is staked in a class under attack: honest operators and liars in the pure registry, and what becomes of both."""

from __future__ import annotations

from dataclasses import dataclass

from quorate.protocol import events as ev
from quorate.protocol.context import Block, Call
from quorate.protocol.hashing import keccak
from quorate.protocol.params import ETHER, MAX_UNITS, Params
from quorate.protocol.registry import Registry
from quorate.protocol.types import Address, OperatorId, Table
from quorate.protocol.world import World

CLASS = 1
UNIT_WEI = ETHER
CLASS_PRICE = 10**11
"""Wei for a FUEL_UNIT."""
SPARE = 100
"""What an operator holds beside its units, in units: fines must bite before they eject."""
CAPACITY = 10**10
EQUAL_UNITS = 10
WHALES_SHARE = 10
"""With concentrated honest stake every tenth operator is honest."""


@dataclass(frozen=True, slots=True)
class Split:
    """Units of each operator: the first `len(honest)` operators are honest."""

    honest: tuple[int, ...]
    liars: tuple[int, ...]

    @property
    def share(self) -> float:
        """The liars' share of all units."""
        return sum(self.liars) / (sum(self.liars) + sum(self.honest))


def split_equally(nodes: int, share: float) -> Split:
    """All alike; liars hold at most `share`."""
    liars = int(nodes * share + 1e-9)
    return Split((EQUAL_UNITS,) * (nodes - liars), (EQUAL_UNITS,) * liars)


def split_liars(nodes: int, share: float) -> Split:
    """Few rich honest operators against liars that split their stake into as many identities as there can be."""
    honest = max(2, nodes // WHALES_SHARE)
    liars = nodes - honest
    each = max(1, int(share * MAX_UNITS * 0.8 / liars))
    needed = -(-int(each * liars * (1 - share) * 10**6) // int(share * 10**6))
    base, more = divmod(needed, honest)
    return Split(tuple(base + (i < more) for i in range(honest)), (each,) * liars)


def make_address(kind: str, number: int) -> Address:
    """An address that stands for a name."""
    return Address(keccak(f"{kind} {number}".encode())[12:])


class Population:
    """The registry of one class with its honest operators and its liars; time is told to it."""

    def __init__(self, params: Params, split: Split, deplete: bool) -> None:
        registry, market, disputes, challenges = (make_address("contract", i) for i in range(4))
        self.world = World(params, 31337, registry, market, disputes, challenges, lambda digest, signature: None)
        self.registry: Registry = self.world.registry
        self.params, self.deplete = params, deplete
        self.now = params.era_period
        self.units: dict[int, int] = {}
        self.honest: set[int] = set()
        self.liars: set[int] = set()  # those of today
        self.invested = 0  # what all liars ever staked
        self.ever_liars: set[int] = set()
        self.honest_slashed: set[int] = set()
        self._create(split)

    # time and calls

    @property
    def era(self) -> int:
        """The fault era."""
        return self.now // self.params.era_period

    def call(self, sender: Address, value: int = 0) -> Call:
        """A call of now."""
        return Call(sender, Block(self.now, self.now), value)

    def note(self, events: list[ev.Event]) -> None:
        """Remember which honest operators were slashed or jailed."""
        for event in events:
            if isinstance(event, ev.OperatorSlashed | ev.OperatorJailed) and event.operator_id in self.honest:
                self.honest_slashed.add(event.operator_id)

    # members

    def _create(self, split: Split) -> None:
        creator = self.call(make_address("creator", 0), self.params.class_deposit)
        self.registry.apply_create_class(creator, bytes(32), UNIT_WEI, CLASS_PRICE, judged=True)
        for units in split.honest:
            self.honest.add(self._enroll(units))
        for units in split.liars:
            self._enroll_liar(units)
        self.advance_era()

    def _enroll(self, units: int) -> int:
        number = len(self.registry.operators) + 1
        owner, stake = make_address("owner", number), units * UNIT_WEI * (100 + SPARE) // 100
        self.registry.apply_register(self.call(owner, stake), make_address("key", number))
        self.registry.apply_join(self.call(owner), CLASS, units, CLASS_PRICE, CAPACITY * units)
        self.units[number] = units
        return number

    def _enroll_liar(self, units: int) -> None:
        number = self._enroll(units)
        self.liars.add(number)
        self.ever_liars.add(number)
        self.invested += self.holdings({number})

    def holdings(self, operators: set[int]) -> int:
        """Stake and unbonding of all of them, in wei."""
        return sum(self.registry.holdings(OperatorId(i)) for i in operators)

    @property
    def table(self) -> Table:
        """Who can be drawn now."""
        return self.registry.get_class(CLASS).current.table

    def share_of(self, table: Table) -> float:
        """The liars' share of a table's units."""
        theirs = sum(table.units_of(row) for row, m in enumerate(table.members) if m.operator_id in self.ever_liars)
        return theirs / len(table.units)

    def compute_capture(self, table: Table, seats: int) -> float:
        """Probability that a committee is wholly theirs: a draw without putting back. Their units are about equal."""
        rows = [row for row, m in enumerate(table.members) if m.operator_id in self.ever_liars]
        units, found = [table.units_of(row) for row in rows], 1.0
        each = sum(units) / len(units) if units else 0.0
        for taken in range(seats):
            found *= max(0.0, sum(units) - taken * each) / (len(table.units) - taken * each)
        return found

    def advance_era(self) -> None:
        """Let the next table be built."""
        medians = self.registry.medians(CLASS)
        self.registry.apply_advance_era(self.call(make_address("creator", 0)), CLASS, *medians)

    def pass_era(self) -> None:
        """A fault era ends: anybody has the faults judged, who has sat out its jail comes back, liars that were ejected
        or shrunk are made whole again, and the next table is built."""
        self.now += self.params.era_period
        self._judge_faults()
        if not self.deplete:
            self.restore()
        self.advance_era()

    def restore(self) -> None:
        """Make all liars what they were, with others in place of those that were ejected."""
        for liar in sorted(self.liars):
            self._restore(liar)

    def _judge_faults(self) -> None:
        anybody = self.call(make_address("creator", 0))
        for number, operator in self.registry.operators.items():
            if operator.faults.failed:
                self.note(self.registry.apply_judge(anybody, number))
            if 0 < operator.jailed_until <= self.now:
                self.registry.apply_rejoin(self.call(operator.owner))

    @property
    def jailed(self) -> set[int]:
        """Operators that no next table will have."""
        return {int(number) for number, operator in self.registry.operators.items() if operator.jailed_until}

    def replace(self, liar: int) -> None:
        """Another liar, with as many units, takes the place of one."""
        self.liars.discard(liar)
        self._enroll_liar(self.units[liar])

    def _restore(self, liar: int) -> None:
        operator, wanted = self.registry.operators[OperatorId(liar)], self.units[liar]
        if operator.ejected:
            self.replace(liar)
            return
        member = self.registry.get_class(CLASS).members.get(OperatorId(liar))
        if member is not None and member.units == wanted:
            return
        owner, missing = self.call(operator.owner), wanted * UNIT_WEI - operator.stake
        if missing > 0:
            self.registry.apply_stake(self.call(operator.owner, missing), OperatorId(liar))
            self.invested += missing
        if member is not None:
            self.registry.apply_leave(owner, CLASS)
        self.registry.apply_join(owner, CLASS, wanted, CLASS_PRICE, CAPACITY * wanted)
