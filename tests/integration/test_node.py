"""Real node processes on a real chain: a crash between commit and reveal costs nothing, bad starts say why."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.network import (
    NOTHING,
    OUR_PATHS,
    Chain,
    find_events,
    requester,
    run_node_command,
    wait_for,
)

from quorate.chain import calls
from quorate.chain.account import SigningAccount, read_passphrase, save_keystore
from quorate.chain.types import to_hex
from quorate.config import load_config
from quorate.devnet.devnet import Devnet
from quorate.devnet.options import DevnetOptions
from quorate.orders import OrderWishes
from quorate.progress import JobStage
from quorate.protocol import events
from quorate.protocol.params import ETHER
from quorate.protocol.spec import Limits
from quorate.protocol.types import Member
from quorate.sdk import QuorateClient

NODES = 6


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    home = tmp_path_factory.mktemp("quorate") / "devnet"
    crashing = [sys.executable, "-m", "tests.adversarial.crashing_node"]
    commands = dict.fromkeys(range(1, NODES), crashing)
    with Devnet(DevnetOptions(home=home, nodes=NODES, commands=commands, env=OUR_PATHS)) as started:
        yield started


def find_crashed(devnet: Devnet) -> list[int]:
    return [node.index for node in devnet.nodes if (node.home / "crashed").exists()]


@pytest.mark.anvil
def test_a_node_killed_between_commit_and_reveal_comes_back_and_reveals(devnet: Devnet, tmp_path: Path) -> None:
    (tmp_path / "nothing.wasm").write_bytes(NOTHING)
    config = load_config(devnet.options.home.parent)
    with QuorateClient.open(config) as client, client.serving() as url:
        prepared = client.prepare(str(tmp_path / "nothing.wasm"), limits=Limits(fuel=10**9))
        job = client.submit(prepared, OrderWishes(seats=3, commit_period=30), providers=[url])
        assert wait_for(lambda: len(find_crashed(devnet)) >= 2, 60), "at least two seats are not the collator's"
        back = set[int]()

        def is_accepted() -> bool:
            for index in set(find_crashed(devnet)) - back:  # the third seat may be somewhat later than the others
                if devnet.nodes[index].running.exit_reason() is not None:
                    devnet.restart_node(index)
                    back.add(index)
            return client.track(job).stage is JobStage.ACCEPTED

        assert wait_for(is_accepted), client.track(job)
        assert back == set(find_crashed(devnet))
        logged = client.gateway.events(job.from_block, client.gateway.head().number)
        assert not [each for each in logged if isinstance(each.event, events.OperatorFined)]
        assert client.fetch_result(job, tmp_path / "out").results[0].exit_code == 0


@pytest.mark.anvil
def test_an_owner_gives_its_node_another_signing_key(devnet: Devnet, tmp_path: Path) -> None:
    """From the next era on the node signs with it; the stake stays the owner's, whose key the node has no more."""
    node, gateway = devnet.nodes[4], devnet.gateway
    owner, fresh = node.operators[0].account, SigningAccount.create()
    devnet.kill_node(4)
    gateway.wait(gateway.send(owner, calls.set_signing_key(fresh.address)))
    refused = run_node_command("run", home=node.home)
    assert (refused.returncode, "signs with another key" in refused.stderr) == (2, True)
    Chain(devnet).pass_time(devnet.options.params.era_period)
    assert wait_for(lambda: fresh.address in {m.key for m in current_members(devnet)})

    gateway.rpc.call("anvil_setBalance", to_hex(fresh.address), hex(ETHER))
    (node.home / "keystore.json").unlink()
    save_keystore(node.home / "keystore.json", fresh, read_passphrase(node.home / "passphrase"), 2**12)
    config = json.loads((node.home / "config.json").read_text())
    (node.home / "config.json").write_text(json.dumps(config | {"owner": to_hex(owner.address)}))
    for each in devnet.nodes:
        (each.home / "crashed").touch()  # no more crashes
    devnet.restart_node(4)
    start, stake = gateway.head().number, gateway.operator(node.operator_id).stake
    with requester(devnet, tmp_path) as people:
        for _ in range(20):
            job = people.submit()
            assert people.client.wait(job, timeout_s=60).stage is JobStage.ACCEPTED
            if node.operator_id in {seat["operator"] for seat in people.client.describe(job)["seats"]}:
                break
    assert gateway.operator(node.operator_id).stake > stake, "its vote was paid"
    assert not find_events(devnet, events.OperatorFined, start)
    refused = run_node_command("unstake", "1", home=node.home)
    assert (refused.returncode, "do this with the owner's key" in refused.stderr) == (2, True)
    gateway.wait(gateway.send(owner, calls.leave(1)))
    gateway.wait(gateway.send(owner, calls.unstake(stake)))
    assert gateway.operator(node.operator_id).unbonding == stake


def current_members(devnet: Devnet) -> tuple[Member, ...]:
    return devnet.gateway.table(1, devnet.gateway.class_info(1).table).members


@pytest.mark.anvil
def test_a_second_node_with_the_same_home_is_refused(devnet: Devnet) -> None:
    home = devnet.nodes[0].home
    found = run_node_command("run", home=home)
    assert found.returncode == 3
    assert "another node runs with this home" in found.stderr
    config = json.loads((home / "config.json").read_text())
    with socket.create_server(("127.0.0.1", 0)) as free:
        config["listen"] = f"127.0.0.1:{free.getsockname()[1]}"
    other = home.parent / "same-journal"
    other.mkdir(exist_ok=True)
    for name in ("keystore.json", "passphrase", "journal"):
        (other / name).unlink(missing_ok=True)
        os.link(home / name, other / name)
    (other / "config.json").write_text(json.dumps(config))
    found = run_node_command("run", home=other)
    assert found.returncode == 3
    assert "another node runs" in found.stderr
    (other / "journal").unlink()
    (other / "config.json").write_text((home / "config.json").read_text())
    found = run_node_command("run", home=other)
    assert found.returncode == 3
    assert "choose another port" in found.stderr


@pytest.mark.anvil
def test_a_wrong_passphrase_is_one_line(devnet: Devnet) -> None:
    home = devnet.options.home / "wrong"
    home.mkdir()
    source = devnet.nodes[0].home
    (home / "config.json").write_text((source / "config.json").read_text())
    (home / "keystore.json").write_bytes((source / "keystore.json").read_bytes())
    (home / "keystore.json").chmod(0o600)
    (home / "passphrase").write_text("not it\n")
    found = run_node_command("run", home=home)
    assert found.returncode == 2
    assert found.stderr.startswith("error: the passphrase does not open")
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.anvil
def test_a_node_ends_at_sigterm(devnet: Devnet) -> None:
    node = devnet.nodes[0]
    described = json.loads(run_node_command("status", "--output", "json", home=node.home).stdout)
    assert described["operator_id"] == 1
    assert [each["operator_id"] for each in described["operators"]] == [1]
    assert described["node"]["ready"] is True
    pid = devnet.nodes[0].running.popen.pid
    os.kill(pid, signal.SIGTERM)
    assert wait_for(lambda: node.running.exit_reason() is not None)


@pytest.mark.anvil
def test_an_operator_leaves_its_classes_and_unbonds(devnet: Devnet) -> None:
    """Stake that units hold cannot be unstaked; --leave frees it first, and the table of the next era is without it."""
    node = devnet.nodes[-1]
    whole = devnet.gateway.operator(node.operator_id).stake
    refused = run_node_command("unstake", str(whole), home=node.home)
    assert refused.returncode == 2
    assert "InsufficientStake" in refused.stderr
    done = run_node_command("unstake", str(whole), "--leave", "--output", "json", home=node.home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["unbonding_wei"] == whole
    after = devnet.gateway.operator(node.operator_id)
    assert (after.stake, after.allocated, after.unbonding) == (0, 0, whole)
    assert node.operator_id not in devnet.gateway.class_members(1)
