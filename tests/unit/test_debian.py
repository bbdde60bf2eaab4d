"""`scripts/setup --docker` says what it cannot do instead of failing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts" / "lib"))
import debian  # noqa: E402 (scripts/lib is no package)
import setup  # noqa: E402


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    monkeypatch.setattr(debian, "SEARCHED", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put(path: Path, script: str = "exit 0") -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_nobody_but_root_installs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not debian.install_docker(said.append)
    assert "SKIPPED" in said[-1]
    assert "only root" in said[-1]
    put(place / "dockerd")
    put(place / "docker-init")
    put(place / "runsc")
    assert debian.install_docker(said.append)


def test_root_installs_what_is_missing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert not debian.install_docker(said.append)
    assert "no apt-get" in said[-1]
    put(place / "apt-get", "echo E: no network >&2; exit 100")
    assert not debian.install_docker(said.append)
    assert "E: no network" in said[-1]
    put(place / "apt-get", "exit 0")  # says that all is well, but brings nothing
    assert not debian.install_docker(said.append)
    assert "did not bring" in said[-1]
    # Only after an update of its lists does it find the packages; gVisor it never finds.
    put(
        place / "apt-get",
        f'cd {place}; case "$*" in *update) : > lists;; *runsc*) echo none >&2; exit 1;; *) [ -e lists ] || exit 1; '
        ": > dockerd; : > docker-init; /bin/chmod +x dockerd docker-init;; esac",
    )
    assert debian.install_docker(said.append)
    assert "optional" in said[-1]


def test_who_asks_for_it_learns_by_the_exit_code(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[bool] = []
    monkeypatch.setattr(setup, "set_up", lambda **_: done.append(True))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["setup", "--docker"])
    assert setup.main() == setup.LACKS_DAEMON == 3
    assert done, "all else was set up before"
    for name in ("dockerd", "docker-init", "runsc"):
        put(place / name)
    put(place / "apt-get", f"touch {place}/called")
    assert setup.main() == 0
    assert not (place / "called").exists()
    assert "(($? == 3))" in (ROOT / ".ci" / "run").read_text(), "which continuous integration goes on after"
