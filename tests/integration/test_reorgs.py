"""A chain whose newest blocks change under real nodes: in every phase of a job and of a class vote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.network import (
    PATIENCE_S,
    Books,
    Chain,
    check_the_end,
    expect,
    find_events,
    find_logged,
    lying_farm,
    requester,
    run_to_dispute,
    three_farms,
    wait_for,
)

from quorate.devnet.devnet import Devnet
from quorate.progress import JobStage
from quorate.protocol import encoding, events
from quorate.protocol.events import Event
from quorate.protocol.params import ETHER, LOCAL

pytestmark = pytest.mark.anvil
HONEST, LIARS = range(1, 9), range(9, 13)


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    """Twelve operators in three processes; those of the last one lie now and then, each alone."""
    farms = {2: lying_farm("9-12", "one_lie_per_window")}
    more = {"collators": frozenset({0, 1}), "params": replace(LOCAL, publish_period=4)}
    with three_farms(tmp_path_factory.mktemp("reorgs"), 4, farms, **more) as started:
        yield started


def get_commitments(found: list[events.CommitPage]) -> dict[tuple[int, int, int], bytes]:
    """By (operator row, bundle, seat)."""
    lists = [each for event in found for each in encoding.decode_commit_lists(event.lists)]
    return {(each.member, item.bundle, item.seat): item.commitment for each in lists for item in each.items}


def check_the_honest(devnet: Devnet, before: int) -> None:
    """Nothing is under way, no honest operator was slashed or lost stake, and no wei is missing."""
    check_the_end(devnet)
    slashed = {event.operator_id for event in find_events(devnet, events.OperatorSlashed)}
    assert slashed <= set(LIARS)
    assert Books(devnet).stake_of(HONEST) >= before
    devnet.check_alive()


def undo(devnet: Devnet, kind: type[Event], first: int, least: int = 1) -> None:
    """Reorganise so that the events of a kind since block `first` have not happened."""
    chain = Chain(devnet)
    chain.reorganise(least)
    while logged := find_logged(devnet, kind, first):
        chain.reorganise(max(1, chain.head().number - logged[0][0].block_number + 1))


def let_it_set(devnet: Devnet, depth: int) -> None:
    """Wait for so many blocks: else they take an earlier test's earnings along, which may go elsewhere then."""
    chain = Chain(devnet)
    first = chain.head().number
    assert wait_for(lambda: chain.head().number >= first + depth)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "least"),
    [
        (events.BatchClosed, 1),
        (events.BatchClosed, 20),
        (events.RoundStarted, 1),
        (events.RoundStarted, 20),
        (events.CommitPage, 1),
        (events.CommitPage, 20),
        (events.BundlesSettled, 1),
        (events.BundlesSettled, 20),
    ],
)
def test_a_job_survives(devnet: Devnet, tmp_path: Path, phase: type[Event], least: int) -> None:
    let_it_set(devnet, least)
    start, before = Chain(devnet).head().number + 1, Books(devnet).stake_of(HONEST)
    with requester(devnet, tmp_path) as people:
        job = people.submit(commit_period=12)
        expect(devnet, phase, start)
        undo(devnet, phase, start, least)
        assert people.client.wait(job, timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
        assert people.client.fetch_result(job, tmp_path / "out").results[0].exit_code == 0
    check_the_honest(devnet, before)


def test_openings_that_leaked_before_a_reorganisation_change_nothing(devnet: Devnet, tmp_path: Path) -> None:
    """Everybody has seen the votes, and then nobody has committed: the same commitments come again."""
    start, before = Chain(devnet).head().number + 1, Books(devnet).stake_of(HONEST)
    with requester(devnet, tmp_path) as people:
        for _ in range(10):
            job = people.submit(commit_period=30)  # on a busy machine, too, all commit in the same round once more
            expect(devnet, events.BundlesSettled, start)
            rounds = find_events(devnet, events.RoundStarted, start)
            committed = get_commitments(find_events(devnet, events.CommitPage, start))
            undo(devnet, events.CommitPage, start)
            is_same_round = find_events(devnet, events.RoundStarted, start) == rounds
            assert people.client.wait(job, timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
            again = get_commitments(find_events(devnet, events.CommitPage, start))
            check_the_honest(devnet, before)
            if is_same_round:
                break
            start = Chain(devnet).head().number + 1
        assert len(committed) == 3
        assert again == committed


def test_a_chain_that_got_shorter_is_followed(devnet: Devnet, tmp_path: Path) -> None:
    """The newest blocks are gone with the order in them, and the head stands below the block that it was signed at."""
    let_it_set(devnet, 20)
    chain, before = Chain(devnet), Books(devnet).stake_of(HONEST)
    with requester(devnet, tmp_path) as people:
        job = people.submit(commit_period=12)
        expect(devnet, events.BatchClosed, job.from_block)
        chain.shorten(20)
        assert people.client.wait(job, timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
    check_the_honest(devnet, before)


@pytest.mark.slow
def test_a_class_vote_survives_in_each_of_its_phases(devnet: Devnet, tmp_path: Path) -> None:
    before = Books(devnet).stake_of(HONEST)
    with requester(devnet, tmp_path) as people:
        job, start = run_to_dispute(devnet, people)
        for phase in (events.DisputeOpened, events.QuestionAsked, events.VotesCommitted, events.DisputeDecided):
            expect(devnet, phase, start)
            undo(devnet, phase, start)
        assert people.client.wait(job, timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
        expect(devnet, events.DisputeSettled, start)
        slashes = people.client.describe(job)["slashes"]
        assert len(slashes) == 1
        assert slashes[0]["operator"] in LIARS
    check_the_honest(devnet, before)


DOUBTS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[type[Event], ...]]] = {
    "audit": ({"audit_bps": 10_000}, {}, (events.AuditDrawn, events.BundleAudited)),
    "challenge": ({"audit_bps": 0}, {"challenge_budget_wei": ETHER, "watch_bps": 5_000}, (events.ResultChallenged,)),
}
"""How a lie that was accepted comes to light: parameters, settings of nodes, and the phases before the class vote."""


def is_doubted(devnet: Devnet, start: int, batch_id: int) -> bool:
    """Whether this lie, of a batch with one bundle, goes to the class: its auditor may be a liar, too, and by each
    watcher's own lot it may be that nobody looks."""

    def find() -> list[bool]:
        audits = [e for e in find_events(devnet, events.BundleAudited, start) if e.batch_id == batch_id]
        disputes = [e for e in find_events(devnet, events.DisputeOpened, start) if e.batch_id == batch_id]
        return [bool(each.dispute_id) for each in (*audits, *disputes)]

    return wait_for(lambda: bool(find()), LOCAL.challenge_period) and find()[0]


def draw_an_honest_auditor(devnet: Devnet, settled: int, batch_id: int) -> None:
    """Another beacon draws another auditor, and a liar repeats the lie: undo the draw, with all blocks since the batch
    was settled, of which one is the beacon's, until it is none."""
    chain = Chain(devnet)

    def find_audits() -> list[events.BundleAudited]:
        return [each for each in find_events(devnet, events.BundleAudited, settled) if each.batch_id == batch_id]

    for _ in range(20):
        assert wait_for(lambda: bool(find_audits())), "no audit"
        if all(each.dispute_id for each in find_audits()):
            return
        chain.reorganise(chain.head().number - settled)
    raise AssertionError("a liar was drawn as the auditor each time")


@pytest.mark.slow
@pytest.mark.parametrize("doubt", sorted(DOUBTS))
def test_a_lie_that_was_accepted_is_found_again(tmp_path: Path, doubt: str) -> None:
    """Each step on the way to the class vote is undone, and nodes take it once more."""
    changes, settings, phases = DOUBTS[doubt]
    farms = {2: lying_farm("9-12", "lie_if_unanimous")}
    # Each draw of another auditor takes some seconds of the time in which a result may be doubted.
    period = {"challenge_period": 4 * LOCAL.challenge_period, "unbonding_period": 20_000}
    more = {"params": replace(LOCAL, publish_period=4, **period, **changes), "settings": settings}
    with three_farms(tmp_path, 4, farms, **more) as devnet, requester(devnet, tmp_path) as people:
        before = Books(devnet).stake_of(HONEST)
        for _ in range(40):
            start = Chain(devnet).head().number + 1
            job = people.submit(seats=1)
            assert people.client.wait(job, timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
            described = people.client.describe(job)
            if described["seats"][0]["operator"] in LIARS and is_doubted(devnet, start, described["batch_id"]):
                break
        else:
            raise AssertionError("no liar was drawn without an honest auditor or watcher")
        batch = people.client.track(job).batch
        assert batch is not None
        # Earlier jobs are audited, too: to undo what came before this one was settled would undo the lie.
        [settled] = [
            place.block_number
            for place, event in find_logged(devnet, events.BundlesSettled, start)
            if event.batch_id == batch.batch_id
        ]
        for phase in phases:
            undo(devnet, phase, settled)
            expect(devnet, phase, settled)
        if events.AuditDrawn in phases:
            draw_an_honest_auditor(devnet, settled, batch.batch_id)
        last = people.client.wait(job, timeout_s=PATIENCE_S, until_final=True)
        assert (last.stage, last.detail[:9]) == (JobStage.VOID, "the class")
        slashes = people.client.describe(job)["slashes"]
        assert slashes
        assert {each["operator"] for each in slashes} <= set(LIARS)
        check_the_honest(devnet, before)
