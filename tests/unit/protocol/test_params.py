"""Which parameters a deployment may have; Solidity's twin of these is SafeParams.t.sol."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import pytest

from quorate.protocol.errors import ProtocolViolation
from quorate.protocol.params import LOCAL, PARAM_TYPES, PRESETS, PRODUCTION, Params

README = Path(__file__).resolve().parents[3] / "contracts" / "README.md"
EXPOSED = 14_400 + 27_612 + 600 + 12_720
"""Seconds of era, batch with its extensions, challenge period and longest dispute in production."""


@pytest.mark.parametrize("params", [*PRESETS.values(), replace(PRODUCTION, unbonding_period=2 * EXPOSED)])
def test_safe(params: Params) -> None:
    params.check()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("eraPeriod", {"era_period": 0}),
        ("beaconDelay", {"beacon_delay": 0}),
        ("blockPeriod", {"block_period": 0}),
        ("minBlocks", {"min_blocks": 0}),
        ("auditBps", {"audit_bps": 10_001}),
        ("voteWindows", {"vote_windows": 0}),
        ("voteWindows", {"vote_windows": 8}),
        ("referenceFuelRate", {"reference_fuel_rate": 0}),
        ("referenceByteRate", {"reference_byte_rate": 0}),
        ("unbondingPeriod", {"unbonding_period": 2 * EXPOSED - 1}),
        ("unbondingPeriod", {"unbonding_period": 2 * EXPOSED, "max_rounds": 3}),
        ("challengePeriod", {"challenge_period": 64 * 2 + 2 * 200 - 1}),
        ("leastUnitWei", {"least_unit_wei": 402 * 10**15 - 1}),
        ("leastUnitWei", {"least_unit_wei": 402 * 10**15, "max_task_fuel": 720 * 10**9 + 1}),
        ("leastUnitWei", {"max_gas_price": 2 * 10**11}),
    ],
)
def test_unsafe(name: str, changes: dict[str, int]) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        replace(PRODUCTION, **changes).check()
    assert (caught.value.name, caught.value.args_) == ("UnsafeParameters", (name,))


@pytest.mark.parametrize("params", PRESETS.values(), ids=PRESETS)
def test_silence_in_every_window_costs_more_than_three_votes(params: Params) -> None:
    silence_bps = 10 + 100 + 500
    assert params.least_unit_wei * silence_bps // 10_000 > 3 * params.dearest_vote_wei


@pytest.mark.parametrize("params", PRESETS.values(), ids=PRESETS)
def test_no_bundle_executes_more_than_the_dearest_task(params: Params) -> None:
    assert params.max_task_fuel == params.max_commit_period * params.reference_fuel_rate


def test_values_fit_their_types() -> None:
    for params in PRESETS.values():
        for value, type_ in zip(params.as_tuple(), PARAM_TYPES, strict=True):
            assert 0 <= value < 1 << int(type_.removeprefix("uint"))


ROW = re.compile(r"^\| `(\w+)` \| u\d+ \| ([^|]+) \| ([^|]+) \|")


def read_number(text: str) -> int:
    """`60`, `200_000_000`, `1.2 × 10^10` or `0.02 ether`."""
    text = text.removesuffix(" ether") + " × 10^18" if text.endswith(" ether") else text
    factor, _, power = text.rpartition("10^")
    if not power or not _:
        return int(text)
    value = Fraction(factor.removesuffix("× ").strip() or "1") * 10 ** int(power)
    assert value.denominator == 1
    return int(value)


def test_the_specification_lists_both_presets() -> None:
    rows = [found.groups() for line in README.read_text().splitlines() if (found := ROW.match(line))]
    camel = [w.split("_") for w in (f.name for f in fields(LOCAL))]
    assert [name for name, _, _ in rows] == [first + "".join(map(str.capitalize, rest)) for first, *rest in camel]
    assert tuple(read_number(local) for _, local, _ in rows) == LOCAL.as_tuple()
    values = (read_number(local if production == "the same" else production) for _, local, production in rows)
    assert tuple(values) == PRODUCTION.as_tuple()
