"""Ports for processes that are about to start."""

from __future__ import annotations

import socket
import tempfile
import threading
from pathlib import Path

import pytest

from quorate.devnet import ports
from quorate.devnet.ports import is_port_free, pick_ports
from quorate.protocol.errors import Busy, ConfigurationError


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where picks are remembered: nobody else's here."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pick_ports(0)
    (path,) = tmp_path.iterdir()
    return path


def few(monkeypatch: pytest.MonkeyPatch, count: int) -> list[int]:
    """So many free ports are all that may be picked."""
    found = pick_ports(count)
    monkeypatch.setattr(ports, "CANDIDATES", found)
    return found


def test_who_picks_at_once_gets_different_ones(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_ = few(monkeypatch, 40)
    memory.write_text("")
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.extend(pick_ports(5))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(all_)
    with pytest.raises(Busy, match="fewer than 1 are free"):
        pick_ports(1)


def test_a_pick_is_forgotten_after_a_minute_and_scribbles_at_once(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = few(monkeypatch, 3)
    memory.write_text(f"{first} 1.5\n{second} what\n\n-\n{third} 9e99\n")
    assert sorted(pick_ports(3)) == sorted((first, second, third))
    assert memory.read_text().count("\n") == 3
    assert memory.stat().st_mode & 0o077 == 0


def test_a_port_that_somebody_listens_on_is_not_picked(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = few(monkeypatch, 2)
    memory.write_text("")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", taken))
        listening.listen()
        assert not is_port_free(taken)
        assert pick_ports(1) == [free]


def test_a_link_in_its_place_is_not_followed(memory: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    memory.unlink()
    memory.symlink_to(precious)
    with pytest.raises(ConfigurationError, match="TMPDIR"):
        pick_ports(1)
    assert precious.read_text() == "years of work"
