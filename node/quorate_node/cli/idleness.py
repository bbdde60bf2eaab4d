"""Why a node gets no work: what `quorate-node status` gathers from the chain's answer and the node's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

OLD_HEAD_S = 60
"""A chain is behind when its newest block is older than this, in seconds of this host's clock."""


def explain_idleness(
    operators: Sequence[Mapping[str, Any]], node: Mapping[str, Any] | None, listen: str, now: float
) -> list[str]:
    """Reasons, each once; none where all is well. `operators` as the chain describes them, `node` as it describes
    itself (None: it does not answer at `listen`), `now` in unix seconds."""
    if node is not None and "dry_run" in node:
        return ["it is a dry run, which is drawn for nothing: it executes what others were accepted for"]
    found = [*_explain_operators(operators)]
    if node is None:
        found += _explain_silence(operators, listen)
    elif not node["ready"]:
        found.append("the node still reads the chain: wait until it is ready")
    else:
        found += _explain_node(node, now)
    return list(dict.fromkeys(found))


def _explain_operators(operators: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for each in operators:
        if each.get("ejected"):
            yield f"operator {each['operator_id']} is ejected for a wrong vote: it cannot work again"
        elif problem := each.get("problem"):
            yield f"operator {each['operator_id']}: {problem}" if each["operator_id"] else str(problem)


def _explain_silence(operators: Sequence[Mapping[str, Any]], listen: str) -> Iterator[str]:
    where = f"no node answers at {listen}: start it with `quorate-node run`, and see what its log says"
    is_drawn = any(each.get("allocated_wei") for each in operators)
    yield f"{where}; its operator is in a class, and silent seats are fined" if is_drawn else where


def _explain_node(node: Mapping[str, Any], now: float) -> Iterator[str]:
    if (age := now - node["head"]["timestamp"]) > OLD_HEAD_S:
        yield f"the newest block that its RPC endpoint shows is {age:.0f} s old: look at the endpoint, or at the clock"
    if problem := node["guard"]["problem"]:
        yield str(problem)
    for each in node["classes"]:
        if problem := each.get("problem"):
            yield f"class {each['id']}: {problem}"
        elif each["members"] == 1:
            yield f"class {each['id']} has one member: an order wants two for each of its seats"
    if problem := node["collator"].get("problem"):
        yield str(problem)
    for name, part in (("libp2p", "p2p"), ("deny-list", "denied")):
        if problem := (node.get(part) or {}).get("problem"):
            yield f"{name}: {problem}"
    if count := len(node["notes"]):
        yield f"{count} of what it declined, or could not do, stand in its notes, and in its log"
