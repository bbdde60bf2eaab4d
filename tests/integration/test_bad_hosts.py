"""Hosts whose clocks are wrong, whose chain endpoint is away for a minute, and whose disk has lost what it had."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.faults.proxy import OPEN, REFUSED, FaultProxy, Faults
from tests.integration.network import (
    OUR_PATHS,
    PATIENCE_S,
    check_the_end,
    expect,
    find_events,
    requester,
    wait_for,
)

from quorate.devnet.devnet import Devnet, NodeFailed
from quorate.devnet.options import DevnetOptions
from quorate.devnet.ports import pick_ports
from quorate.progress import JobStage
from quorate.protocol import events
from quorate.protocol.params import LOCAL

pytestmark = [pytest.mark.anvil, pytest.mark.timeout(600)]
NODES, OUTAGE_S = 6, 60
SKEWS_S = {0: 1200, 1: -1200, 2: 300, 3: -300}
"""Wrong clocks by node, the collator's among them: by more than an order is good for, and by minutes."""
PARAMS = replace(LOCAL, max_commit_period=120, unbonding_period=20_000)


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as started:
        yield started


@pytest.fixture(scope="module")
def devnet(proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    """Nodes with clocks of their own, that read the chain through a proxy."""
    port, listen = pick_ports(2)
    skewed = [sys.executable, "-m", "tests.faults.skewed_node"]
    options = DevnetOptions(
        home=tmp_path_factory.mktemp("hosts") / "net", nodes=NODES, rpc_port=port, params=PARAMS, env=OUR_PATHS,
        settings={"rpc_url": proxy.front("chain", port, listen)},
        commands={index: [*skewed, str(seconds)] for index, seconds in SKEWS_S.items()},
    )  # fmt: skip
    with Devnet(options) as started:
        yield started


def test_wrong_clocks_change_nothing_for_everything_goes_by_the_chains(devnet: Devnet, tmp_path: Path) -> None:
    with requester(devnet, tmp_path) as people:
        seats: set[int] = set()

        def have_all_sat() -> bool:
            job = people.submit(commit_period=60)
            assert people.client.wait(job, timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
            seats.update(seat["operator"] for seat in people.client.describe(job)["seats"])
            return seats >= {index + 1 for index in SKEWS_S}

        assert wait_for(have_all_sat, 400)
    assert not find_events(devnet, events.OperatorFined)
    check_the_end(devnet)


@pytest.mark.slow
def test_an_endpoint_that_is_away_for_a_minute(devnet: Devnet, proxy: FaultProxy, tmp_path: Path) -> None:
    """In the middle of a round, for all nodes; blocks go on. Whoever reads the chain again in time is fined nothing."""
    start = devnet.gateway.head().number + 1
    with requester(devnet, tmp_path) as people:
        job = people.submit(commit_period=110)
        expect(devnet, events.RoundStarted, start)
        proxy.set(Faults(state=REFUSED), target="chain")
        began, refused = time.monotonic(), proxy.count().get("refused", 0)
        time.sleep(OUTAGE_S)
        assert proxy.count()["refused"] > refused, "nodes ask again and again"
        proxy.set(Faults(state=OPEN), target="chain")
        assert people.client.wait(job, timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
        assert time.monotonic() - began > OUTAGE_S
        assert people.client.fetch_result(job, tmp_path / "out").results[0].exit_code == 0
    devnet.check_alive()
    assert not find_events(devnet, events.OperatorFined, start)
    check_the_end(devnet)


def test_the_end_of_a_journal_that_the_disk_has_lost(devnet: Devnet, tmp_path: Path) -> None:
    """A node says so and goes on; damage before the end is told from it, and stops the node with what to do."""
    node = devnet.nodes[NODES - 1]
    with requester(devnet, tmp_path) as people:
        journal = node.home / "journal"

        def has_voted() -> bool:
            assert people.client.wait(people.submit(commit_period=60), timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
            return journal.read_bytes().count(b'{"stage"') >= 2

        assert wait_for(has_voted, 400)
        devnet.kill_node(node.index)
        whole = journal.read_bytes()
        journal.write_bytes(whole[:-30] + bytes(30))
        devnet.restart_node(node.index)
        assert "torn journal tail cut off" in node.running.log.read_text()
        start = devnet.gateway.head().number + 1
        assert people.client.wait(people.submit(commit_period=60), timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
        assert not find_events(devnet, events.OperatorFined, start)
        devnet.kill_node(node.index)
        journal.write_bytes(whole[:60] + bytes(4) + whole[64:])
        with pytest.raises(NodeFailed, match="restore it from a backup"):
            devnet.restart_node(node.index)
        journal.write_bytes(whole)
        devnet.restart_node(node.index)
