"""A node's count of the day's traffic, from one run to the next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quorate.storage.traffic import TrafficLimits, VolumeReached
from quorate_node.traffic import Traffic

LIMITS = TrafficLimits(bytes_day=1000)


def make(path: Path) -> Traffic:
    made = Traffic(path, LIMITS, LIMITS)
    made.load()
    return made


def test_a_restart_does_not_begin_the_day_anew(tmp_path: Path) -> None:
    path = tmp_path / "traffic.json"
    first = make(path)
    first.fetched.take(1000)
    first.served.take(10)
    first.save()
    second = make(path)
    with pytest.raises(VolumeReached):
        second.fetched.check()
    second.served.check(990)
    told = second.describe()
    assert told["fetch"]["day_bytes"] == 1000
    assert told["fetch"]["total_bytes"] == 0, "of this run"
    assert "no content is fetched" in told["fetch"]["problem"]
    assert "problem" not in told["serve"]


@pytest.mark.parametrize("text", ["", "[]", '{"serve": {"day": 1}}', '{"serve": 1, "fetch": 2}', "\0"])
def test_a_damaged_file_counts_nothing_and_is_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "traffic.json"
    path.write_text(text)
    found = make(path)
    found.served.take(7)
    assert found.served.figures.day_bytes == 7
    found.save()
    assert json.loads(path.read_text())["serve"]["bytes"] == 7


def test_a_folder_that_cannot_be_written_to_does_not_stop_the_node(tmp_path: Path) -> None:
    found = make(tmp_path / "traffic.json")
    (tmp_path / "traffic.json").mkdir()
    found.served.take(7)
    found.save()
    assert found.served.figures.day_bytes == 7
