"""`StakeRegistry` as a pure model: operators, classes, eras, slashes (section 3 of contracts/README.md).

Every method checks all its requirements before its first effect, so a refused call leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from quorate.protocol import events as ev
from quorate.protocol.classes import (
    LONE_WRONG_PERCENT,
    MAX_CAPACITY,
    ClassState,
    Earning,
    EraTable,
    FaultRecord,
    Membership,
    Operator,
    compute_median_ask,
    compute_median_capacity,
    compute_next_price,
)
from quorate.protocol.context import ZERO_ADDRESS, Call, refuse, require
from quorate.protocol.errors import UnrecoverableError
from quorate.protocol.params import MAX_CLASSES, MAX_MEMBERS, MAX_UNITS, Params
from quorate.protocol.types import Address, FineKind, Member, OperatorId, Table

MAX_ENDPOINT_BYTES = 256
_T = TypeVar("_T")


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
        return [i for i in self.get_class(class_id).order if not self.operators[i].jailed_until]

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
        """What can be taken from an operator, in wei."""
        return self.operators[operator_id].holdings

    def collectable(self, operator_id: OperatorId, now: int) -> int:
        """What a fine for a fault could take, in wei: an earlier record is judged before."""
        operator = self.operators[operator_id]
        offences = self._next_offences(operator) if self._is_due(operator, now) else 0
        return operator.holdings - operator.compute_slash(offences)

    def fault_era(self, now: int) -> int:
        """Number of the era of faults, the same for all classes."""
        return now // self.params.era_period

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
        self._touch_classes(operator)
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

    def _touch_classes(self, operator: Operator) -> None:
        """What an operator's classes know of it changes with their next table."""
        for class_id in operator.classes:
            self.classes[class_id].dirty = True

    # classes

    def apply_create_class(self, call: Call, profile: bytes, unit_wei: int, price: int, judged: bool) -> list[ev.Event]:
        """`createClass(profile, unitWei, price, judged)` payable: its era is over at once, its table empty."""
        deposit = self.params.class_deposit
        require(call.value == deposit, "WrongValue", call.value, deposit)
        require(unit_wei > 0 and unit_wei >= self.params.least_unit_wei, "InvalidArgument", "unitWei")
        require(0 < price <= self.params.max_price, "InvalidArgument", "price")
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
        require(units > 0, "InvalidArgument", "units")
        self._require_ask(ask)
        require(capacity > 0, "InvalidArgument", "capacity")
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
        self._require_ask(ask)
        require(operator_id in state.members, "NotMember", class_id)
        state.members[operator_id].ask = ask
        state.dirty = True
        return [ev.AskChanged(class_id, operator_id, ask)]

    def _require_ask(self, ask: int) -> None:
        require(0 < ask <= self.params.max_price, "InvalidArgument", "ask")

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
        if state.current.table.members:
            state.price = compute_next_price(state.price, state.median_ask)
        return [ev.EraAdvanced(class_id, state.era, state.table_number, state.price, state.era_end)]

    def _build_table(self, state: ClassState, rows: list[OperatorId], median_capacity: int) -> EraTable:
        members = tuple(Member(self.operators[i].signing_key, i) for i in rows)
        units = tuple(row for row, i in enumerate(rows) for _ in range(state.members[i].units))
        # Absurd declarations must not stop the class's eras.
        return EraTable(Table(members, units), min(median_capacity * len(units), MAX_CAPACITY))

    # faults

    def apply_judge(self, call: Call, operator_id: OperatorId) -> list[ev.Event]:
        """`judge(id)`: anyone, once the era of an operator's faults is over."""
        operator = self.operators.get(operator_id)
        require(operator is not None and self._is_due(operator, call.now), "NothingToJudge")
        return self._judge(call.now, operator_id)

    def apply_rejoin(self, call: Call) -> list[ev.Event]:
        """`rejoin()`: drawn again from the next tables on."""
        operator_id, operator = self._own(call)
        require(operator.jailed_until > 0, "NothingToJudge")
        require(call.now >= operator.jailed_until, "Jailed", operator.jailed_until)
        operator.jailed_until = 0
        self._touch_classes(operator)
        return [ev.OperatorReleased(operator_id)]

    def _is_due(self, operator: Operator, now: int) -> bool:
        return operator.faults.failed > 0 and operator.faults.era != self.fault_era(now)

    def _count_fault(self, now: int, operator_id: OperatorId, kind: FineKind) -> list[ev.Event]:
        operator = self.operators[operator_id]
        judged = self._judge(now, operator_id) if self._is_due(operator, now) else []
        faults = operator.faults
        unrevealed = faults.unrevealed + (kind is FineKind.UNREVEALED)
        operator.faults = replace(faults, era=self.fault_era(now), failed=faults.failed + 1, unrevealed=unrevealed)
        return judged

    def _next_offences(self, operator: Operator) -> int:
        return operator.next_offences(self.params.era_period, self.params.fault_memory)

    def _judge(self, now: int, operator_id: OperatorId) -> list[ev.Event]:
        """The verdict on the record of an era that is over."""
        operator = self.operators[operator_id]
        era, is_faulty, offences = operator.faults.era, operator.is_faulty, self._next_offences(operator)
        operator.faults = FaultRecord()
        if not is_faulty:
            return []
        operator.jailed_until = (self.fault_era(now) + self.params.jail_eras) * self.params.era_period
        self._touch_classes(operator)
        jailed = ev.OperatorJailed(operator_id, operator.jailed_until)
        if not offences:
            return [jailed]
        operator.offences, operator.offence_era = offences, era
        taken = operator.compute_slash(offences)
        self.treasury += taken
        left = self._take(operator_id, taken)
        return [jailed, ev.OperatorSlashed(operator_id, taken, False), ev.TreasuryGrew(taken), *left]

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
            operator = self.operators[entry.operator_id]
            operator.count_seats(entry.seats, self.fault_era(call.now))
            operator.stake += entry.amount
        return [ev.Credited(tuple(entry.encode() for entry in entries))]

    def apply_fine(self, call: Call, operator_id: OperatorId, amount: int, kind: FineKind) -> list[ev.Event]:
        """`fine(id, amount, kind)`: min(amount, stake + unbonding) into the pots, stake first."""
        self._require_protocol(call)
        judged = self._count_fault(call.now, operator_id, kind) if kind >= FineKind.SILENT else []
        taken = min(amount, self.operators[operator_id].holdings)
        self.pots += taken
        left = self._take(operator_id, taken)
        return [*judged, ev.OperatorFined(operator_id, taken, kind), *left]

    def apply_slash(self, call: Call, operator_id: OperatorId, wrong_together: bool) -> list[ev.Event]:
        """`slash(id, wrongTogether)`: 100 % together, 20 / 40 / 100 % alone; at 100 % ejected."""
        require(call.sender == self.disputes, "Unauthorized")
        operator = self.operators[operator_id]
        percent = 100
        if not wrong_together:
            percent = LONE_WRONG_PERCENT[min(operator.lone_wrong, len(LONE_WRONG_PERCENT) - 1)]
            operator.lone_wrong += 1
        taken = operator.holdings * percent // 100
        self.pots += taken
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
        """Take wei, stake first; then allocations follow what stake is left. The caller books it."""
        operator = self.operators[operator_id]
        from_stake = min(amount, operator.stake)
        operator.stake -= from_stake
        operator.unbonding -= amount - from_stake
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
