"""Gas figures that are committed, and how far new ones may be from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SNAPSHOT = Path(__file__).resolve().parents[1] / "bench" / "gas.json"
TOLERANCE = 0.02
BATCHES = 6
"""Whose mean counts: a beacon draws more operators or fewer, each with a list to be checked (1 % of a batch)."""


def compare_with_snapshot(figures: Mapping[str, Any]) -> list[str]:
    """What differs by more than the tolerance, with what to do; empty when all is as committed.

    Only figures that are given are looked at, so a part of them may be measured alone.
    """
    committed = dict(flatten(json.loads(SNAPSHOT.read_text())))
    differs = [
        f"{name}: {committed.get(name)} in {SNAPSHOT.name}, {have:g} now"
        for name, have in flatten(figures)
        if name not in committed or abs(have - committed[name]) > TOLERANCE * committed[name]
    ]
    return ["gas is not as committed; if that is meant: scripts/bench gas --write", *differs] if differs else []


def flatten(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Numbers by their dotted names."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value
