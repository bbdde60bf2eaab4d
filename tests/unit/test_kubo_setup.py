"""`scripts/setup --kubo` takes what is there, builds what is not, and says what it cannot do."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts" / "lib"))
import kubo  # noqa: E402 (scripts/lib is no package)
import steps  # noqa: E402

BUILDER = """
while [ "$1" != -o ]; do [ "$1" = -C ] && cd "$2"; shift; done
[ -f go.mod ] && [ -f go.sum ] || exit 3
printf '#!/bin/sh\\necho 0.43.0\\n' > "$2"; /bin/chmod +x "$2"
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, beside a folder for tools."""
    tools, path = tmp_path / ".tools", tmp_path / "path"
    path.mkdir()
    env = shutil.which("env")
    assert env is not None
    (path / "env").symlink_to(env)
    for module, values in (
        (steps, {"ROOT": tmp_path, "TOOLS": tools, "LOG": tools / "setup.log"}),
        (kubo, {"BINARY": tools / "kubo" / "ipfs", "LINK": tools / "bin" / "ipfs"}),
    ):
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setenv("PATH", str(path))
    return path


def put(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_ipfs_and_go_it_says_how(path: Path) -> None:
    said: list[str] = []
    assert not kubo.install_kubo(said.append)
    assert "SKIPPED" in said[-1]
    assert "0.40" in said[-1]
    assert "Install either" in said[-1]
    put(path / "ipfs", "echo 0.39.0")  # too old
    assert not kubo.install_kubo(said.append)
    put(path / "ipfs", "echo no number")
    assert not kubo.install_kubo(said.append)
    assert not kubo.LINK.exists()


def test_one_on_path_is_taken_and_looked_for_again_when_it_is_gone(path: Path) -> None:
    said: list[str] = []
    put(path / "ipfs", "echo 0.41.0-rc1")
    assert kubo.install_kubo(said.append)
    assert (kubo.LINK.resolve(), len(said)) == (path / "ipfs", 1)
    assert kubo.install_kubo(said.append)
    assert len(said) == 1, "it is done"
    (path / "ipfs").unlink()
    assert not kubo.install_kubo(said.append)


def test_go_builds_it_and_a_build_that_failed_is_taken_up_again(path: Path) -> None:
    said: list[str] = []
    put(path / "go", 'echo "go: no network" >&2; exit 1')
    assert not kubo.install_kubo(said.append)
    assert "ended with 1" in said[-1]
    assert not kubo.LINK.exists()
    put(path / "go", BUILDER.replace("0.43.0", "something else"))
    assert not kubo.install_kubo(said.append)
    assert "does not run" in said[-1]
    put(path / "go", BUILDER)
    assert kubo.install_kubo(said.append)
    assert kubo.read_version(kubo.LINK) == (0, 43, 0)
    assert kubo.read_wanted() == "0.43.0"
    spoken = len(said)
    assert kubo.install_kubo(said.append)
    assert len(said) == spoken


def test_the_modules_are_pinned_by_hashes_and_name_no_host_of_ours() -> None:
    sums = (kubo.LOCK / "go.sum").read_text().splitlines()
    assert any(line.startswith("github.com/ipfs/kubo v0.43.0 h1:") for line in sums)
    assert all(len(line.split()) == 3 and " h1:" in line for line in sums)
    assert "replace" not in (kubo.LOCK / "go.mod").read_text()
