"""The spending limit's decisions, against a payer that crashes, providers that redeem all, and a moving clock."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from quorate.filecoin import budget
from quorate.filecoin.spending import (
    Currency,
    Entry,
    Proof,
    ProofRefused,
    Purpose,
    Rail,
    RailBusy,
    ReservationEnded,
    ReservationExceeded,
    Scope,
    ScopeKind,
    SpendingLimitExceeded,
    State,
    Target,
    Usage,
    compute_day,
)

FIL = Currency(31415926, "0x" + "11" * 20)
PAYEES = tuple("0x" + f"{number:040x}" for number in range(1, 4))
OPERATOR = "0x" + "22" * 20
DAY_S = 86_400
AMOUNTS = st.integers(1, 60)


class Spending(RuleBasedStateMachine):
    """Books in memory, and beside them what left the process and what a chain would have paid."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 20_000 * DAY_S
        self.caps: dict[Scope, int] = {}
        self.usage: dict[Scope, Usage] = {}
        self.rails: dict[str, Rail] = {}
        self.entries: dict[str, Entry] = {}
        self.held: dict[str, int] = {}  # entry → generation that the living process has
        self.left: dict[str, int] = defaultdict(int)  # entry → most of it that was signed
        self.paid: dict[str, int] = defaultdict(int)  # entry → what the chain paid of it
        self.dead_rails: set[str] = set()
        self.was_lowered: set[Scope] = set()

    @initialize(total=st.integers(50, 200), each=st.integers(20, 120))
    def set_caps(self, total: int, each: int) -> None:
        self.caps[Scope(ScopeKind.TOTAL)] = total
        for kind in (ScopeKind.DAY, ScopeKind.JOB, ScopeKind.DATASET, ScopeKind.PROVIDER):
            self.caps[Scope(kind)] = each

    def books(self, entry: Entry) -> budget.Books:
        return budget.Books(self.caps, self.usage, self.rails.get(entry.target.rail, Rail()))

    def take(self, change: budget.Change) -> Entry:
        self.entries[change.entry.id] = change.entry
        self.usage |= change.usage
        if change.entry.target.rail:
            self.rails[change.entry.target.rail] = change.rail
        return change.entry

    def used(self, scope: Scope, amounts: dict[str, int]) -> int:
        return sum(amounts[name] for name, entry in self.entries.items() if scope in entry.scopes)

    @rule(
        amount=AMOUNTS,
        names=st.tuples(*[st.sampled_from("abc")] * 3),
        payee=st.sampled_from(PAYEES),
        rail=st.integers(0, 3),
    )
    def reserve(self, amount: int, names: tuple[str, str, str], payee: str, rail: int) -> None:
        target = Target(FIL, payee, OPERATOR if rail else "", rail)
        expires_at = 0 if rail else self.now + 100
        name = f"{len(self.entries)}"
        entry = Entry(name, Purpose(*names), target, compute_day(self.now), amount, 0, expires_at, self.now)
        books = self.books(entry)
        room = [cap - books.usage.get(s, Usage()).used for s in entry.scopes if (cap := books.find_cap(s)) is not None]
        try:
            self.take(budget.decide_reserve(books, FIL, entry, self.now))
        except (SpendingLimitExceeded, RailBusy, ReservationEnded) as error:
            refusal = error
        else:
            assert min(room) >= amount
            self.held[name] = 0
            return
        self.judge_refusal(refusal, entry, min(room))

    def judge_refusal(self, refusal: Exception, entry: Entry, room: int) -> None:
        """It was right to refuse, and for the reason given."""
        rail = entry.target.rail
        if isinstance(refusal, SpendingLimitExceeded):
            assert room < entry.amount
            assert refusal.used + entry.amount > refusal.cap == self.books(entry).find_cap(refusal.scope)
            assert refusal.requested == entry.amount
        elif isinstance(refusal, RailBusy):
            assert any(e.target.rail == rail and e.state is State.RESERVED for e in self.entries.values())
        else:
            assert rail in self.dead_rails

    @precondition(lambda self: self.held)
    @rule(data=st.data(), part=st.integers(-1, 61), ahead=st.integers(0, 5))
    def sign(self, data: st.DataObject, part: int, ahead: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        entry = self.entries[name]
        up_to = entry.base + (part if entry.target.rail_id else entry.amount)
        try:
            change = budget.decide_sign(self.books(entry), entry, self.held[name], max(up_to, 1), ahead, self.now)
        except (ReservationEnded, ReservationExceeded, SpendingLimitExceeded):
            return
        self.take(change)
        self.left[name] = max(self.left[name], max(up_to, 1) - entry.base)
        for scope in entry.scopes:  # whatever was allowed when: what has left is within the cap as it is now
            cap = self.books(entry).find_cap(scope)
            assert cap is None or self.used(scope, self.left) <= cap

    @rule(data=st.data())
    def redeem(self, data: st.DataObject) -> None:
        """A provider takes what it can get of what was signed."""
        if names := sorted(n for n in self.left if self.left[n] and self.entries[n].target.rail not in self.dead_rails):
            name = data.draw(st.sampled_from(names))
            entry = self.entries[name]
            if entry.target.rail_id or self.now < entry.expires_at:
                self.paid[name] = self.left[name]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def charge(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        entry, generation = self.entries[name], self.held.pop(name)
        signed = self.left[name] if generation == 0 else entry.signed
        try:
            ended = self.take(budget.decide_charge(self.books(entry), entry, generation, signed))
        except ReservationEnded:
            assert entry.generation != generation or entry.state is not State.RESERVED
            return
        assert ended.charged == signed >= self.left[name]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """The process dies; its reservation is an orphan."""
        del self.held[data.draw(st.sampled_from(sorted(self.held)))]

    def open_entries(self) -> list[str]:
        return sorted(name for name, entry in self.entries.items() if entry.state is State.RESERVED)

    @precondition(lambda self: self.open_entries())
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.open_entries()))
        entry = self.entries[name]
        before = self.held.get(name)
        now = self.take(budget.decide_resume(self.books(entry), entry))
        if before is not None:
            try:
                budget.decide_sign(self.books(now), now, before, now.base + now.amount, 0, self.now)
                raise AssertionError("who was taken over from still signs")
            except ReservationEnded:
                pass
        self.held[name] = now.generation

    @precondition(lambda self: self.open_entries())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.open_entries()))
        entry = self.entries[name]
        try:
            self.take(budget.decide_release(self.books(entry), entry))
        except ProofRefused:
            assert entry.signed >= 1
        else:
            assert self.left[name] == 0
            self.held.pop(name, None)

    @precondition(lambda self: self.open_entries())
    @rule(data=st.data(), terminates=st.booleans())
    def prove(self, data: st.DataObject, terminates: bool) -> None:
        """Ask the chain what came of a reservation; terminating its rail first, or not."""
        name = data.draw(st.sampled_from(self.open_entries()))
        entry = self.entries[name]
        is_final = terminates and bool(entry.target.rail_id)
        if is_final:
            self.dead_rails.add(entry.target.rail)
        proof = Proof(self.paid[name], self.now, "block", is_final)
        try:
            ended = self.take(budget.decide_prove(self.books(entry), entry, proof))
        except ProofRefused:
            assert not is_final
            assert entry.target.rail_id or (not self.paid[name] and self.now < entry.expires_at)
            return
        assert ended.charged == self.paid[name]
        self.left[name] = self.paid[name]  # the rest is worth nothing any more
        self.held.pop(name, None)

    @rule(seconds=st.sampled_from((1, 60, 150, DAY_S)))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(data=st.data(), cap=st.integers(0, 200))
    def change_cap(self, data: st.DataObject, cap: int) -> None:
        scope = data.draw(st.sampled_from([Scope(kind) for kind in ScopeKind] + [Scope(ScopeKind.JOB, "a")]))
        if cap < self.caps.get(scope, 1 << 256):
            self.was_lowered |= {each for each in self.scopes() if each.kind is scope.kind}
        self.caps[scope] = cap

    def scopes(self) -> set[Scope]:
        return {scope for entry in self.entries.values() for scope in entry.scopes}

    @invariant()
    def sums_are_those_of_the_entries(self) -> None:
        assert self.usage == budget.sum_usage(self.entries.values())

    @invariant()
    def nothing_signed_is_uncounted(self) -> None:
        for scope in self.scopes():
            signed, used = self.used(scope, self.left), self.usage[scope].used
            assert self.used(scope, self.paid) <= signed <= used

    @invariant()
    def no_cap_is_passed(self) -> None:
        for scope in self.scopes() - self.was_lowered:
            cap = budget.Books(self.caps, {}).find_cap(scope)
            assert cap is None or self.usage[scope].used <= cap


def test_a_second_entry_of_a_rail_begins_where_the_first_one_ended() -> None:
    machine = Spending()
    machine.set_caps(total=100, each=100)
    machine.reserve(amount=50, names=("a", "a", "a"), payee=PAYEES[0], rail=1)
    first = machine.entries["0"]
    signed = machine.take(budget.decide_sign(machine.books(first), first, 0, 30, 0, machine.now))
    machine.take(budget.decide_charge(machine.books(signed), signed, 0, 30))
    machine.reserve(amount=70, names=("b", "b", "b"), payee=PAYEES[0], rail=1)
    assert machine.entries["1"].base == 30
    assert replace(machine.rails[first.target.rail], open_id="") == Rail(30)


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
