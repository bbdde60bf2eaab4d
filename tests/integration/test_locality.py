"""The benchmark of locality in its short form: with it nodes read where the data lies, without it the data moves."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from tests.integration.network import ROOT

FILES, SIZE, NODES = 700, 4096, 4
BUNDLES = 3  # of 256 tasks at most
HOLDERS = {0, 1}
OVERHEAD = 200_000  # specs, the module and directories, of all nodes

pytestmark = [pytest.mark.anvil, pytest.mark.timeout(600)]


def read_rows(kind: str, case: str) -> list[dict[str, Any]]:
    path = ROOT / "out" / "bench" / "locality" / f"{kind}.jsonl"
    return [row for row in map(json.loads, path.read_text().splitlines()) if row["case"] == case]


def test_bytes_stay_where_they_are_or_move_and_both_are_counted() -> None:
    command = [sys.executable, str(ROOT / "tests" / "bench" / "locality.py"), "--json", "--nodes", str(NODES)]
    done = subprocess.run(
        [*command, "--files", str(FILES), "--size", str(SIZE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for case, told in (("require", found["with"]), ("ignore", found["without"])):
        rows = read_rows("executions", case)
        executed = sum(row["tasks"] for row in rows)
        # All seats of a bundle may be of one process, which executes it once.
        tasks_by_vote = {row["vote"]: row["tasks"] for row in rows}
        assert len(tasks_by_vote) == BUNDLES
        assert sum(tasks_by_vote.values()) == FILES, "every task, and no other"
        assert len({(row["vote"], row["node"]) for row in rows}) == len(rows), "once a process"
        assert told["bytes_read"] == executed * SIZE
        assert told["bytes_moved"] == sum(row["bytes"] for row in read_rows("received", case))
        share = max(0.0, 1 - told["bytes_moved"] / told["bytes_read"])  # strangers alone move a little more than that
        assert told["local_share"] == pytest.approx(share, abs=1e-4)
    assert found["with"]["class"] == 2
    assert {row["node"] for row in read_rows("executions", "require")} <= HOLDERS
    assert found["bytes_moved"] < OVERHEAD
    assert found["without"]["class"] == 1
    for row in read_rows("received", "ignore"):
        needed = SIZE * sum(each["tasks"] for each in read_rows("executions", "ignore") if each["node"] == row["node"])
        if row["node"] in HOLDERS:
            assert row["bytes"] < OVERHEAD
        else:
            assert needed <= row["bytes"] < 1.2 * needed + OVERHEAD
    # Only where the lot left all bundles to holders did nothing have to move.
    strangers = {row["node"] for row in read_rows("executions", "ignore")} - HOLDERS
    assert (found["bytes_moved_without"] > SIZE * 100) is bool(strangers)
