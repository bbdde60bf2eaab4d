"""The branching-tree specs: one for each method that changes state, and behind each outcome the test that shows it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "contracts" / "test"
TREES = sorted((TESTS / "specs").glob("*.tree"))
ABIS = sorted((ROOT / "client" / "quorate" / "chain" / "abi").glob("*.json"))

MODULES = {"Extender"}  # the market runs their code: their methods are its own

LINE = re.compile(r"^(?P<glyphs>(?:│   |    )*(?:├── |└── ))(?P<text>\S.*)$")
REFERENCE = re.compile(r"^(?P<file>\w+\.t\.sol) (?P<test>(?:test|invariant_)\w*)$")
TEST = re.compile(r"^\s+function ((?:test|invariant_)\w*)\(", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Node:
    """A line of a tree: a condition ("when …") or an outcome ("it should … → File.t.sol test_Name, …")."""

    depth: int
    glyphs: str
    text: str

    @property
    def is_leaf(self) -> bool:
        return self.text.startswith("it should ")

    @property
    def references(self) -> list[str]:
        _, arrow, names = self.text.partition(" → ")
        return names.split(", ") if arrow else []


def read_tree(path: Path) -> list[Node]:
    head, *lines = path.read_text().splitlines()
    assert head == path.stem
    nodes = []
    for line in lines:
        match = LINE.match(line)
        assert match, line
        nodes.append(Node(len(match["glyphs"]) // 4, match["glyphs"], match["text"]))
    return nodes


def draw_glyphs(nodes: list[Node]) -> Iterator[str]:
    """What must stand before each text, by depths alone."""
    is_open: list[bool] = []  # by depth: a sibling follows
    for index, node in enumerate(nodes):
        later = (other.depth for other in nodes[index + 1 :] if other.depth <= node.depth)
        is_open = [*is_open[: node.depth - 1], next(later, 0) == node.depth]
        yield "".join("│   " if more else "    " for more in is_open[:-1]) + ("├── " if is_open[-1] else "└── ")


def load_abi(path: Path) -> list[dict[str, Any]]:
    abi: list[dict[str, Any]] = json.loads(path.read_text())["abi"]
    return abi


def list_methods(path: Path, *, views: bool) -> set[str]:
    contract = "ComputeMarket" if path.stem in MODULES else path.stem
    return {
        f"{contract}.{entry['name']}"
        for entry in load_abi(path)
        if entry["type"] == "function" and (views or entry["stateMutability"] in ("payable", "nonpayable"))
    }


def test_every_method_that_changes_state_has_its_tree() -> None:
    methods = {method for path in ABIS for method in list_methods(path, views=False)}
    assert methods, "no ABI was found"
    assert not methods - {path.stem for path in TREES}


def test_no_tree_is_of_a_method_that_is_gone() -> None:
    methods = {method for path in ABIS for method in list_methods(path, views=True)}
    constructors = {f"{path.stem}.constructor" for path in ABIS}
    assert not {path.stem for path in TREES} - methods - constructors


@pytest.mark.parametrize("path", TREES, ids=lambda path: path.stem)
def test_tree_is_well_formed(path: Path) -> None:
    nodes = read_tree(path)
    assert [node.glyphs for node in nodes] == list(draw_glyphs(nodes))
    for node, following in zip(nodes, [*nodes[1:], None], strict=True):
        has_children = following is not None and following.depth > node.depth
        assert node.is_leaf != has_children, f"a condition has outcomes, an outcome has none below it: {node.text}"
        assert node.is_leaf or node.text.startswith("when "), node.text
    conditions = [(node.depth, node.text) for node in nodes if not node.is_leaf and node.depth == 1]
    assert len(conditions) == len(set(conditions)), "a condition stands twice"


@pytest.mark.parametrize("path", TREES, ids=lambda path: path.stem)
def test_every_outcome_names_a_test_that_there_is(path: Path) -> None:
    present = {source.name: set(TEST.findall(source.read_text())) for source in TESTS.glob("*.t.sol")}
    wrong = []
    for node in read_tree(path):
        if not node.is_leaf:
            continue
        found = [REFERENCE.match(reference) for reference in node.references]
        if not found or not all(match and match["test"] in present.get(match["file"], ()) for match in found):
            wrong.append(node.text)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", ABIS, ids=lambda path: path.stem)
def test_every_error_and_event_of_a_contract_stands_in_a_tree(path: Path) -> None:
    """Events and errors that other contracts bring into an ABI count too: somebody must have seen them."""
    words = {word for tree in TREES for node in read_tree(tree) for word in re.findall(r"\w+", node.text)}
    names = {entry["name"] for entry in load_abi(path) if entry["type"] in ("error", "event")}
    assert not names - words
