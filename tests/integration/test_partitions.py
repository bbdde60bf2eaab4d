"""A split of the network and its healing, in every phase of a job; `scripts/bench partitions` plays all scenes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.faults.hosts import find_obstacle
from tests.faults.partitions import DISPUTED, LIAR
from tests.integration.network import ROOT

pytestmark = [pytest.mark.anvil, pytest.mark.slow, pytest.mark.timeout(900)]

SHORT = ("before_commit", "between", "dispute")


def play(folder: Path, *names: str) -> dict[str, Any]:
    if (obstacle := find_obstacle()) is not None:
        pytest.skip(obstacle)
    command = ["unshare", "--net", sys.executable, "-m", "tests.faults.partitions", str(folder), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_host_that_comes_back_before_the_deadline_loses_nothing_and_results_are_right(tmp_path: Path) -> None:
    found = play(tmp_path, *SHORT)
    assert list(found) == list(SHORT)
    for name, told in found.items():
        liars = [LIAR] if name in DISPUTED else []
        assert told["stage"] == "accepted", name
        assert told["is_right"], name
        assert (told["faults"], told["slashed"], told["liars_slashed"]) == ([], [], liars), name
