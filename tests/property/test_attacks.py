"""Liars against the pure model: splitting stake wins nothing, one seat loses as often as it must, k seats hold.

QUORATE_ATTACK_BUNDLES sets how many bundles each strategy attacks (300 when unset: seconds in all).
"""

from __future__ import annotations

import os

import pytest
from tests.adversarial.chance import compute_interval
from tests.adversarial.economy import Economy, Plan, Row
from tests.adversarial.strategies import STRATEGIES

from quorate.protocol.committee import compute_committee
from quorate.protocol.hashing import keccak

DRAWS = 100_000
SEATS = 3
UNITS = 200
BUNDLES = int(os.environ.get("QUORATE_ATTACK_BUNDLES", "300"))
SILENT = ("never_reveal", "never_commit", "silent_unless_unanimous")


def draw_captured(honest: list[int], liars: list[int], name: str) -> int:
    """Of DRAWS committees, those that are wholly the liars'."""
    sizes = [*liars, *honest]
    units = tuple(row for row, size in enumerate(sizes) for _ in range(size))
    domain, found = keccak(name.encode()), 0
    for bundle in range(DRAWS):
        found += all(row < len(liars) for row in compute_committee(domain, bundle, SEATS, units, len(sizes)))
    return found


def split(units: int, parts: int) -> list[int]:
    """Units in so many parts, as equal as they can be."""
    return [units // parts + (i < units % parts) for i in range(parts)]


@pytest.mark.parametrize("honest_parts", [1, 5, 60])
def test_splitting_stake_never_wins_more_than_its_share_to_the_power_of_the_seats(honest_parts: int) -> None:
    liar_units = 80
    bound = compute_interval(DRAWS, (liar_units / UNITS) ** SEATS)[1]
    counts = [
        draw_captured(split(UNITS - liar_units, honest_parts), split(liar_units, parts), f"{honest_parts} {parts}")
        for parts in (3, 10, liar_units)
    ]
    assert max(counts) <= bound, f"{counts} of {DRAWS}, at most {bound}"
    assert counts == sorted(counts), "the finer the stake is split, the more often a committee is theirs"


def play(strategy: str, share: float, seats: int, bundles: int, **more: bool) -> tuple[list[Row], list[Row]]:
    """Rows of bundles and of eras."""
    rows = list(Economy(Plan(60, share, seats, strategy, bundles, **more)).run())  # type: ignore[arg-type]
    return [r for r in rows if r["kind"] == "bundle"], [r for r in rows if r["kind"] == "era"]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.49])
@pytest.mark.parametrize("strategy", ["lie_if_unanimous", "always_lie"])
def test_one_seat_is_wrong_as_often_as_it_must(strategy: str, share: float) -> None:
    bundles, eras = play(strategy, share, 1, 3000)
    assert eras[0]["share"] == pytest.approx(int(60 * share) / 60)
    low, high = compute_interval(len(bundles), eras[0]["share"])
    assert low <= sum(row["wrong_accepted"] for row in bundles) <= high


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_no_strategy_gets_a_wrong_result_through_many_seats(strategy: str) -> None:
    bundles, eras = play(strategy, 0.3, 15, BUNDLES)
    assert not any(row["wrong_accepted"] for row in bundles)
    assert eras[-1]["honest_slashed"] == 0
    assert any(row["attacked"] for row in bundles) == (strategy not in ("honest", "lie_if_unanimous", "split_liars"))


def test_who_speaks_only_with_all_seats_in_hand_pays_and_wins_nothing() -> None:
    """What they stall is accepted by rule (b) or VOID, and then extended: votes stand, and they pay for each round."""
    bundles, eras = play("silent_unless_unanimous", 0.49, 15, BUNDLES, deplete=True)
    ends = [(row["verdict"], row["rounds"], row["extended"]) for row in bundles]
    assert ("ACCEPTED", 3, False) in ends, "by rule (b), in the last round"
    assert any(verdict == "ACCEPTED" for verdict, _, extended in ends if extended)
    assert not any(row["wrong_accepted"] for row in bundles)
    assert eras[-1]["liar_stake"] < 1.0 <= eras[-1]["honest_stake"]
    assert eras[-1]["honest_slashed"] == 0
    assert any(row["liars_jailed"] for row in eras)


def test_whoever_always_lies_loses_its_stake() -> None:
    _, eras = play("always_lie", 0.49, 15, BUNDLES, deplete=True)
    assert eras[-1]["liar_stake"] < 0.05
    assert eras[-1]["share"] == 0.0
    assert eras[-1]["honest_stake"] >= 1.0
