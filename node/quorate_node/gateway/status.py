"""`GET /quorate/v1/status`: what a node knows and does, and why it gets no work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from quorate import __version__
from quorate_node.core.collation import count_queued
from quorate_node.core.policy import Limits, list_ceilings
from quorate_node.core.rehearsal import describe_rehearsal
from quorate_node.core.rounds import get_committee
from quorate_node.core.state import State, WorkStatus
from quorate_node.core.views import find_member


def describe_status(states: Sequence[State], is_ready: bool, is_dry: bool = False) -> dict[str, Any]:
    """The status as JSON values; amounts in wei, times in unix seconds. Counts are those of all its operators."""
    state = states[0]
    identity, chain = state.identity, state.chain
    works = Counter(work.status.value for each in states for work in each.own.work.values())
    notes = [note for each in states for note in each.notes]
    return {
        "version": __version__,
        "ready": is_ready,
        "operator_id": identity.operator_id,
        "account": f"0x{identity.account.hex()}",
        "operators": [each.identity.operator_id for each in states if each.identity.operator_id],
        "chain_id": state.network.chain_id,
        "head": {"number": chain.head.number, "timestamp": chain.head.timestamp},
        "classes": [_describe_class(states, class_id) for class_id in _list_classes(states)],
        "batches": len(chain.batches),
        "disputes": len(chain.disputes),
        "seats": sum(_count_seats(each) for each in states),
        "obligations": sum(_count_obligations(each) for each in states),
        "executions": {status.value: works.get(status.value, 0) for status in WorkStatus},
        "collator": {
            "enabled": state.settings.is_collator,
            "fee_wei": state.settings.fee_wei,
            "queued": count_queued(state),
        },
        "guard": _describe_guard(states),
        **({"dry_run": describe_rehearsal(state.rehearsal)} if is_dry else {}),
        **describe_ceilings(state.settings.limits),
        "notes": list(dict.fromkeys(notes)),
    }


def _describe_guard(states: Sequence[State]) -> dict[str, Any]:
    """Whether it takes no work for a while, and why."""
    found = (each.guard.find_objection(each.now, each.unix, each.chain.head.timestamp) for each in states)
    return {
        "failures_in_row": max(each.guard.failures for each in states),
        "problem": next((objection for objection in found if objection), None),
    }


def describe_ceilings(limits: Limits) -> dict[str, dict[str, int]]:
    """The most that a task may ask for here, by the names of a spec's limits."""
    fuel = {"fuel": limits.max_fuel}
    return {
        "ceilings": fuel | list_ceilings(limits.ceilings),
        "container_ceilings": fuel | list_ceilings(limits.container_ceilings),
    }


def _list_classes(states: Sequence[State]) -> list[int]:
    """The classes that its settings name, and those that any of its operators has joined."""
    joined = {class_id for state in states for class_id in _joined(state)}
    return sorted(joined.union(states[0].settings.classes))


def _joined(state: State) -> list[int]:
    """Classes whose next table may have this operator."""
    return [id_ for id_, view in state.chain.classes.items() if state.identity.operator_id in view.joined]


def _describe_class(states: Sequence[State], class_id: int) -> dict[str, Any]:
    state = states[0]
    view = state.chain.classes.get(class_id)
    if view is None:
        return {"id": class_id, "problem": "this class does not exist on the deployment"}
    table = state.chain.tables.get((class_id, view.table))
    found = (find_member(table, each.identity.operator_id) for each in states) if table else ()
    rows = {member for member in found if member is not None}
    described: dict[str, Any] = {
        "id": class_id,
        "price": view.price,
        "era_end": view.era_end,
        "members": len(table.members) if table else 0,
        "units": sum(1 for member in table.units if member in rows) if table else 0,
        "joined": sum(each.identity.operator_id in view.joined for each in states),
    }
    missing = [each for each in states if not table or find_member(table, each.identity.operator_id) is None]
    if reasons := Counter(reason for each in missing if (reason := explain_absence(each, class_id))):
        described["problem"] = "; ".join(
            reason if len(states) == 1 else f"{count} of {len(states)} operators: {reason}"
            for reason, count in reasons.items()
        )
    return described


def explain_absence(state: State, class_id: int) -> str | None:
    """Why an operator is not in the present table of a class, and what helps; None where it is in others by choice."""
    view = state.chain.operators.get(state.identity.operator_id or 0)
    if view and view.ejected:
        return "ejected for a wrong vote: this operator cannot work again"
    if view and view.jailed_until:
        return f"in jail, for too many seats failed: `quorate-node rejoin` from {view.jailed_until} (unix seconds) on"
    if class_id in (joined := _joined(state)):
        return "joined: drawn from the class's next era on"
    if joined:
        return None
    return f"in no class, so it gets no work: join the class (`quorate-node class join {class_id}`)"


def _count_obligations(state: State) -> int:
    """Batches that are not final and may draw or ask an operator: its stake answers until there are none."""
    return sum(batch.find_member(state.identity.operator_id) is not None for batch in state.chain.batches.values())


def _count_seats(state: State) -> int:
    """Seats of this node in rounds that run."""
    count = 0
    for batch in state.chain.batches.values():
        member = batch.find_member(state.identity.operator_id)
        if member is not None and batch.round is not None and batch.round.domain is not None:
            count += sum(1 for bundle in batch.pending if member in get_committee(batch, bundle))
    return count
