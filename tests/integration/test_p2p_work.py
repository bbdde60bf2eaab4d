"""Work over libp2p on a real chain: real processes that are told one address and the chain find peers, collators and
data, stand in for each other, and take a twin of one of them without harm.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.network import (
    NOTHING,
    OUR_PATHS,
    PATIENCE_S,
    call_quorate,
    check_the_end,
    find_events,
    run_node_command,
    wait_for,
)

pytest.importorskip("libp2p", reason="libp2p is not installed here (scripts/setup --p2p)")

from quorate.delivery import ask_logs
from quorate.devnet.devnet import Devnet
from quorate.devnet.options import DevnetOptions
from quorate.devnet.ports import pick_ports
from quorate.jobs import JobRecord
from quorate.orders import OrderWishes
from quorate.progress import JobStage
from quorate.protocol import events
from quorate.protocol.spec import Limits
from quorate.sdk import QuorateClient
from quorate_node.config import change_config

pytestmark = [pytest.mark.anvil, pytest.mark.slow]
NOWHERE = "http://127.0.0.1:9"
MOST_DRAWS = 8
SLEEPER, STANDBY, PLAIN = 0, 1, 2
"""A collator that never posts, one that does, and a node that takes no orders."""
OTHERS_UNITS = 100
"""Of each operator but the sleeper's, who have one: while that node is killed, a seat of theirs in both rounds of a job
leaves it without a result."""


class People:
    """A requester who knows one node, and sends each order once: whatever comes of it then is the nodes' doing."""

    def __init__(self, devnet: Devnet, client: QuorateClient, url: str, folder: Path) -> None:
        self.devnet, self.client, self.url, self._folder, self._count = devnet, client, url, folder, 0

    def send(self, node: int, source: str | None = None, *, is_direct: bool = False) -> JobRecord:
        self._count += 1
        module = self._folder / "nothing.wasm"
        module.write_bytes(NOTHING)
        prepared = self.client.prepare(
            str(module), source, env=[f"JOB={self._count}"], limits=Limits(fuel=10**8), providers=[self.url]
        )
        # To find data takes a while on a busy machine, and nobody may abstain meanwhile.
        period, most = (30, 2_000_000) if source else (12, None)
        wishes = OrderWishes(seats=2, commit_period=period, input_bytes=most)
        self.client.config = replace(self.client.config, collators=(self.devnet.nodes[node].url,))
        return self.client.submit(prepared, wishes, providers=[self.url], is_direct=is_direct)

    def is_accepted(self, job: JobRecord) -> bool:
        return self.client.track(job).stage is JobStage.ACCEPTED


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    folder = tmp_path_factory.mktemp("work")
    options = DevnetOptions(
        home=folder / "net", nodes=3, operators_per_node=3, collators=frozenset({SLEEPER, STANDBY}),
        commands={SLEEPER: [sys.executable, "-m", "tests.adversarial.sleeping_node"]}, units={0: 1, 1: 1, 2: 1},
        default_units=OTHERS_UNITS, env=OUR_PATHS, settings={"p2p_listen": "/ip4/127.0.0.1/tcp/0"},
    )  # fmt: skip
    with Devnet(options) as started:
        assert wait_for(lambda: bool(ask(started, PLAIN).get("addresses")))
        (first,) = ask(started, PLAIN)["addresses"]
        data = folder / "data.bin"
        data.write_bytes(bytes(range(256)) * 4000)
        for node in (SLEEPER, STANDBY):
            started.kill_node(node)
            change_config(started.nodes[node].home, bootstrap=[first])
            if node == STANDBY:
                added = run_node_command("store", "add", str(data), "-o", "json", home=started.nodes[node].home)
                assert added.returncode == 0, added.stderr
            started.restart_node(node)
        assert wait_for(lambda: all(ask(started, node).get("records") == 9 for node in range(3)))
        yield started


@pytest.fixture
def people(devnet: Devnet, tmp_path: Path) -> Iterator[People]:
    with QuorateClient.open(devnet.make_config(tmp_path / "client")) as client, client.serving() as url:
        yield People(devnet, client, url, tmp_path)


def ask(devnet: Devnet, node: int) -> dict[str, Any]:
    url = f"{devnet.nodes[node].url}/quorate/v1/status"
    try:
        return httpx.get(url, timeout=30, trust_env=False).json()["p2p"] or {}
    except httpx.HTTPError:
        return {}


def test_one_address_leads_to_peers_collators_and_data(devnet: Devnet, people: People, tmp_path: Path) -> None:
    collators = sorted(devnet.nodes[node].url for node in (SLEEPER, STANDBY))
    for node in range(3):
        assert wait_for(lambda node=node: ask(devnet, node).get("collators") == collators)
        assert wait_for(lambda node=node: ask(devnet, node).get("with_datasets") == [devnet.nodes[STANDBY].url])
    source = QuorateClient.open(devnet.make_config(tmp_path / "owner"))
    with source:
        (tmp_path / "data.bin").write_bytes(bytes(range(256)) * 4000)
        root = source.store.add_path(tmp_path / "data.bin")
    assert not people.client.store.has(root), "nobody but a node that was found has the input"
    at_home = {each.operator_id for each in devnet.nodes[STANDBY].operators}
    for _ in range(MOST_DRAWS):  # both seats may be drawn where the collator is, which then has nobody to write to
        job = people.send(STANDBY, str(root))
        assert wait_for(lambda job=job: people.is_accepted(job))
        described = people.client.describe(job)
        assert not described["abstentions"], described
        if not {seat["operator"] for seat in described["seats"]} <= at_home:
            break
    else:
        pytest.fail("all seats were drawn where the collator is each time")

    # What nodes said to each other went over libp2p, and they tell what they did for the job, but not how they voted.
    assert sum(ask(devnet, node)["messages"]["sent"] for node in range(3)) > 0
    assert ask(devnet, STANDBY)["answered"]
    seat = described["seats"][0]["operator"]
    asked = httpx.get(f"{devnet.nodes[PLAIN].url}/quorate/v1/status/{seat}", timeout=10).json()
    assert asked["ready"], asked
    told = ask_logs(job.job_id, [NOWHERE, devnet.nodes[PLAIN].url])
    assert {seat.operator for seat in told.seats} == {seat["operator"] for seat in described["seats"]}
    for seat in told.seats:
        assert {line.event for line in seat.lines} >= {"executing", "executed"}, seat
    assert described["seats"][0]["vote"].removeprefix("0x") not in told.model_dump_json()
    home = devnet.options.home
    shutil.copytree(people.client.config.jobs, home / "jobs", dirs_exist_ok=True)
    shown = call_quorate("job", "logs", job.job_id.hex(), home=home)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("executed: bundle 0: 1 tasks") == len(told.seats)


def test_an_order_goes_to_any_node_and_past_a_collator_that_sleeps(devnet: Devnet, people: People) -> None:
    before = ask(devnet, STANDBY)["announcements"]["orders_adopted"]
    asleep = people.send(SLEEPER)
    anywhere = people.send(PLAIN)
    assert wait_for(lambda: people.is_accepted(asleep) and people.is_accepted(anywhere))
    assert ask(devnet, STANDBY)["announcements"]["orders_adopted"] > before
    assert sum(ask(devnet, node)["answered"].get("orders", 0) for node in (SLEEPER, STANDBY)) > 0
    batches = find_events(devnet, events.BatchOpened, asleep.from_block)
    collator = devnet.nodes[STANDBY].operators[0].account.address
    assert {each.collator for each in batches} == {collator}, "the other never posts"


def test_an_order_outlives_the_collator_that_took_it(devnet: Devnet, people: People) -> None:
    heard = ask(devnet, STANDBY)["announcements"]["orders_heard"]
    job = people.send(SLEEPER)
    assert wait_for(lambda: ask(devnet, STANDBY)["announcements"]["orders_heard"] > heard)
    devnet.kill_node(SLEEPER)
    try:
        assert wait_for(lambda: people.is_accepted(job))
    finally:
        devnet.restart_node(SLEEPER)


def test_an_order_goes_straight_to_the_chain(devnet: Devnet, people: People) -> None:
    job = people.send(PLAIN, is_direct=True)
    assert wait_for(lambda: people.is_accepted(job))
    (batch,) = [
        each for each in find_events(devnet, events.BatchOpened, job.from_block)
        if each.collator == devnet.requester.address
    ]  # fmt: skip
    assert batch.fee_wei == 0
    assert not {each.operator_id for each in find_events(devnet, events.OperatorFined, job.from_block)} & {
        *range(4, 10)
    }


def test_two_nodes_with_one_key_are_harmless_and_told(devnet: Devnet, people: People, tmp_path: Path) -> None:
    node, twin = devnet.nodes[PLAIN], tmp_path / "twin"
    same = run_node_command("run", home=node.home)
    assert same.returncode != 0, "a second node on the same home"
    assert "another" in same.stderr or "runs" in same.stderr, same.stderr
    assert run_node_command("backup", str(tmp_path / "node.tar"), home=node.home).returncode == 0
    restored = run_node_command("restore", str(tmp_path / "node.tar"), home=twin)
    assert restored.returncode == 0, restored.stderr
    (first,) = ask(devnet, STANDBY)["addresses"]
    change_config(twin, listen=f"127.0.0.1:{pick_ports(1)[0]}", bootstrap=[first])
    environment = os.environ | OUR_PATHS | {"QUORATE_PASSPHRASE_FILE": str(node.home / "passphrase")}
    command = [sys.executable, "-m", "quorate_node.cli.main", "run", "--home", str(twin)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        assert wait_for(lambda: "with the key of" in (ask(devnet, PLAIN).get("problem") or ""))
        job = people.send(STANDBY)
        assert wait_for(lambda: people.is_accepted(job))
        check_the_end(devnet)
        slashed = find_events(devnet, events.OperatorSlashed)
        fined = {each.operator_id for each in find_events(devnet, events.OperatorFined, job.from_block)}
        assert not slashed
        assert not fined & {member.operator_id for member in node.operators}
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
