"""The table of attacks: behind each attack at least one test, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
FORGE = TESTS.parent / "contracts" / "test"
FORGE_TEST = re.compile(r"^\s+function ((?:test|invariant_)\w*)\(", re.MULTILINE)


def read_rows() -> list[tuple[str, list[str]]]:
    """Attacks and names of tests."""
    lines = (TESTS / "ATTACKS.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [(attack, tests.split(", ")) for attack, tests in cells if tests not in ("tests", "---")]


def find_tests(name: str) -> set[str]:
    """Tests of a file, with their classes before them."""
    if name.endswith(".t.sol"):
        return set(FORGE_TEST.findall((FORGE / name).read_text()))
    found = set()
    for node in ast.parse((TESTS / name).read_text()).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {prefix + each.name for each in members if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    return found


def test_every_test_named_exists() -> None:
    missing = []
    for _, tests in read_rows():
        for named in tests:
            file, _, test = named.partition("::")
            if not test.split("::")[-1].startswith("test") or test not in find_tests(file):
                missing.append(named)
    assert not missing, "\n".join(missing)


def test_every_attack_stands_once_and_has_a_test() -> None:
    rows = read_rows()
    attacks = [attack for attack, _ in rows]
    assert len(attacks) > 50
    assert sorted(attacks) == sorted(set(attacks))
    assert all(attack and tests != [""] for attack, tests in rows)
