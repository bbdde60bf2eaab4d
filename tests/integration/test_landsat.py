"""The benchmark of many images in its short form, on a made scene: real nodes, figures that follow from its rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.integration.network import ROOT

TILES, NODES, SEATS, SIDE = 60, 3, 3, 64
MAKER = ROOT / "client" / "examples" / "cloud-detection" / "make_scene.py"


def read_rows(kind: str) -> list[dict[str, Any]]:
    path = ROOT / "out" / "bench" / f"landsat-{TILES}-n{NODES}-{kind}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.anvil
@pytest.mark.timeout(600)
def test_sixty_images_are_verified_and_every_mask_is_the_programs(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(MAKER), str(tmp_path / "scene"), "--size", "300"], check=True)
    command = [sys.executable, str(ROOT / "tests" / "bench" / "landsat.py"), "--json"]
    command += ["--tiles", str(TILES), "--nodes", str(NODES), "--seats", str(SEATS), "--side", str(SIDE)]
    done = subprocess.run([*command, "--scene", str(tmp_path / "scene")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["tiles"], found["accepted"], found["wrong"], found["bundles"]) == (TILES, TILES, 0, 1)
    # Two operators a process: those of one share what they execute, and what they fetch for it.
    processes = found["executions"] // TILES
    assert found["executions"] == processes * TILES
    assert 2 <= processes <= SEATS
    assert processes == len({row["node"] for row in read_rows("executions")})
    least = processes * found["bytes_of_tiles"]
    assert least < found["bytes_moved"] < 1.2 * least + (1 << 20)
    masks = [row["is_same"] for row in read_rows("tiles")]
    assert masks == [True] * TILES
    # Ratios are of what was measured in this very run, whatever the machine does beside it.
    [job], [native], bare = read_rows("job"), read_rows("native"), read_rows("bare")
    walls = [max(row["seconds"] for row in bare if row["when"] == when) for when in ("before", "after")]
    for name, seconds in (("bare", sum(walls) / 2), ("native", native["seconds"])):
        expected = job["total_s"] / (seconds / TILES * found["executions"])
        assert found[f"ratio_to_{name}"] == pytest.approx(expected, rel=0.01)
    assert 0 < found["first_s"] <= found["last_s"] <= found["total_s"]
    assert found["images_s"] == pytest.approx(TILES / job["total_s"], rel=0.01)
    growth = [row["growth_mb"] for row in read_rows("usage")]
    assert found["rss_growth_mb"] == pytest.approx(max(growth), abs=0.06)
    with Image.open(ROOT / "out" / f"landsat-{TILES}.png") as picture:
        assert picture.width > 2 * 300
