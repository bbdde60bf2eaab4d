"""`StakeRegistry` as a pure model: operators, classes, eras, slashes (section 3 of contracts/README.md).

Every method checks all its requirements before its first effect, so a refused call leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from quorate.protocol import events as ev
from quorate.protocol.context import ZERO_ADDRESS, Call, refuse, require
from quorate.protocol.errors import UnrecoverableError
from quorate.protocol.params import MAX_CLASSES, MAX_MEMBERS, MAX_UNITS, Params
from quorate.protocol.types import Address, FineKind, Member, OperatorId, Table

MAX_ENDPOINT_BYTES = 256
LONE_WRONG_PERCENT = (20, 40, 100)
MAX_CAPACITY = (1 << 64) - 1
EMPTY_TABLE = Table((), ())
_T = TypeVar("_T")


@dataclass(slots=True)
class Operator:
    """An operator's account; amounts in wei."""

    owner: Address
    signing_key: Address
    stake: int = 0
    unbonding: int = 0
    release_at: int = 0
    lone_wrong: int = 0
    ejected: bool = False
    classes: list[int] = field(default_factory=list)


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


class Registry:
    """Model of StakeRegistry; `balance` is the contract's, in wei."""

    def __init__(self, params: Params, market: Address, disputes: Address, challenges: Address) -> None:
        params.check()
        self.params, self.market, self.disputes, self.challenges = params, market, disputes, challenges
        self._deposit_for: Callable[[Call, Address], list[ev.Event]] | None = None
        self.operators: dict[OperatorId, Operator] = {}
        self.operator_of: dict[Address, OperatorId] = {}
        self.classes: dict[int, ClassState] = {}
        self.pots = self.class_deposits = self.treasury = self.balance = 0

    def bind(self, deposit_for: Callable[[Call, Address], list[ev.Event]]) -> None:
        """Where `payOut` pays to: the market's `depositFor`."""
        self._deposit_for = deposit_for

    # reading

    def get_class(self, class_id: int) -> ClassState:
        """State of a class; ClassUnknown."""
        if class_id not in self.classes:
            refuse("ClassUnknown", class_id)
        return self.classes[class_id]

    def drawable(self, class_id: int) -> list[OperatorId]:
        """Members that the next table of a class is built from, in their order."""
        return list(self.get_class(class_id).order)

    def medians(self, class_id: int) -> tuple[int, int]:
        """What `advanceEra` must be told of a class."""
        members = self.get_class(class_id).members
        rows = [members[operator_id] for operator_id in self.drawable(class_id)]
        return compute_median_ask(rows), compute_median_capacity(rows)

    def allocated(self, operator_id: OperatorId) -> int:
        """Stake that an operator's memberships lock, in wei."""
        classes = (self.classes[c] for c in self.operators[operator_id].classes)
        return sum(c.members[operator_id].units * c.unit_wei for c in classes)

    def holdings(self, operator_id: OperatorId) -> int:
        """What can be taken from an operator: stake and unbonding, in wei."""
        return self.operators[operator_id].stake + self.operators[operator_id].unbonding

    def _own(self, call: Call) -> tuple[OperatorId, Operator]:
        operator_id = self.operator_of.get(call.sender)
        if operator_id is None:
            refuse("OperatorUnknown")
        return operator_id, self.operators[operator_id]

    # operators

    def apply_register(self, call: Call, signing_key: Address) -> list[ev.Event]:
        """`register(key)` payable."""
        require(call.sender not in self.operator_of, "OperatorExists", self.operator_of.get(call.sender))
        require(signing_key != ZERO_ADDRESS, "InvalidArgument", "signingKey")
        operator_id = OperatorId(len(self.operators) + 1)
        self.operators[operator_id] = Operator(call.sender, signing_key, stake=call.value)
        self.operator_of[call.sender] = operator_id
        self.balance += call.value
        return [ev.OperatorRegistered(operator_id, call.sender, signing_key), ev.Staked(operator_id, call.value)]

    def apply_stake(self, call: Call, operator_id: OperatorId) -> list[ev.Event]:
        """`stake(id)` payable."""
        require(operator_id in self.operators, "OperatorUnknown")
        self.operators[operator_id].stake += call.value
        self.balance += call.value
        return [ev.Staked(operator_id, call.value)]

    def apply_set_signing_key(self, call: Call, signing_key: Address) -> list[ev.Event]:
        """`setSigningKey(key)`: acts in each class from its next table on."""
        operator_id, operator = self._own(call)
        require(signing_key != ZERO_ADDRESS, "InvalidArgument", "signingKey")
        operator.signing_key = signing_key
        for class_id in operator.classes:
            self.classes[class_id].dirty = True
        return [ev.SigningKeyChanged(operator_id, signing_key)]

    def apply_announce_endpoint(self, call: Call, url: str) -> list[ev.Event]:
        """`announceEndpoint(url)`: an event only."""
        operator_id, _ = self._own(call)
        require(len(url.encode()) <= MAX_ENDPOINT_BYTES, "EndpointTooLong", len(url.encode()))
        return [ev.EndpointAnnounced(operator_id, url)]

    def apply_unstake(self, call: Call, amount: int) -> list[ev.Event]:
        """`unstake(amount)`: all that unbonds is released together, `unbondingPeriod` from now."""
        operator_id, operator = self._own(call)
        spare = operator.stake - self.allocated(operator_id)
        require(amount > 0, "InvalidArgument", "amount")
        require(amount <= spare, "InsufficientStake", spare, amount)
        operator.stake -= amount
        operator.unbonding += amount
        operator.release_at = call.now + self.params.unbonding_period
        return [ev.Unstaked(operator_id, amount, operator.release_at)]

    def apply_withdraw(self, call: Call) -> list[ev.Event]:
        """`withdraw()`: pays the owner what has unbonded."""
        operator_id, operator = self._own(call)
        require(operator.unbonding > 0, "NothingToWithdraw")
        require(call.now >= operator.release_at, "NotReleased", operator.release_at)
        amount, operator.unbonding = operator.unbonding, 0
        self.balance -= amount
        return [ev.StakeWithdrawn(operator_id, amount)]

    # classes

    def apply_create_class(self, call: Call, profile: bytes, unit_wei: int, price: int, judged: bool) -> list[ev.Event]:
        """`createClass(profile, unitWei, price, judged)` payable: its era is over at once, its table empty."""
        deposit = self.params.class_deposit
        require(call.value == deposit, "WrongValue", call.value, deposit)
        require(unit_wei > 0, "InvalidArgument", "unitWei")
        require(price > 0, "InvalidArgument", "price")
        class_id = len(self.classes) + 1
        self.classes[class_id] = ClassState(profile, unit_wei, price, call.now, judged)
        self.class_deposits += deposit
        self.balance += deposit
        return [ev.ClassCreated(class_id, profile, unit_wei, price, judged)]

    def apply_join(self, call: Call, class_id: int, units: int, ask: int, capacity: int) -> list[ev.Event]:
        """`join(class, units, ask, capacity)`."""
        operator_id, operator = self._own(call)
        state = self.get_class(class_id)
        require(not operator.ejected, "Ejected", operator_id)
        for name, value in (("units", units), ("ask", ask), ("capacity", capacity)):
            require(value > 0, "InvalidArgument", name)
        require(operator_id not in state.members, "AlreadyMember", class_id)
        require(len(operator.classes) < MAX_CLASSES, "LimitReached", "classes")
        require(len(state.order) < MAX_MEMBERS, "LimitReached", "members")
        total = sum(m.units for m in state.members.values())
        require(total + units <= MAX_UNITS, "LimitReached", "units")
        needed = self.allocated(operator_id) + units * state.unit_wei
        require(operator.stake >= needed, "InsufficientStake", operator.stake, needed)
        state.members[operator_id] = Membership(units, ask, capacity)
        state.order.append(operator_id)
        state.dirty = True
        operator.classes.append(class_id)
        return [ev.ClassJoined(class_id, operator_id, units, ask, capacity)]

    def apply_leave(self, call: Call, class_id: int) -> list[ev.Event]:
        """`leave(class)`: the present table still draws the member."""
        operator_id, _ = self._own(call)
        require(operator_id in self.get_class(class_id).members, "NotMember", class_id)
        return [self._remove_member(class_id, operator_id)]

    def apply_set_ask(self, call: Call, class_id: int, ask: int) -> list[ev.Event]:
        """`setAsk(class, ask)`: counts in the next median."""
        operator_id, _ = self._own(call)
        state = self.get_class(class_id)
        require(ask > 0, "InvalidArgument", "ask")
        require(operator_id in state.members, "NotMember", class_id)
        state.members[operator_id].ask = ask
        state.dirty = True
        return [ev.AskChanged(class_id, operator_id, ask)]

    def _remove_member(self, class_id: int, operator_id: OperatorId) -> ev.ClassLeft:
        state, operator = self.classes[class_id], self.operators[operator_id]
        del state.members[operator_id]
        _swap_out(state.order, operator_id)
        _swap_out(operator.classes, class_id)
        state.dirty = True
        return ev.ClassLeft(class_id, operator_id)

    def apply_advance_era(self, call: Call, class_id: int, median_ask: int, median_capacity: int) -> list[ev.Event]:
        """`advanceEra(class, medianAsk, medianCapacity)`: a new table when members changed, a price step always."""
        state = self.get_class(class_id)
        require(call.now >= state.era_end, "EraNotOver", state.era_end)
        if state.dirty:
            rows, (ask, capacity) = self.drawable(class_id), self.medians(class_id)
            require(not rows or median_ask == ask, "WrongMedian", "ask")
            require(not rows or median_capacity == capacity, "WrongMedian", "capacity")
            state.median_ask = ask
            state.tables.append(self._build_table(state, rows, capacity))
            state.dirty = False
        state.era += 1
        state.era_end = call.now + self.params.era_period
        if state.order:
            state.price = compute_next_price(state.price, state.median_ask)
        return [ev.EraAdvanced(class_id, state.era, state.table_number, state.price, state.era_end)]

    def _build_table(self, state: ClassState, rows: list[OperatorId], median_capacity: int) -> EraTable:
        members = tuple(Member(self.operators[i].signing_key, i) for i in rows)
        units = tuple(row for row, i in enumerate(rows) for _ in range(state.members[i].units))
        # Absurd declarations must not stop the class's eras.
        return EraTable(Table(members, units), min(median_capacity * len(units), MAX_CAPACITY))

    # money of market, disputes and challenges

    def _require_protocol(self, call: Call) -> None:
        require(call.sender in (self.market, self.disputes, self.challenges), "Unauthorized")

    def apply_credit(self, call: Call, entries: Sequence[Earning], from_pot: int) -> list[ev.Event]:
        """`credit(entries, fromPot)` payable: Σ amounts = value + fromPot."""
        self._require_protocol(call)
        total = sum(entry.amount for entry in entries)
        require(total == call.value + from_pot, "WrongValue", call.value + from_pot, total)
        self.balance += call.value
        self.pots -= from_pot
        for entry in entries:
            self.operators[entry.operator_id].stake += entry.amount
        return [ev.Credited(tuple(entry.encode() for entry in entries))]

    def apply_fine(self, call: Call, operator_id: OperatorId, amount: int, kind: FineKind) -> list[ev.Event]:
        """`fine(id, amount, kind)`: min(amount, stake + unbonding) into the pots, stake first."""
        self._require_protocol(call)
        taken = min(amount, self.holdings(operator_id))
        left = self._take(operator_id, taken)
        return [ev.OperatorFined(operator_id, taken, kind), *left]

    def apply_slash(self, call: Call, operator_id: OperatorId, wrong_together: bool) -> list[ev.Event]:
        """`slash(id, wrongTogether)`: 100 % together, 20 / 40 / 100 % alone; at 100 % ejected."""
        require(call.sender == self.disputes, "Unauthorized")
        operator = self.operators[operator_id]
        percent = 100
        if not wrong_together:
            percent = LONE_WRONG_PERCENT[min(operator.lone_wrong, len(LONE_WRONG_PERCENT) - 1)]
            operator.lone_wrong += 1
        taken = self.holdings(operator_id) * percent // 100
        if percent == 100:
            operator.ejected = True
        left = self._take(operator_id, taken)
        return [ev.OperatorSlashed(operator_id, taken, operator.ejected), *left]

    def apply_release_pot(self, call: Call, amount: int) -> list[ev.Event]:
        """`releasePot(amount)`: pots → treasury."""
        self._require_protocol(call)
        self.pots -= amount
        self.treasury += amount
        return [ev.TreasuryGrew(amount)]

    def apply_draw_treasury(self, call: Call, amount: int) -> list[ev.Event]:
        """`drawTreasury(amount)`: treasury → pots, as far as it reaches; the event tells how far."""
        self._require_protocol(call)
        taken = min(amount, self.treasury)
        self.treasury -= taken
        self.pots += taken
        return [ev.TreasuryPaid(taken)]

    def apply_pay_out(self, call: Call, account: Address, amount: int) -> list[ev.Event]:
        """`payOut(account, amount)`: pots → the account's free deposit in the market."""
        self._require_protocol(call)
        if self._deposit_for is None:
            raise UnrecoverableError("the registry was not bound to a market")
        self.pots -= amount
        self.balance -= amount
        return self._deposit_for(replace(call, value=amount), account)

    def apply_deposit_pot(self, call: Call) -> list[ev.Event]:
        """`depositPot()` payable: value → pots."""
        self._require_protocol(call)
        self.pots += call.value
        self.balance += call.value
        return []

    def apply_donate(self, call: Call) -> list[ev.Event]:
        """`donate()` payable: value → treasury."""
        self.treasury += call.value
        self.balance += call.value
        return [ev.TreasuryGrew(call.value)]

    def _take(self, operator_id: OperatorId, amount: int) -> list[ev.Event]:
        """Move wei into the pots, stake first; then allocations follow what stake is left."""
        operator = self.operators[operator_id]
        from_stake = min(amount, operator.stake)
        operator.stake -= from_stake
        operator.unbonding -= amount - from_stake
        self.pots += amount
        return self._shrink_allocations(operator_id)

    def _shrink_allocations(self, operator_id: OperatorId) -> list[ev.Event]:
        operator, allocated = self.operators[operator_id], self.allocated(operator_id)
        if operator.stake >= allocated and not operator.ejected:
            return []
        left: list[ev.Event] = []
        for class_id in reversed(list(operator.classes)):
            state = self.classes[class_id]
            member = state.members[operator_id]
            member.units = 0 if operator.ejected else member.units * operator.stake // allocated
            state.dirty = True
            if member.units == 0:
                left.append(self._remove_member(class_id, operator_id))
        return left


def _swap_out(items: list[_T], item: _T) -> None:
    """Remove as Solidity does cheaply: the last takes the place."""
    items[items.index(item)] = items[-1]
    items.pop()
