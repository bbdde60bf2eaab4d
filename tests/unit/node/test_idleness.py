"""Why a node gets no work, gathered from what the chain and the node say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.node.simulation import Network0

from quorate_node.cli.idleness import OLD_HEAD_S, explain_idleness
from quorate_node.core.guard import GuardSettings
from quorate_node.gateway.status import describe_status

LISTEN = "127.0.0.1:8200"
WELL = {"operator_id": 3, "allocated_wei": 1, "ejected": False}


def _status(net: Network0) -> dict[str, Any]:
    return describe_status([net.nodes[2].core.state], is_ready=True)


def _explain(node: dict[str, Any] | None, **operator: Any) -> list[str]:
    now = node["head"]["timestamp"] if node else 0
    return explain_idleness([WELL | operator], node, LISTEN, now)


def test_where_all_is_well_there_is_no_reason() -> None:
    net = Network0()
    net.run(2)
    assert _explain(_status(net)) == []


def test_a_node_that_is_away_is_told_and_what_its_silence_costs() -> None:
    (drawn,) = _explain(None)
    assert LISTEN in drawn
    assert "fined" in drawn
    (idle,) = _explain(None, allocated_wei=0)
    assert "fined" not in idle


def test_an_old_chain_a_closed_guard_and_a_lost_collator_are_told() -> None:
    net = Network0()
    net.run(2)
    state = net.nodes[2].core.state
    state.guard.settings = replace(GuardSettings(), max_failures=1)
    state.guard.note_failure(state.now)
    node = _status(net)
    assert node["guard"]["failures_in_row"] == 1
    node["collator"]["problem"] = "no bond"
    node["p2p"], node["denied"] = {"problem": "nobody there"}, {"cids": 0, "problem": "line 1 is no CID"}
    late = node["head"]["timestamp"] + OLD_HEAD_S + 1
    found = explain_idleness([WELL], node, LISTEN, late)
    assert [text.split()[0] for text in found] == ["the", "1", "no", "libp2p:", "deny-list:"]
    state.guard.note_success()
    assert _status(net)["guard"] == {"failures_in_row": 0, "problem": None}


@pytest.mark.parametrize(
    ("operator", "why"),
    [
        ({"ejected": True}, "operator 3 is ejected"),
        ({"problem": "in jail"}, "operator 3: in jail"),
        ({"operator_id": 0, "problem": "no operator yet"}, "no operator yet"),
    ],
)
def test_what_the_chain_says_comes_first(operator: dict[str, Any], why: str) -> None:
    net = Network0()
    net.run(2)
    assert _explain(_status(net), **operator)[0].startswith(why)


def test_classes_and_notes_are_looked_at() -> None:
    net = Network0()
    net.run(2)
    node = _status(net) | {"ready": False}
    assert _explain(node) == ["the node still reads the chain: wait until it is ready"]
    node |= {"ready": True, "notes": ["job 0x1: too large"]}
    node["classes"] = [node["classes"][0] | {"members": 1}, {"id": 7, "problem": "this class does not exist"}]
    found = _explain(node)
    assert [text.split()[0] for text in found] == ["class", "class", "1"]
    assert "class 7: this class does not exist" in found
    (rehearsing,) = _explain(node | {"dry_run": {}}, operator_id=0, problem="no operator yet")
    assert "dry run" in rehearsing
