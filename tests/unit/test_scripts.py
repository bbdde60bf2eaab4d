"""Commands in scripts/ and benchmarks: help runs nothing, and what cannot be is one line and exit code 2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _copy(folder: Path, name: str) -> Path:
    """A script with nothing beside it: whatever it began to run would fail."""
    (folder / "scripts").mkdir()
    (folder / "tests" / "bench").mkdir(parents=True)
    (folder / "tests" / "bench" / "gas.py").touch()
    return Path(shutil.copy(ROOT / "scripts" / name, folder / "scripts" / name))


@pytest.mark.parametrize("name", ["test", "check", "bench"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_shown_and_nothing_is_run(tmp_path: Path, name: str, flag: str) -> None:
    script = _copy(tmp_path, name)
    done = subprocess.run([script, flag], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"scripts/{name}" in done.stdout
    assert "#" not in done.stdout
    assert "set -" not in done.stdout


@pytest.mark.parametrize("name", ["check", "bench"])
def test_an_unknown_option_is_refused_before_anything_is_run(tmp_path: Path, name: str) -> None:
    script = _copy(tmp_path, name)
    done = subprocess.run([script, "--hlep"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("adversary --model --bundles 0", "--bundles: 0 is not a whole number from 1 on"),
        ("adversary --model --share 1.5", "--share: 1.5 is not at least 0 and below 1"),
        ("adversary --model --nodes 20 --k 11", "--k: 11 seats are more than half of the 20 --nodes"),
        ("adversary --model --nodes 2 --strategy split_liars", "split_liars needs 3 or more --nodes"),
        ("adversary --rounds 3", "--rounds: contracts allow 2"),
        ("protocol --actions -5", "--actions: -5 is not a whole number from 1 on"),
        ("gas --operators 30", "--operators: 30 is not a whole number from 42 to 1024"),
        ("landsat --nodes 2 --operators 2", "--seats 3 are more than half of 2 --nodes with 2 --operators each"),
        ("single --seats 4", "--seats 4 are more than half of --nodes 6"),
    ],
)
def test_a_benchmark_refuses_arguments_in_one_line(words: str, said: str) -> None:
    name, *arguments = words.split()
    command = [sys.executable, str(ROOT / "tests" / "bench" / f"{name}.py"), *arguments]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}:{ROOT / 'node'}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert said in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("code", "ends", "said"), [(0, 0, "everything passed"), (1, 1, "FAILED, somewhere in: unit")])
def test_the_exit_code_of_all_tests_is_theirs(tmp_path: Path, code: int, ends: int, said: str) -> None:
    script = _copy(tmp_path, "test")
    stand_ins = {
        tmp_path / "scripts" / "setup": "exit 0",
        tmp_path / ".venv" / "bin" / "python": f"sleep 0.5; exit {code}",
    }
    for path, does in stand_ins.items():  # pytest ends after forge, whose process group is gone when the script ends
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)
    for folder in ("tests/unit", "contracts/test"):
        (tmp_path / folder).mkdir(parents=True)
    done = subprocess.run([script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, said in done.stderr) == (ends, True), done.stderr


FLAKY = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({failing}))
def test_fails_at_first(number):
    seen = Path("seen-%d" % number)
    fails, _ = not seen.exists() or {always}, seen.touch()
    assert not fails

def test_passes():
    assert not Path("again").exists(), "what passed does not run again"
"""


@pytest.mark.parametrize(("failing", "always", "code"), [(3, False, 0), (4, False, 1), (1, True, 1)])
def test_a_few_that_failed_run_once_more_and_must_pass(tmp_path: Path, failing: int, always: bool, code: int) -> None:
    folder = tmp_path / "tests" / "integration"
    folder.mkdir(parents=True)
    (folder / "test_flaky.py").write_text(FLAKY.format(failing=failing, always=always))
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    functions = (ROOT / "scripts" / "test").read_text().partition("MOST_AGAIN=")[2].partition("\n}\n")[0]
    script = f"set -euo pipefail\nMOST_AGAIN={functions}\n}}\n"
    script += "python -m pytest -q tests/integration && exit 9\ntouch again\n"
    script += "if run_again tests/integration --; then exit 0; else exit 1; fi\n"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert ("run once more alone" in done.stderr) is (failing <= 3)
    assert done.stderr.count("test_fails_at_first[") == (failing if failing <= 3 else 0)
