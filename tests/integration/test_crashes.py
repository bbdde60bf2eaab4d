"""A node is killed at every step where it writes, signs or sends, and starts again: nothing is said twice or lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.faults.dying_node import COMMITTED, MUTANT
from tests.faults.walk import Walk, make_folder, make_options
from tests.integration.network import check_the_end, requester

from quorate.devnet.devnet import Devnet
from quorate.protocol.params import LOCAL

NODES = 6
pytestmark = [pytest.mark.anvil, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_node_that_dies_at_any_step_says_nothing_twice_and_loses_nothing(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    options = make_options(tmp_path, NODES, params=replace(LOCAL, era_period=10))
    with Devnet(options) as devnet, requester(devnet, tmp_path) as people:
        walk = Walk(devnet, people, folder)
        steps = sorted({step.removesuffix(COMMITTED) for step in walk.collect()})
        for needed in ("journal-append", "sign_list", "send-commitments", "send-openings", "call-send-settle"):
            assert any(needed in step for step in steps), "the steps of a job are found"
        walk.walk(steps, timeout_s=600)
        found = walk.judge(steps, range(1, NODES + 1))
        assert found.list() == {}
        assert len(walk.deaths) >= len(steps)
        check_the_end(devnet)


@pytest.mark.parametrize("mutant", [None, "forgetful"])
def test_who_comes_back_after_the_last_commitment_opens_from_its_journal(tmp_path: Path, mutant: str | None) -> None:
    """And the walk finds it where the journal was not written."""
    folder = make_folder(tmp_path)
    with Devnet(make_options(tmp_path, NODES)) as devnet, requester(devnet, tmp_path) as people:
        if mutant:
            for node in devnet.nodes:
                (node.home / MUTANT).write_text(mutant)
                devnet.kill_node(node.index)
                devnet.restart_node(node.index)
        walk = Walk(devnet, people, folder, period_s=4)
        walk.collect()
        steps = [step for step in walk.seen() if step.endswith(COMMITTED) and "openings" in step]
        assert steps
        walk.walk(steps, timeout_s=400, is_late=True)
        found = walk.judge(steps, range(1, NODES + 1)).list()
        if mutant:
            assert found["unjournalled"]
            assert found["lost_reveals"]
        else:
            assert found == {}
