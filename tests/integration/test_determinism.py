"""Every example program, run again and again on both engines under whatever differs between hosts: one digest."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path for path in (ROOT / "client" / "examples").glob("*/*.wasm") if path.stem == path.parent.name)
LOCALES = ("C", "C.UTF-8", "POSIX", "de_DE.UTF-8", "tr_TR.UTF-8")
ZONES = ("UTC", "Asia/Kathmandu", "America/St_Johns")
RUNS = 20
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Input by example."""
    scene = tmp_path_factory.mktemp("inputs") / "scene"
    maker = ROOT / "client" / "examples" / "cloud-detection" / "make_scene.py"
    subprocess.run([sys.executable, str(maker), str(scene), "--size", "48", "--seed", "1"], check=True)
    return {"cloud-detection": scene}


def copy_shuffled(source: Path, target: Path, rng: random.Random) -> None:
    """The same files, made in another order, so that the host lists them and numbers them otherwise."""
    target.mkdir(parents=True)
    files = list(source.iterdir())
    rng.shuffle(files)
    for path in files:
        shutil.copyfile(path, target / path.name)
        os.utime(target / path.name, (rng.randrange(1 << 31), rng.randrange(1 << 31)))


def run_somewhere(module: Path, source: Path, place: Path, seed: int) -> dict[str, object]:
    """One run of the command on a host of its own kind."""
    rng = random.Random(seed)
    copy_shuffled(source, place / "in", rng)
    env = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ}
    env |= {"LC_ALL": rng.choice(LOCALES), "TZ": rng.choice(ZONES), "TMPDIR": str(place), "PYTHONHASHSEED": str(seed)}
    env |= {"HOME": str(place.parent), "COLUMNS": str(rng.randrange(20, 200)), f"NOISE_{seed}": "x" * seed}
    command = [sys.executable, "-m", "quorate_node.cli.main", "exec", str(module), "--input", str(place / "in")]
    command += ["--engine", ("cranelift", "pulley")[seed % 2], "--output", "json", "--", "/inputs"]
    done = subprocess.run(
        command, cwd=place, env=env, umask=rng.choice((0o000, 0o022, 0o077)), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("module", EXAMPLES, ids=lambda path: str(path.stem))
def test_an_example_gives_one_digest_everywhere(module: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    runs = [run_somewhere(module, inputs[module.stem], tmp_path / str(seed), seed) for seed in range(2 * RUNS)]
    assert {run["status"] for run in runs} == {"OK"}
    for agreed in ("digest", "fuel", "outputs"):
        assert len({run[agreed] for run in runs}) == 1, agreed
