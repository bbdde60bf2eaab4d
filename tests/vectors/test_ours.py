"""Our vectors are what the model gives today: a stale file would let Solidity follow an old rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.vectors import make_vectors

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", sorted(make_vectors.MAKERS))
def test_file_is_fresh(name: str) -> None:
    path = HERE / "ours" / f"{name}.json"
    assert path.read_text() == make_vectors.render(name), "run python -m tests.vectors.make_vectors"


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in (HERE / "ours").glob("*.json")} == set(make_vectors.MAKERS)


def test_draws_are_distinct_and_reach_the_probe() -> None:
    draws = json.loads((HERE / "ours" / "draws.json").read_text())
    for committee, seats in zip(draws["committee"], draws["seats"], strict=True):
        rows = [committee[2:][i : i + 4] for i in range(0, len(committee) - 2, 4)]
        assert len(set(rows)) == len(rows) == int(seats)


def test_settlements_cover_every_verdict() -> None:
    settlements = json.loads((HERE / "ours" / "settlements.json").read_text())
    assert set(settlements["verdict"]) == {"1", "2", "3", "4"}
