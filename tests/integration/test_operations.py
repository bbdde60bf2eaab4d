"""A node that is drained and stopped harms nobody; one that moves to another home goes on as the same operator."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.network import find_events, requester, run_node_command

from quorate.devnet.devnet import Devnet
from quorate.devnet.options import DevnetOptions
from quorate.progress import JobStage
from quorate.protocol import events
from quorate.protocol.params import LOCAL

pytestmark = [pytest.mark.anvil, pytest.mark.timeout(300)]
QUICK = replace(LOCAL, era_period=8)
MOST_DRAWS = 20


def test_a_node_moves_and_another_is_drained(tmp_path: Path) -> None:
    with (
        Devnet(DevnetOptions(home=tmp_path / "net", nodes=4, operators_per_node=2, params=QUICK)) as devnet,
        requester(devnet, tmp_path) as people,
    ):
        moved, drained = devnet.nodes[2], devnet.nodes[3]
        backup = tmp_path / "node.tar"
        assert run_node_command("backup", str(backup), home=moved.home).returncode == 0, "while it runs"
        assert run_node_command("backup", str(backup), home=moved.home).returncode == 2, "never over another"
        devnet.kill_node(2)
        restored = run_node_command("restore", str(backup), home=tmp_path / "moved")
        assert restored.returncode == 0, restored.stderr
        command = [sys.executable, "-m", "quorate_node.cli.main", "run", "--home", str(tmp_path / "moved")]
        env = {
            "QUORATE_PASSPHRASE_FILE": str(moved.home / "passphrase"),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": ":".join(sys.path),
        }
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert process.stdout is not None
            ids = [member.operator_id for member in moved.operators]
            assert process.stdout.readline().endswith(f"operators {min(ids)} to {max(ids)}, 2 in all\n")

            gone = {member.operator_id for member in drained.operators}
            done = run_node_command("drain", "--timeout", "90", "-o", "json", home=drained.home)
            assert done.returncode == 0, done.stderr
            told = json.loads(done.stdout)
            assert told["drained"]
            assert {each["operator_id"] for each in told["operators"]} == gone
            assert [each["left"] for each in told["operators"]] == [[1], [1]]
            again = json.loads(run_node_command("drain", "-o", "json", home=drained.home).stdout)
            assert [each["left"] for each in again["operators"]] == [[], []]
            refused = run_node_command("rotate-key", home=drained.home)
            assert (refused.returncode, "keys of a farm" in refused.stderr) == (2, True), refused.stderr
            devnet.kill_node(3)

            seats: set[int] = set()

            for _ in range(MOST_DRAWS):
                job = people.submit(seats=2)
                assert people.client.wait(job, timeout_s=60).stage is JobStage.ACCEPTED
                seats.update(seat["operator"] for seat in people.client.describe(job)["seats"])
                if seats & set(ids):
                    break
            assert seats & set(ids), "the operators of the moved node work"
            assert not seats & gone
            assert not {each.operator_id for each in find_events(devnet, events.OperatorFined)} & (gone | set(ids))
            refused = run_node_command("drain", home=drained.home)
            assert refused.returncode == 3
            assert "no node answers" in refused.stderr
        finally:
            process.terminate()
            assert process.wait(60) == 0
