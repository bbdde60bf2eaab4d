"""A host whose executions all fail, or whose endpoint shows an old chain, says at once that it has no result."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.node.simulation import START, Network0

from quorate.protocol.types import AbstainReason
from quorate_node.core import instructions as ins
from quorate_node.core import stimuli as st
from quorate_node.core.guard import Guard, GuardSettings
from quorate_node.core.state import Settings, WorkStatus

SETTINGS = GuardSettings(max_failures=3, pause_s=60.0, max_head_age_s=120)


def test_failures_in_a_row_close_it_for_a_while_and_a_result_opens_it() -> None:
    guard = Guard(SETTINGS)
    for now in (1.0, 2.0):
        guard.note_failure(now)
    assert guard.find_objection(2.0, 0, 0) is None
    guard.note_failure(3.0)
    assert "failed on this host in a row" in str(guard.find_objection(62.9, 0, 0))
    assert guard.find_objection(63.0, 0, 0) is None, "one try"
    guard.note_failure(64.0)
    assert guard.find_objection(65.0, 0, 0) is not None, "which failed"
    guard.note_success()
    assert guard.find_objection(65.0, 0, 0) is None
    for now in (66.0, 67.0):
        guard.note_failure(now)
    assert guard.find_objection(67.0, 0, 0) is None, "the row began anew"


@pytest.mark.parametrize(
    ("unix", "head", "is_old"), [(1120, 1000, False), (1121, 1000, True), (0, 1000, False), (9999, 0, False)]
)
def test_an_old_head_is_not_believed(unix: int, head: int, is_old: bool) -> None:
    assert (Guard(SETTINGS).find_objection(1.0, unix, head) is not None) is is_old


def test_either_may_be_switched_off() -> None:
    guard = Guard(GuardSettings())
    for now in range(100):
        guard.note_failure(float(now))
    assert guard.find_objection(99.5, 10**9, 1) is None


def run_job(net: Network0) -> None:
    """Until a job's seats have been asked to execute it."""
    net.submit(net.order())
    before = sum(isinstance(each, ins.Execute) for node in net.nodes for each in node.instructions)

    def is_begun() -> bool:
        now = sum(isinstance(each, ins.Execute) for node in net.nodes for each in node.instructions)
        return now > before or bool(notes(net))

    assert net.run(200, is_begun)


def notes(net: Network0) -> list[str]:
    return [note for node in net.nodes for note in node.core.state.notes]


def test_a_seat_of_a_broken_host_abstains_with_resources_and_begins_nothing() -> None:
    net = Network0(settings=replace(Settings(), guard=SETTINGS))
    for node in net.nodes:
        for _ in range(3):
            node.core.handle(st.BundleFailed((77, 7), "no disk", True, AbstainReason.RESOURCES, is_host_fault=True))
        node.core.state.guard.closed_until = 10.0**9
    run_job(net)
    assert any("failed on this host in a row" in note for note in notes(net))
    assert not any(isinstance(each, ins.Execute) for node in net.nodes for each in node.instructions)
    works = [work for node in net.nodes for work in node.core.state.own.work.values()]
    assert works
    assert {(work.status, work.abstention) for work in works} == {(WorkStatus.REFUSED, AbstainReason.RESOURCES)}


def test_what_a_job_is_to_blame_for_closes_nothing() -> None:
    """Else whoever posts jobs that end for want of memory would have all nodes stop."""
    net = Network0(settings=replace(Settings(), guard=SETTINGS))
    for node in net.nodes:
        for _ in range(50):
            node.core.handle(st.BundleFailed((77, 7), "the job's limit", False, AbstainReason.RESOURCES))
    run_job(net)
    assert any(isinstance(each, ins.Execute) for node in net.nodes for each in node.instructions)


def test_work_waits_for_an_endpoint_that_lags() -> None:
    net = Network0(settings=replace(Settings(), guard=SETTINGS))
    net.unix = START + 10**6
    run_job(net)
    assert any("older than 120 s" in note for note in notes(net))
    assert not any(isinstance(each, ins.Execute) for node in net.nodes for each in node.instructions)
