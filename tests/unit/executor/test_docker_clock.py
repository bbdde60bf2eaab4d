"""Time for a task on a daemon, whatever part of it takes it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate_node.executor.docker_clock import Allowance, TaskOver, open_paced, write_paced

MIB = 1 << 20


def test_a_file_is_read_while_there_is_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(8 * MIB))
    allowance = Allowance.of(600)
    with open_paced(tmp_path / "file", allowance) as file:
        assert len(file.read(3 * MIB)) == 3 * MIB
        file.seek(0)
        assert len(file.read()) == 8 * MIB
        file.seek(0)
        allowance.cancelled.set()
        with pytest.raises(TaskOver, match="given up"):
            file.read()


def test_a_file_is_written_while_there_is_time(tmp_path: Path) -> None:
    allowance = Allowance.of(600)

    def give() -> Iterator[bytes]:
        yield b"one"
        allowance.cancelled.set()
        yield b"two"

    with pytest.raises(TaskOver, match="given up"):
        write_paced(give(), tmp_path / "file", allowance)
    assert (tmp_path / "file").read_bytes() == b"one"


def test_time_that_is_up_says_so_and_can_be_given_anew() -> None:
    over = Allowance(time.monotonic() - 1)
    with pytest.raises(TaskOver, match="takes too long"):
        over.left()
    anew = over.renew(600)
    assert 0 < anew.left() <= 600
    over.cancelled.set()
    with pytest.raises(TaskOver, match="given up"):
        anew.left()
