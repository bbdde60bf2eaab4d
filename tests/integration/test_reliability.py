"""The benchmark of reliability in its short form: jobs of all kinds while nodes die, and what it has to notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from PIL import Image
from tests.integration.network import ROOT

JOBS, NODES, PLANTED = 200, 6, 14

pytestmark = [pytest.mark.anvil, pytest.mark.slow, pytest.mark.timeout(900)]


def read_rows(name: str, kind: str) -> list[dict[str, Any]]:
    path = ROOT / "out" / "bench" / f"reliability-{name}-{kind}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(*words: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "tests" / "bench" / "reliability.py"), "--json", "--nodes", str(NODES)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # as scripts/bench has it
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_two_hundred_jobs_come_out_right_while_nodes_die() -> None:
    found = run("--jobs", str(JOBS), "--seconds", "30", "--kill-every", "10", "--collator-every", "15")
    rows = read_rows(f"{JOBS}-n{NODES}", "jobs")
    assert sorted(row["job"] for row in rows) == list(range(JOBS))
    assert (found["jobs"], found["succeeded"], found["failed"]) == (JOBS, JOBS, {}), found
    assert (found["wrong"], found["wei_unaccounted"], found["resubmitted"]) == (0, 0, 0)
    assert found["kinds"] == Counter(row["kind"] for row in rows)
    assert len(found["kinds"]) == 7
    assert min(found["kinds"].values()) >= JOBS // 7
    faults = read_rows(f"{JOBS}-n{NODES}", "faults")
    kills = [row for row in faults if row["what"] == "kill"]
    assert found["kills"] == len(kills) >= 4
    assert len([row for row in faults if row["what"] == "back"]) == len(kills), "whoever was killed came back"
    assert found["collator_kills"]
    assert min(found["faults_by_kind"][kind] for kind in ("killed", "stalled", "dropped", "delayed")) > 0
    assert 0 < found["latency_p50_s"] <= found["latency_p99_s"]
    with Image.open(ROOT / "out" / "reliability.png") as picture:
        assert picture.width > 500


def test_a_lie_that_all_tell_and_a_wei_that_goes_are_noticed() -> None:
    found = run("--jobs", str(PLANTED), "--seconds", "5", "--plant", "lie", "--plant", "skew")
    assert (found["jobs"], found["wrong"], found["succeeded"]) == (PLANTED, PLANTED, 0)
    assert found["wei_unaccounted"] == 1
