"""What `scripts/check --analyse` lets pass: findings with a reason, and no reason without a finding."""

from __future__ import annotations

from typing import Any

import pytest
from scripts.lib.analyse import judge


def finding(check: str, name: str, impact: str = "Medium") -> dict[str, Any]:
    place = {"filename_relative": "src/market/Posting.sol"}
    element = {"name": name, "source_mapping": place, "type_specific_fields": {"parent": {"name": "Posting"}}}
    return {"check": check, "impact": impact, "description": "it does\n this", "elements": [element]}


KEY = "unused-return Posting.sol Posting.post"
FOUND = [finding("unused-return", "post"), finding("assembly", "post", "Informational")]


@pytest.mark.parametrize("settled", [{KEY: "why"}, {"unused-return *": "why"}])
def test_a_finding_with_a_reason_may_stay(settled: dict[str, str]) -> None:
    assert judge(FOUND, settled) == []


def test_a_finding_without_a_reason_is_told_with_its_key() -> None:
    (problem,) = judge(FOUND, {})
    assert problem.startswith(f"Medium: {KEY}\n")
    assert "it does this" in problem
    (problem,) = judge([*FOUND, finding("unused-return", "expire")], {KEY: "why"})
    assert "Posting.expire" in problem


@pytest.mark.parametrize("stale", ["unused-return Posting.sol Posting.gone", "timestamp *", "assembly *"])
def test_a_reason_without_a_finding_is_refused(stale: str) -> None:
    assert judge(FOUND, {KEY: "why", stale: "once"}) == [f"no longer found, remove it: {stale}"]
