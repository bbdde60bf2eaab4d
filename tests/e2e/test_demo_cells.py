"""`scripts/demo cells` as a newcomer runs it: what the network counted is what the program counts alone."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from quorate_node.executor.trial import Trial, run_trial

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "client" / "examples" / "cell-counting" / "cell-counting.wasm"

pytestmark = pytest.mark.timeout(300)


def test_cells_are_counted_by_a_job_over_many_images(tmp_path: Path) -> None:
    command = [str(ROOT / "scripts" / "demo"), "cells", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    images = tmp_path / "out" / "demo-cells" / "images"
    outputs = tmp_path / "out" / "demo-cells" / "results" / "outputs"
    alone = tmp_path / "alone"
    assert run_trial(Trial(MODULE.read_bytes(), source=images, out=alone)).code == 0
    names = sorted(path.name for path in images.glob("*.p?m"))
    assert len(names) > 1
    assert sorted(path.name for path in outputs.iterdir()) == names, "a task for each image"
    for name in names:
        for suffix in (".csv", ".labels.pgm"):
            left = Path(name).stem + suffix
            assert (outputs / name / left).read_bytes() == (alone / left).read_bytes()
    with (tmp_path / "out" / "cells.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert len(cells) > 100
    assert "operators agreed" in done.stdout
    with Image.open(tmp_path / "out" / "cells.png") as picture:
        assert picture.width > 256
        red = sum(count for count, colour in picture.convert("RGB").getcolors(1 << 24) if colour == (255, 32, 32))
    assert red > 20 * len(cells), "each is outlined"
