"""`scripts/setup --p2p` says what libp2p would miss here before it builds anything, and sets all else up."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts" / "lib"))
import setup  # noqa: E402 (scripts/lib is no package)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, and a Python with headers."""
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    return tmp_path


def add_compiler(path: Path, code: int) -> None:
    (path / "cc").write_text(f"#!/bin/sh\nread line\n[ \"$line\" = '#include <gmp.h>' ] || exit 9\nexit {code}\n")
    (path / "cc").chmod(0o755)


def test_what_is_missing_is_named(path: Path) -> None:
    assert "C compiler" in (setup.lacks_for_p2p() or "")
    add_compiler(path, 1)
    assert "GMP's headers" in (setup.lacks_for_p2p() or "")
    add_compiler(path, 0)
    assert setup.lacks_for_p2p() is None
    (path / "Python.h").unlink()
    assert "Python's headers" in (setup.lacks_for_p2p() or "")


def test_all_else_is_set_up_and_the_exit_code_tells(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wishes: list[dict[str, bool]] = []
    monkeypatch.setattr(setup, "set_up", lambda **named: wishes.append(named))
    monkeypatch.setattr(sys, "argv", ["setup", "--dev", "--p2p"])
    assert setup.main() == setup.LACKS_DAEMON
    assert "libp2p is not installed, for it wants a C compiler" in capsys.readouterr().err
    add_compiler(path, 0)
    assert setup.main() == 0
    assert wishes == [{"dev": True, "p2p": False}, {"dev": True, "p2p": True}]
