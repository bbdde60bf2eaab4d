"""Jobs in containers on a whole network: classes that operators make and join, and who loses stake in them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.dockers import Daemon, build_program, needs_docker
from tests.integration.network import (
    PATIENCE_S,
    Books,
    Chain,
    check_the_end,
    find_events,
    lying_farm,
    run_node_command,
    run_quorate,
    three_farms,
    wait_for,
)

from quorate.config import load_config
from quorate.devnet.devnet import Devnet
from quorate.orders import OrderWishes
from quorate.progress import JobStage
from quorate.protocol import events
from quorate.protocol.container import ContainerSpec
from quorate.protocol.params import ETHER, LOCAL
from quorate.sdk import QuorateClient
from quorate_node.config import load_config as load_node_config
from quorate_node.executor.docker_client import connect

NARROW, PLAIN, GPU = 2, 3, 4
LIARS, HONEST = range(9, 13), range(1, 9)
MOST_JOBS = 12
pytestmark = [pytest.mark.anvil, *needs_docker]


@dataclass(slots=True)
class Network:
    """A devnet whose nodes run containers, an image, and a folder in which the requester works."""

    devnet: Devnet
    folder: Path
    docker_host: str
    image: Path
    image_id: str

    def operator(self, node: int, *words: str) -> Any:
        """A command of an operator that must succeed."""
        done = run_node_command(*words, "--output", "json", home=self.devnet.nodes[node].home)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def run(self, *words: str, image: Path | None = None) -> tuple[int, dict[str, Any], str]:
        """A job of the requester: exit code, receipt, what it said."""
        (self.folder / "data").write_bytes(os.urandom(1000))  # no two jobs are alike
        source = ["-i", str(self.folder / "data"), "--wait", "--seconds", "5", "-o", "json"]
        command = ["docker", "run", str(image or self.image), *source, *words]
        done = run_quorate(*command, home=self.folder, timeout_s=3 * PATIENCE_S)  # a class may vote three times
        return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr

    def find_seats(self) -> set[int]:
        """Who voted on the last job."""
        last = json.loads(run_quorate("job", "list", "-o", "json", home=self.folder).stdout)[-1]
        told = json.loads(run_quorate("job", "describe", last["job_id"], "-o", "json", home=self.folder).stdout)
        return {seat["operator"] for seat in told["seats"]}

    def stakes(self, operators: Sequence[int]) -> list[int]:
        return [Books(self.devnet).stake_of([each]) for each in operators]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("containers")
    build_program("lots", folder)
    built = run_quorate(
        "image", "build", "--binary", str(folder / "lots"), "--output-file", str(folder / "lots.tar"), "-o", "json",
        home=folder,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    daemon = Daemon(folder / "docker")
    try:
        settings = {"docker_host": daemon.host, "workers": 2}
        liars = {2: lying_farm("9-12", "always_lie")}
        with three_farms(
            folder, 4, liars, settings=settings, share_executions=False, spare_stake_wei=2 * ETHER
        ) as devnet:
            (folder / "devnet").symlink_to(devnet.options.home)
            image_id = json.loads(built.stdout)["image_id"]
            found = Network(devnet, folder, daemon.host, folder / "lots.tar", image_id)
            found_classes(found)
            yield found
    finally:
        daemon.stop()


def found_classes(network: Network) -> None:
    """As operators would: each for the image and for all images, one of them for a GPU."""
    image = f"image={network.image_id}"
    made = network.operator(0, "class", "create", "quorate-docker-1", image, "--unit", "0.05ether")
    assert (made["class"], made["judged"]) == (NARROW, True)
    made = network.operator(0, "class", "create", "quorate-docker-1", "--unit", "0.05ether")
    assert (made["class"], made["judged"]) == (PLAIN, False)
    made = network.operator(1, "class", "create", "quorate-gpu-1", "gpu=nvidia-l4")
    assert (made["class"], made["judged"]) == (GPU, False)
    for node in range(3):
        network.operator(node, "class", "join", str(NARROW), "quorate-docker-1", image)
        if node < 2:  # whoever lies in a class without a judge makes its jobs void: not what is looked at here
            network.operator(node, "class", "join", str(PLAIN))
    Chain(network.devnet).pass_time(LOCAL.era_period)
    assert wait_for(lambda: [count_members(network, each) for each in (1, NARROW, PLAIN)] == [12, 12, 8])


def count_members(network: Network, class_id: int) -> int:
    number = network.devnet.gateway.class_info(class_id).table
    return len(network.devnet.gateway.table(class_id, number).members) if number else 0


def test_what_a_class_is_for_is_checked_before_anybody_is_in_it(network: Network) -> None:
    """Before any job: liars that are convicted together are ejected, and leave the tables when an era ends."""
    image = f"image={network.image_id}"
    for words, why in [
        (["join", "9"], "there is no class 9"),
        (["join", str(GPU)], "no GPU"),
        (["join", str(NARROW), "quorate-docker-1"], f"class {NARROW} is not for quorate-docker-1"),
        (["join", str(NARROW), "quorate-docker-1", image], "it is in the class"),
        (["leave", str(GPU)], "not in this class"),
        (["create", "quorate-docker-1", "--judged"], "toss coins"),
        (["create", "quorate-gpu-1", "gpu=voodoo"], "known kinds"),
    ]:
        done = run_node_command("class", *words, home=network.devnet.nodes[0].home)
        assert (done.returncode != 0, "Traceback" in done.stderr) == (True, False), done
        assert why in done.stderr
    assert network.operator(0, "doctor")["docker"]["ok"], "a container was run"
    listed = network.operator(0, "class", "list")["classes"]
    assert [(each["class"], each["can_run"], each["mine"]) for each in listed] == [
        (1, True, 40), (NARROW, True, 40), (PLAIN, True, 40), (GPU, False, 0)
    ]  # fmt: skip
    assert listed[1]["description"] == f"quorate-docker-1 {image}"
    listing = ["class", "list", f"quorate-docker-1 {image}", "--adversary", "0.01"]
    told = json.loads(run_quorate(*listing, "-o", "json", home=network.folder).stdout)
    assert [(each["class"], each["image"], each["drawn_members"], each["unnamed"]) for each in told] == [
        (1, None, 12, True), (NARROW, network.image_id, 12, True), (PLAIN, None, 8, True), (GPU, None, 0, False)
    ]  # fmt: skip
    assert told[3]["why"] == "no node runs programs on GPUs yet"
    shown = run_quorate(*listing, "--seats", "5", home=network.folder).stdout
    assert f"class {NARROW}  quorate-docker-1 {image}\n" in shown
    assert f"only if it is named, with --class {PLAIN}: it has 8 members, too few for 5 seats" in shown
    usual = run_quorate("class", "list", home=network.folder).stdout
    assert f"--class {PLAIN}: whoever has 10% of all stake could be half of it" in usual


def test_a_container_goes_all_the_way_and_its_liar_is_slashed(network: Network) -> None:
    start, before = Chain(network.devnet).head().number, network.stakes(HONEST)
    for count in range(MOST_JOBS):
        out = network.folder / f"out-{count}"
        code, receipt, said = network.run("--to", str(out), "--", "count")
        if code and network.find_seats() <= set(LIARS):  # one committee in 55: nobody contradicted, or has that result
            continue
        assert code == 0, said
        assert f"class {NARROW}, 3 seats" in said
        assert (out / "outputs" / "count").read_text() == "1000\n"
        assert receipt["verdict"] == "accepted", receipt
        shown = run_quorate("job", "describe", receipt["job_id"], home=network.folder)
        assert f"{network.image_id} count" in shown.stdout, shown.stderr
        if slashed := find_events(network.devnet, events.OperatorSlashed, start):
            break
    check_the_end(network.devnet)
    slashed = find_events(network.devnet, events.OperatorSlashed, start)
    assert slashed, "no liar was drawn"
    assert {event.operator_id for event in slashed} <= set(LIARS)
    assert all(new >= old for old, new in zip(before, network.stakes(HONEST), strict=True))


def test_chance_costs_no_operator_its_stake(network: Network) -> None:
    """In the class for all images; in the one for a single image its members have said that there is no chance."""
    start, before = Chain(network.devnet).head().number, network.stakes(range(1, 13))
    spent = Books(network.devnet).free_of(network.devnet.requester.address)
    ends = []
    while "void" not in ends and len(ends) < MOST_JOBS:
        code, receipt, said = network.run("--class", str(PLAIN), "--", "toss")
        ends.append("void" if code == 4 else receipt["verdict"])
        assert code in (0, 4), said
    assert ends[-1] == "void", "the same side every time"
    assert "the seats' results differ" in said
    last = json.loads(run_quorate("job", "list", "-o", "json", home=network.folder).stdout)[-1]
    assert (last["last_seen"], last["class"], last["asked"]) == ("void", PLAIN, True)
    told = json.loads(run_quorate("job", "describe", last["job_id"], "-o", "json", home=network.folder).stdout)
    votes = [seat["vote"] for seat in told["seats"]]
    assert (len(votes), None in votes, len(set(votes))) == (3, False, 2), "two sides, which no event tells"
    check_the_end(network.devnet)
    assert find_events(network.devnet, events.OperatorSlashed, start) == []
    assert find_events(network.devnet, events.OperatorFined, start) == []
    after = network.stakes(range(1, 13))
    assert all(new >= old for old, new in zip(before, after, strict=True)), "some were paid for their work"
    assert Books(network.devnet).free_of(network.devnet.requester.address) < spent


def test_a_job_over_many_files_gives_each_container_its_own(network: Network) -> None:
    scene, out = network.folder / "scene", network.folder / "files"
    scene.mkdir()
    for name in "abc":
        (scene / name).write_text(name)
    batches = ["--partition", "[a-c]", "--batch-size", "2"]
    code, receipt, said = network.run("-i", str(scene), *batches, "--class", str(PLAIN), "--to", str(out), "--", "see")
    assert code == 0, said
    assert receipt["order"]["task_count"] == 2
    found = {path.name: path.read_text() for path in (out / "stdout").iterdir()}
    assert found == {"a": "/inputs/a\n/inputs/b\n", "c": "/inputs/c\n"}


def test_an_image_that_is_not_what_its_order_says_costs_nobody_a_stake(network: Network) -> None:
    start, before = Chain(network.devnet).head().number, network.stakes(HONEST)
    with QuorateClient.open(load_config(network.folder)) as client, client.serving() as url:
        prepared = client.prepare_container(str(network.image))
        assert isinstance(prepared.spec, ContainerSpec)
        image = replace(prepared.spec.image, id=f"sha256:{'1' * 64}")
        wrong = replace(prepared, spec=replace(prepared.spec, image=image))
        client.store.put_raw(wrong.spec.to_bytes())
        job = client.submit(wrong, OrderWishes(PLAIN, seats=3), providers=[url])
        end = client.wait(job, timeout_s=PATIENCE_S)
    assert end.stage is JobStage.VOID
    assert "the data is not what its order says" in end.detail
    check_the_end(network.devnet)
    assert find_events(network.devnet, events.OperatorSlashed, start) == []
    assert find_events(network.devnet, events.OperatorFined, start) == []
    assert all(new >= old for old, new in zip(before, network.stakes(HONEST), strict=True))


def test_a_container_above_the_operators_ceilings_is_refused_before_it_is_posted(network: Network) -> None:
    code, _, said = network.run("--memory", "5000", "--", "count")
    assert code == 2
    assert "limits.memory_bytes = 5242880000 is above this node's ceiling 4294967296" in said


def test_a_node_clears_away_what_it_left_when_it_starts(network: Network) -> None:
    """Without a job: it may not get one for long."""
    scratch = load_node_config(network.devnet.nodes[1].home).docker.scratch
    api = connect(network.docker_host)
    network.devnet.kill_node(1)
    api.create_container(network.image_id, labels={"quorate.scratch": str(scratch)}, name="left")
    (scratch / "old").mkdir()
    network.devnet.restart_node(1)
    assert wait_for(lambda: not (scratch / "old").exists() and not api.containers(all=True, filters={"name": "left"}))
    api.close()


def test_who_leaves_a_class_is_not_drawn_from_its_next_era_on(network: Network) -> None:
    done = network.operator(1, "class", "leave", str(PLAIN))
    assert done["operators"][0]["class"] == PLAIN
    Chain(network.devnet).pass_time(LOCAL.era_period)
    assert wait_for(lambda: count_members(network, PLAIN) == 4)


def test_chance_in_a_class_for_one_image_does(network: Network) -> None:
    """So the class for all images is what spares them, and whoever joins one for an image answers for it."""
    start = Chain(network.devnet).head().number
    for _ in range(MOST_JOBS):
        network.run("--class", str(NARROW), "--", "toss")
        if find_events(network.devnet, events.OperatorSlashed, start):
            break
    check_the_end(network.devnet)
    assert {event.operator_id for event in find_events(network.devnet, events.OperatorSlashed, start)} & set(HONEST)


def test_a_devnet_has_a_class_for_containers_if_that_is_asked_for(network: Network, tmp_path: Path) -> None:
    env = {"DOCKER_HOST": network.docker_host}
    up = ["devnet", "up", "--nodes", "1", "--operators-per-node", "6", "--profile", "quorate-docker-1"]
    gone = run_quorate(*up, home=tmp_path, DOCKER_HOST="unix:///nowhere")
    assert (gone.returncode, (tmp_path / "devnet").exists()) == (2, False)
    assert "this host runs no containers" in gone.stderr
    started = run_quorate(*up, "-o", "json", home=tmp_path, **env)
    try:
        assert json.loads(started.stdout)["classes"] == {"1": "quorate-wasm-1", "2": "quorate-docker-1"}
        (tmp_path / "data").write_bytes(b"1234567")
        words = ["-i", str(tmp_path / "data"), "--to", str(tmp_path / "out"), "--", "count"]
        done = run_quorate("docker", "run", str(network.image), *words, home=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out" / "outputs" / "count").read_text() == "7\n"
    finally:
        assert run_quorate("devnet", "down", home=tmp_path).returncode == 0
