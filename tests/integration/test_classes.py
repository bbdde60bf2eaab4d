"""Several classes in one network: another profile's results are no dispute, and who owns a class harms no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.adversarial.strategies import make_lie
from tests.integration.network import (
    PATIENCE_S,
    Books,
    Chain,
    check_the_end,
    expect,
    find_events,
    lying_farm,
    requester,
    three_farms,
    wait_for,
)

from quorate import placement
from quorate.chain import calls
from quorate.chain.account import SigningAccount
from quorate.devnet.devnet import Devnet
from quorate.progress import JobStage
from quorate.protocol import events
from quorate.protocol.hashing import keccak
from quorate.protocol.params import ETHER, LOCAL
from quorate.protocol.profiles import WrongClass
from quorate.protocol.spec import WASM_PROFILE
from quorate.protocol.types import Vote

pytestmark = [pytest.mark.anvil, pytest.mark.slow]
OTHER_PROFILE = "quorate-wasm-2"
UNIT_WEI, PRICE, CAPACITY = ETHER // 50, 10**12, 10**10
STRANGERS = range(9, 13)
"""They run both profiles, give results of their own in either, and are in classes 2 and 3 alone."""
GUESTS = (7, 8)
"""Honest members of class 1 that joined class 3, and 8 class 2, whose profile it does not run."""


def act(devnet: Devnet, account: SigningAccount, call: calls.Call, value: int = 0) -> None:
    devnet.gateway.wait(devnet.gateway.send(account, call, value=value))


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    strangers = {2: lying_farm("9-12", "always_lie", "--profile", OTHER_PROFILE)}
    classes = {"classes": [1, 2, 3]}
    with three_farms(tmp_path_factory.mktemp("classes"), 4, strangers, settings=classes) as started:
        found_classes(started)
        yield started


def found_classes(devnet: Devnet) -> None:
    """Class 2 for another profile, class 3 for ours; the strangers leave class 1 for them."""
    for profile in (OTHER_PROFILE, WASM_PROFILE):
        creation = calls.create_class(keccak(profile.encode()), UNIT_WEI, PRICE, True)
        act(devnet, devnet.requester, creation, LOCAL.class_deposit)
    accounts = {member.operator_id: member.account for node in devnet.nodes for member in node.operators}
    for operator in STRANGERS:
        act(devnet, accounts[operator], calls.leave(1))
        for class_id in (2, 3):
            act(devnet, accounts[operator], calls.join(class_id, 10, PRICE, CAPACITY))
    act(devnet, accounts[8], calls.join(2, 10, PRICE, CAPACITY))
    for operator in GUESTS:
        act(devnet, accounts[operator], calls.join(3, 10, PRICE, CAPACITY))
    Chain(devnet).pass_time(LOCAL.era_period)
    for class_id, members in ((1, 8), (2, 5), (3, 6)):
        assert wait_for(lambda c=class_id, m=members: count_members(devnet, c) == m)  # type: ignore[misc]


def count_members(devnet: Devnet, class_id: int) -> int:
    number = devnet.gateway.class_info(class_id).table
    return len(devnet.gateway.table(class_id, number).members) if number else 0


def test_two_profiles_side_by_side(devnet: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with requester(devnet, tmp_path / "careful", class_id=2) as careful, pytest.raises(WrongClass, match="class 2"):
        careful.submit(seats=2)
    # Nobody can keep a requester from signing such an order with a client of its own.
    monkeypatch.setattr(placement, "check_fits", lambda spec, class_id, profile: None)
    start, books = Chain(devnet).head().number, Books(devnet)
    stakes = [books.stake_of([operator]) for operator in range(1, 13)]
    with requester(devnet, tmp_path) as ours, requester(devnet, tmp_path, class_id=2) as others:
        for _ in range(3):
            jobs = [(ours, ours.submit()), (others, others.submit(seats=2))]
            for people, job in jobs:
                assert people.client.wait(job, timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
        result = ours.client.fetch_result(jobs[0][1], tmp_path / "out")
        assert result.results[0].exit_code == 0
    check_the_end(devnet)
    assert not find_events(devnet, events.DisputeOpened, start)
    assert {event.operator_id for event in find_events(devnet, events.OperatorFined, start)} <= {8}
    after = [books.stake_of([operator]) for operator in range(1, 13)]
    assert all(new >= old for number, (old, new) in enumerate(zip(stakes, after, strict=True), 1) if number != 8)


def test_who_owns_a_class_takes_that_class_alone(devnet: Devnet, tmp_path: Path) -> None:
    start, books = Chain(devnet).head().number, Books(devnet)
    before = [books.stake_of([operator]) for operator in range(1, 7)]
    with requester(devnet, tmp_path) as ours, requester(devnet, tmp_path, class_id=3) as theirs:
        for _ in range(20):
            honest, taken = ours.submit(), theirs.submit()
            stages = [step.stage for step in theirs.client.watch(taken, timeout_s=PATIENCE_S)]
            assert ours.client.wait(honest, timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
            if JobStage.DISPUTED in stages:
                break
        decided = expect(devnet, events.DisputeDecided, start)
        assert stages[-1] is JobStage.ACCEPTED, "within their class the liars decide"
        expect(devnet, events.DisputeSettled, start)
        assert ours.client.fetch_result(honest, tmp_path / "out").results[0].exit_code == 0
        lost = {event.operator_id for event in find_events(devnet, events.OperatorSlashed, start)}
        assert lost
        assert lost <= set(GUESTS), "whoever joined their class is theirs to judge"
        seats = theirs.client.describe(taken)["seats"]
        honest_root = next(seat["vote"] for seat in seats if seat["operator"] in GUESTS)
        assert decided.root == make_lie(Vote(bytes.fromhex(honest_root[2:])))
        # And class 1 goes on, without those whom the others have ejected.
        Chain(devnet).pass_time(LOCAL.era_period)
        again = ours.submit()
        assert ours.client.wait(again, timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
    check_the_end(devnet)
    after = [books.stake_of([operator]) for operator in range(1, 7)]
    assert all(new >= old for old, new in zip(before, after, strict=True))
