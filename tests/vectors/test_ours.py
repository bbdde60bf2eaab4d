"""Our vectors are what the model gives today: a stale file would let Solidity follow an old rule."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_vectors", HERE / "make_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


VECTORS = load()


@pytest.mark.parametrize("name", sorted(VECTORS.MAKERS))
def test_file_is_fresh(name: str) -> None:
    path = HERE / "ours" / f"{name}.json"
    assert path.read_text() == VECTORS.render(name), "run python tests/vectors/make_vectors.py"


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in (HERE / "ours").glob("*.json")} == set(VECTORS.MAKERS)


def test_draws_are_distinct_and_reach_the_probe() -> None:
    draws = json.loads((HERE / "ours" / "draws.json").read_text())
    for committee, seats in zip(draws["committee"], draws["seats"], strict=True):
        rows = [committee[2:][i : i + 4] for i in range(0, len(committee) - 2, 4)]
        assert len(set(rows)) == len(rows) == int(seats)


def test_settlements_cover_every_verdict() -> None:
    settlements = json.loads((HERE / "ours" / "settlements.json").read_text())
    assert set(settlements["verdict"]) == {"1", "2", "3", "4"}
