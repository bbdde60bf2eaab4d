"""Failed seats by era: what is faulty, what it costs, and who is drawn; Solidity's twin of these is Faults.t.sol."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quorate.protocol import events as ev
from quorate.protocol.classes import Earning, FaultRecord
from quorate.protocol.context import Block, Call
from quorate.protocol.errors import ProtocolViolation
from quorate.protocol.params import ETHER, LOCAL
from quorate.protocol.registry import Registry
from quorate.protocol.types import Address, FineKind, OperatorId

MARKET, DISPUTES, CHALLENGES, OWNER, OTHER = (Address(bytes(19) + bytes((i,))) for i in range(1, 6))
ERA = LOCAL.era_period
ID = OperatorId(1)


class Story:
    """A registry with two operators in a class, and a clock that starts with a fault era."""

    def __init__(self) -> None:
        self.registry, self.now = Registry(LOCAL, MARKET, DISPUTES, CHALLENGES), 30_000_000 * ERA
        registry = self.registry
        registry.apply_create_class(self.by(OWNER, LOCAL.class_deposit), bytes(32), ETHER, 10**9, True)
        for owner in (OWNER, OTHER):
            registry.apply_register(self.by(owner, 10 * ETHER), owner)
            registry.apply_join(self.by(owner), 1, 8, 10**9, 80)
        self.advance()

    def by(self, sender: Address, value: int = 0) -> Call:
        return Call(sender, Block(1, self.now), value)

    def advance(self) -> None:
        self.registry.apply_advance_era(self.by(OWNER), 1, *self.registry.medians(1))

    def fail(self, kind: FineKind, times: int) -> list[ev.Event]:
        return [e for _ in range(times) for e in self.registry.apply_fine(self.by(MARKET), ID, 0, kind)]

    def fill(self, seats: int) -> None:
        self.registry.apply_credit(self.by(MARKET), [Earning(ID, 0, seats)], 0)

    def judge(self) -> list[ev.Event]:
        self.now += ERA
        return self.registry.apply_judge(self.by(OTHER), ID)


@pytest.mark.parametrize(
    ("failed", "done", "is_faulty"),
    [(3, 0, False), (4, 0, True), (4, 75, True), (4, 76, False), (50, 949, True), (50, 950, False)],
)
def test_more_than_three_and_one_in_twenty_are_faulty(failed: int, done: int, is_faulty: bool) -> None:
    assert FaultRecord(1, failed).is_faulty(done) is is_faulty


def test_a_faulty_operator_is_in_no_new_table_until_it_rejoins() -> None:
    story = Story()
    registry, operator = story.registry, story.registry.operators[ID]
    story.fail(FineKind.SILENT, 4)
    assert story.judge() == [ev.OperatorJailed(1, story.now + 2 * ERA)]
    assert operator.stake == 10 * ETHER, "nothing was left unrevealed"
    story.advance()
    assert [m.operator_id for m in registry.get_class(1).current.table.members] == [2]
    assert registry.get_class(1).current.capacity == 80
    with pytest.raises(ProtocolViolation, match="Jailed"):
        registry.apply_rejoin(story.by(OWNER))
    story.now += 2 * ERA
    assert registry.apply_rejoin(story.by(OWNER)) == [ev.OperatorReleased(1)]
    story.advance()
    assert len(registry.get_class(1).current.table.members) == 2


def test_unrevealed_seats_cost_1_then_2_then_5_percent_while_remembered() -> None:
    story, percents = Story(), []
    for pause in (8, 8, 8, 9, 0):  # 10 eras are the memory
        before = story.registry.operators[ID].stake
        story.fail(FineKind.UNREVEALED, 4)
        _, slashed, grew = story.judge()
        assert isinstance(slashed, ev.OperatorSlashed)
        assert grew == ev.TreasuryGrew(slashed.amount)
        percents.append(slashed.amount * 100 // before)
        story.now += pause * ERA
    assert percents == [1, 2, 5, 5, 1]


def test_going_on_working_is_no_fault() -> None:
    story = Story()
    story.fill(76)
    story.fail(FineKind.SILENT, 4)
    story.now += ERA
    story.fill(1)
    assert story.registry.operators[ID].faults.done == 76
    assert story.judge() == []


def test_a_fine_takes_what_the_judgement_leaves() -> None:
    story = Story()
    story.fail(FineKind.UNREVEALED, 4)
    story.now += ERA
    left = story.registry.collectable(ID, story.now)
    events = story.registry.apply_fine(story.by(MARKET), ID, 100 * ETHER, FineKind.SILENT)
    assert left == 10 * ETHER * 99 // 100
    assert ev.OperatorFined(1, left, FineKind.SILENT) in events
    assert story.registry.operators[ID].faults == FaultRecord(story.now // ERA, failed=1)


@pytest.mark.parametrize("kind", [FineKind.ABSENT, FineKind.ABSTAINED])
def test_absence_and_abstention_are_no_faults(kind: FineKind) -> None:
    story = Story()
    before = replace(story.registry.operators[ID].faults)
    story.fail(kind, 9)
    assert story.registry.operators[ID].faults == before
