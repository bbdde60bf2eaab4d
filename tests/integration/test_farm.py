"""Farms of operators on a real chain: a hundred in two processes, liars among them, a collator that is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.network import OUR_PATHS, Chain, find_events, lying_farm, requester, run_node_command, wait_for

from quorate.chain import calls
from quorate.chain.account import SigningAccount
from quorate.chain.types import parse_address, to_hex
from quorate.devnet.devnet import Devnet
from quorate.devnet.options import DevnetOptions
from quorate.devnet.ports import pick_ports
from quorate.progress import JobStage
from quorate.protocol import events
from quorate.protocol.params import ETHER, LOCAL
from quorate.protocol.types import Address

pytestmark = pytest.mark.anvil
LIARS = {8, 9}
HEAVY = {7: 25, 8: 25}
"""Units of the liars where a lone seat has to be theirs: they are drawn for one job in three, and still a minority."""


def test_a_hundred_operators_in_two_processes_do_a_job(tmp_path: Path) -> None:
    options = DevnetOptions(home=tmp_path / "net", nodes=2, operators_per_node=50)
    with Devnet(options) as devnet, requester(devnet, tmp_path) as people:
        table = devnet.gateway.table(1, devnet.gateway.class_info(1).table)
        assert len(table.members) == 100
        with rehearsing(devnet, tmp_path / "dry") as (url, address):
            job = people.submit()
            assert people.client.wait(job, timeout_s=60).stage is JobStage.ACCEPTED
            assert people.client.fetch_result(job, tmp_path / "out").results[0].exit_code == 0
            assert not find_events(devnet, events.OperatorFined)
            counts: dict[str, int] = {}

            def is_rehearsed() -> bool:
                counts.update(httpx.get(f"{url}/quorate/v1/status", trust_env=False).json()["dry_run"])
                return sum(counts.values()) > 0

            assert wait_for(is_rehearsed, 30)
            assert counts == {"agreed": 1, "differed": 0, "abstained": 0}
        count = devnet.gateway.rpc.call("eth_getTransactionCount", to_hex(address), "pending")
        assert count == "0x0", "a dry run sends nothing, though it could"


@contextmanager
def rehearsing(devnet: Devnet, home: Path) -> Iterator[tuple[str, Address]]:
    """A node that runs dry, without an operator; its URL and address."""
    (home.parent / "passphrase").write_text("of a test\n")
    made = run_node_command(
        "init", "--rpc-url", devnet.gateway.rpc.url, "--deployment", str(devnet.options.home / "deployment.json"),
        "--passphrase-file", str(home.parent / "passphrase"), "--listen", f"127.0.0.1:{pick_ports(1)[0]}", "-o", "json",
        home=home,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    address = parse_address(json.loads(made.stdout)["address"])
    devnet.gateway.rpc.call("anvil_setBalance", to_hex(address), hex(ETHER))
    command = [sys.executable, "-m", "quorate_node.cli.main", "run", "--dry-run", "--home", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline().split(maxsplit=2)
        assert ready[2].startswith("dry run: nothing is committed"), process.stderr and process.stderr.read()
        yield ready[1], address
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_the_class_finds_liars_without_anybody_asking(tmp_path: Path) -> None:
    liars = lying_farm("8-9", "always_lie")
    options = DevnetOptions(home=tmp_path / "net", nodes=2, operators_per_node=6, commands={1: liars}, env=OUR_PATHS)
    with Devnet(options) as devnet, requester(devnet, tmp_path) as people:
        for _ in range(20):
            job = people.submit()
            steps = [step.stage for step in people.client.watch(job, timeout_s=90)]
            if JobStage.DISPUTED in steps:
                break
        assert steps[-1] is JobStage.ACCEPTED, "the honest result stands, whoever lied"
        assert wait_for(lambda: bool(find_events(devnet, events.DisputeSettled)), 60)
        slashes = people.client.describe(job)["slashes"]
        assert slashes
        assert {each["operator"] for each in slashes} <= {8, 9}
        honest = {each.operator_id for each in find_events(devnet, events.OperatorSlashed)} - {8, 9}
        assert not honest


def test_a_killed_collator_costs_nobody_else_anything(tmp_path: Path) -> None:
    options = DevnetOptions(
        home=tmp_path / "net",
        nodes=3,
        operators_per_node=4,
        collators=frozenset({0, 1}),
        units={0: 1, 1: 1, 2: 1, 3: 1},
    )
    with Devnet(options) as devnet, requester(devnet, tmp_path) as people:
        job = people.submit(commit_period=12)
        assert wait_for(lambda: bool(find_events(devnet, events.BatchClosed)), 30)
        devnet.kill_node(0)
        assert people.client.wait(job, timeout_s=120).stage is JobStage.ACCEPTED
        dead = {member.operator_id for member in devnet.nodes[0].operators}
        fined = {each.operator_id for each in find_events(devnet, events.OperatorFined)}
        assert fined <= dead
        again = people.submit()
        assert people.client.wait(again, timeout_s=60).stage is JobStage.ACCEPTED, "the other collator takes orders"


def test_an_audit_undoes_what_liars_had_accepted(tmp_path: Path) -> None:
    """With every seat theirs they get a lie accepted; the lot finds it, and the requester hears of it before FINAL."""
    liars = lying_farm("8-9", "lie_if_unanimous")
    options = DevnetOptions(
        home=tmp_path / "net", nodes=2, operators_per_node=6, commands={1: liars}, env=OUR_PATHS, units=HEAVY,
        params=replace(LOCAL, audit_bps=10_000),
    )  # fmt: skip
    with Devnet(options) as devnet, requester(devnet, tmp_path) as people:
        for _ in range(40):
            job = people.submit(seats=1)
            assert people.client.wait(job, timeout_s=60).stage is JobStage.ACCEPTED
            described = people.client.describe(job)
            # The auditor may be one of them, too: then the lie stands, and they try again.
            if described["seats"][0]["operator"] in LIARS and is_doubted(devnet, described["batch_id"]):
                break
        last = people.client.wait(job, timeout_s=120, until_final=True)
        assert (last.stage, last.detail[:9]) == (JobStage.VOID, "the class")
        assert {each["operator"] for each in people.client.describe(job)["slashes"]} <= LIARS


def is_doubted(devnet: Devnet, batch_id: int) -> bool:
    """What the auditor of a batch with one bundle says of it, as soon as it has said so."""

    def find() -> list[bool]:
        audits = find_events(devnet, events.BundleAudited)
        return [bool(each.dispute_id) for each in audits if each.batch_id == batch_id]

    return wait_for(lambda: bool(find()), LOCAL.challenge_period) and find()[0]


def test_a_watcher_challenges_what_liars_had_accepted(tmp_path: Path) -> None:
    liars = lying_farm("8-9", "lie_if_unanimous")
    options = DevnetOptions(
        home=tmp_path / "net", nodes=2, operators_per_node=6, commands={1: liars}, env=OUR_PATHS, units=HEAVY,
        params=replace(LOCAL, audit_bps=0), settings={"challenge_budget_wei": ETHER, "watch_bps": 5_000},
    )  # fmt: skip
    with Devnet(options) as devnet, requester(devnet, tmp_path) as people:
        for _ in range(40):
            job = people.submit(seats=1)
            assert people.client.wait(job, timeout_s=60).stage is JobStage.ACCEPTED
            if people.client.describe(job)["seats"][0]["operator"] not in LIARS:
                continue
            last = people.client.wait(job, timeout_s=120, until_final=True)
            if last.stage is not JobStage.FINAL:  # by each one's own lot it may be that nobody looks: one lie in 1024
                break
        assert (last.stage, last.detail[:9]) == (JobStage.VOID, "the class")
        assert find_events(devnet, events.ResultChallenged)
        assert {each["operator"] for each in people.client.describe(job)["slashes"]} <= LIARS


def test_the_first_key_of_a_farm_pays_for_all(tmp_path: Path) -> None:
    """From an empty home to three members of a class: each has its stake, and what it needs for gas."""
    options = DevnetOptions(home=tmp_path / "net", nodes=0, collators=frozenset(), block_time_s=0.1)
    with Devnet(options) as devnet:
        home, gateway = tmp_path / "farm", devnet.gateway
        (tmp_path / "passphrase").write_text("open\n")

        def command(*words: str) -> Any:
            done = run_node_command(*words, "--output", "json", home=home)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        deployment, passphrase = str(options.home / "deployment.json"), str(tmp_path / "passphrase")
        made = command("init", "--rpc-url", devnet.rpc_url, "--deployment", deployment, "--passphrase-file", passphrase)
        poor = run_node_command("stake", "2ether", "--operators", "3", home=home)
        assert (poor.returncode, "holds 0 ether" in poor.stderr) == (2, True)
        gateway.rpc.call("anvil_setBalance", made["address"], hex(10 * ETHER))
        staked = command("stake", "2ether", "--units", "10", "--operators", "3")["operators"]
        assert [each["operator_id"] for each in staked] == [1, 2, 3]
        assert all(each["stake_wei"] == 2 * ETHER and each["allocated_wei"] == ETHER for each in staked)
        assert list(gateway.class_members(1)) == [1, 2, 3]
        owners = [parse_address(each["owner"]) for each in command("status")["operators"]]
        assert [gateway.operator_of(owner) for owner in owners] == [1, 2, 3]
        assert all(0 < gateway.balance(owner) < ETHER // 10 for owner in owners[1:]), "money for gas, and no more"
        assert gateway.balance(owners[0]) > 4 * ETHER - ETHER // 10
        assert [each["problem"] for each in command("rejoin")["operators"]] == ["it is not in jail"] * 3


def test_the_stakes_of_a_farm_come_back_to_one_address(tmp_path: Path) -> None:
    """Operators 2 … N own their stakes with keys that nobody holds in a wallet: what they get is sent on."""
    options = DevnetOptions(home=tmp_path / "net", nodes=2, operators_per_node=3)
    with Devnet(options) as devnet:
        home, members, gateway = devnet.nodes[1].home, devnet.nodes[1].operators, devnet.gateway
        devnet.kill_node(1)

        def command(*words: str) -> Any:
            done = run_node_command(*words, "--output", "json", home=home)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        stakes = [gateway.operator(member.operator_id).stake for member in members]
        gateway.wait(gateway.send(members[1].account, calls.leave(1)))
        gateway.wait(gateway.send(members[1].account, calls.unstake(stakes[1])))
        first, refused, third = command("unstake", str(stakes[0]), "--leave")["operators"]
        assert [each["unbonding_wei"] for each in (first, third)] == [stakes[0], stakes[2]]
        assert "InsufficientStake" in refused["problem"], "it has done so already, and does not stop the others"
        early = run_node_command("withdraw", home=home)
        assert (early.returncode, "NotReleased" in early.stderr) == (2, True)

        status = command("status")
        assert [each["operator_id"] for each in status["operators"]] == [4, 5, 6]
        assert status["operator_id"] == 4
        assert [each["owner"] for each in status["operators"]] == [to_hex(member.account.address) for member in members]
        assert [each["unbonding_wei"] for each in status["operators"]] == stakes
        shown = run_node_command("status", home=home).stdout
        assert all(to_hex(member.account.address) in shown for member in members)
        assert "2 ether, free from" in shown

        chain = Chain(devnet)
        chain.pass_time(options.params.unbonding_period)
        chain.mine()
        gateway.wait(gateway.send(members[1].account, calls.withdraw()))  # by itself: it is left at its own address
        before = [gateway.balance(member.account.address) for member in members]
        taken = command("withdraw")["operators"]
        assert [each.get("withdrawn_wei") for each in taken] == [stakes[0], None, stakes[2]]
        assert (taken[2]["sent_to"], taken[2]["sent_wei"]) == (to_hex(members[0].account.address), stakes[2])
        after = [gateway.balance(member.account.address) for member in members]
        gas = ETHER // 100
        assert before[0] + stakes[0] + stakes[2] - gas < after[0] < before[0] + stakes[0] + stakes[2]
        assert before[2] - gas < after[2] < before[2], "money for gas stays there"
        assert after[1] == before[1]

        nobody = run_node_command("withdraw", "--to", "0x" + "00" * 20, home=home)
        assert (nobody.returncode, "lost" in nobody.stderr) == (2, True)
        savings = SigningAccount.create().address
        command("withdraw", "--sweep", "--to", to_hex(savings))
        left = [gateway.balance(member.account.address) for member in members]
        assert max(left) < gas
        assert gateway.balance(savings) > sum(after) - 3 * gas


def test_a_void_job_is_extended_where_it_stopped(tmp_path: Path) -> None:
    options = DevnetOptions(home=tmp_path / "net", nodes=2, operators_per_node=6)
    with Devnet(options) as devnet, requester(devnet, tmp_path) as people:
        devnet.kill_node(1)
        for _ in range(10):
            job = people.submit(commit_period=3, rounds=0)
            is_void = people.client.wait(job, timeout_s=90).stage is JobStage.VOID
            before = people.client.describe(job)
            if is_void and before["extendable"]:  # not where all seats fell on operators that are away: no vote stands
                break
        assert before["extendable"]
        devnet.restart_node(1)
        assert people.client.extend(job, 2) == tuple(before["extendable"])
        assert people.client.wait(job, timeout_s=90).stage is JobStage.ACCEPTED
        after = people.client.describe(job)
        stood = {seat["operator"] for seat in before["seats"] if seat["vote"]}
        assert stood <= {seat["operator"] for seat in after["seats"] if seat["vote"]}, "votes stand"
        assert "extend" in after["transactions"]
