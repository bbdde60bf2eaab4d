"""Every example program, run again and again on both engines under whatever differs between hosts: one digest.

What differs: the wall clock (by years, through a library that stands before libc), time zone, locale, umask, home and
temporary folders, environment, the order in which the input's files were made, their times, and the order of preopens.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quorate_node.executor.folders import Folder
from quorate_node.executor.trial import EngineName, Trial, run_trial

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path for path in (ROOT / "client" / "examples").glob("*/*.wasm") if path.stem == path.parent.name)
LOCALES = ("C", "C.UTF-8", "POSIX", "de_DE.UTF-8", "tr_TR.UTF-8")
ZONES = ("UTC", "Asia/Kathmandu", "America/St_Johns")
HOSTS, RUNS = 24, 40
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Input by example."""
    scene = tmp_path_factory.mktemp("inputs") / "scene"
    maker = ROOT / "client" / "examples" / "cloud-detection" / "make_scene.py"
    subprocess.run([sys.executable, str(maker), str(scene), "--size", "48", "--seed", "1"], check=True)
    fields = tmp_path_factory.mktemp("inputs") / "fields"
    maker = ROOT / "client" / "examples" / "cell-counting" / "make_images.py"
    subprocess.run(
        [sys.executable, str(maker), str(fields), "--images", "4", "--size", "64", "--cells", "6"], check=True
    )
    return {"cloud-detection": scene, "cell-counting": fields}


# Stands before libc: whoever asks for the wall clock gets one that is off by SHIFT_SECONDS.
CLOCK = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long shift(void) { const char *text = getenv("SHIFT_SECONDS"); return text ? atol(text) : 0; }
int clock_gettime(clockid_t id, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, id, now);
  if (!failed && id == CLOCK_REALTIME) now->tv_sec += shift();
  return failed;
}
time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}
int gettimeofday(struct timeval *now, void *zone) {
  struct timespec fine;
  clock_gettime(CLOCK_REALTIME, &fine);
  now->tv_sec = fine.tv_sec;
  now->tv_usec = fine.tv_nsec / 1000;
  return 0;
}
"""
YEAR = 365 * 86400


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The library; None where the loader takes none."""
    if sys.platform != "linux":
        return None
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(CLOCK)
    command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O1", "clock.c", "-o", "clock.so"]
    subprocess.run(command, cwd=folder, check=True)
    env = os.environ | {"LD_PRELOAD": str(folder / "clock.so"), "SHIFT_SECONDS": str(20 * YEAR)}
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"], env=env, capture_output=True, check=True
    )
    assert float(told.stdout) > time.time() + 19 * YEAR, "the wall clock of what runs is another"
    return folder / "clock.so"


def copy_shuffled(source: Path, target: Path, rng: random.Random) -> None:
    """The same files, made in another order, so that the host lists them and numbers them otherwise."""
    target.mkdir(parents=True)
    files = list(source.iterdir())
    rng.shuffle(files)
    for path in files:
        shutil.copyfile(path, target / path.name)
        os.utime(target / path.name, (rng.randrange(1 << 31), rng.randrange(1 << 31)))


def run_somewhere(module: Path, source: Path, place: Path, seed: int, clock: Path | None) -> dict[str, object]:
    """One run of the command on a host of its own kind."""
    rng = random.Random(seed)
    copy_shuffled(source, place / "in", rng)
    env = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ}
    env |= {"LC_ALL": rng.choice(LOCALES), "TZ": rng.choice(ZONES), "TMPDIR": str(place), "PYTHONHASHSEED": str(seed)}
    env |= {"HOME": str(place.parent), "COLUMNS": str(rng.randrange(20, 200)), f"NOISE_{seed}": "x" * seed}
    if clock is not None:
        env |= {"LD_PRELOAD": str(clock), "SHIFT_SECONDS": str(rng.randrange(-20, 10) * YEAR + rng.randrange(YEAR))}
    command = [sys.executable, "-m", "quorate_node.cli.main", "exec", str(module), "--input", str(place / "in")]
    command += ["--engine", ("cranelift", "pulley")[seed % 2], "--output", "json", "--", "/inputs"]
    done = subprocess.run(
        command, cwd=place, env=env, umask=rng.choice((0o000, 0o022, 0o077)), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("module", EXAMPLES, ids=lambda path: str(path.stem))
def test_an_example_gives_one_digest_everywhere(
    module: Path, inputs: dict[str, Path], tmp_path: Path, clock: Path | None
) -> None:
    def run(seed: int) -> dict[str, object]:
        return run_somewhere(module, inputs[module.stem], tmp_path / str(seed), seed, clock)

    with ThreadPoolExecutor(os.cpu_count()) as hosts:
        runs = list(hosts.map(run, range(HOSTS)))
    assert {run["status"] for run in runs} == {"OK"}
    for agreed in ("digest", "fuel", "outputs"):
        assert len({run[agreed] for run in runs}) == 1, agreed


@pytest.mark.parametrize("module", EXAMPLES, ids=lambda path: str(path.stem))
def test_an_example_gives_one_digest_whatever_the_order_of_preopens(
    module: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    """All six orders of the profile's three folders, on both engines, again and again: outputs and digest are one."""
    wasm, digests, outputs = module.read_bytes(), set(), set()
    for name in ("outputs", "tmp"):
        (tmp_path / name).mkdir()
    places = [(inputs[module.stem], b"/inputs"), (tmp_path / "outputs", b"/outputs"), (tmp_path / "tmp", b"/tmp")]
    orders = list(itertools.permutations(Folder(source, guest) for source, guest in places))
    for turn in range(RUNS):
        engine = list(EngineName)[turn % 2]
        out = tmp_path / f"out-{turn}"
        folders = orders[turn // 2 % len(orders)]
        trial = Trial(wasm, ("/inputs",), folders=folders, out=out, engine=engine, cache_dir=tmp_path / engine.value)
        outcome = run_trial(trial)
        assert outcome.result is not None, outcome.detail
        assert outcome.code == 0
        digests.add(outcome.result.leaf)
        outputs.add(tuple((path.name, path.read_bytes()) for path in sorted(out.iterdir())))
    assert len(digests) == len(outputs) == 1
    assert all(len(files) > 0 for files in outputs)
