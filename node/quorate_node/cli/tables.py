"""Tables for operators: their own stakes, and all classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from quorate.cli.output import format_amount, format_time, make_table


def render_operators(operators: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each operator, as `status` describes it."""
    table = make_table("operators", ">id", "owner", ">stake", ">of it in classes", ">unbonding", "state")
    for operator in operators:
        amounts = [format_amount(operator.get(f"{name}_wei", 0)) for name in ("stake", "allocated")]
        table.add_row(
            str(operator["operator_id"] or "none"), operator["owner"], *amounts, _unbonding(operator), _state(operator)
        )
    return table


def _unbonding(operator: Mapping[str, Any]) -> str:
    amount = operator.get("unbonding_wei", 0)
    return f"{format_amount(amount)}, free from {format_time(operator['release_at'])} on" if amount else "none"


def _state(operator: Mapping[str, Any]) -> Text:
    if operator.get("ejected"):
        return Text("ejected: it cannot work again", style="red")
    if problem := operator.get("problem"):
        return Text(problem, style="yellow")
    failed = operator["failed_seats"]
    return Text(f"{failed} failed seats in this era" if failed else "well")


def tell_class(row: Mapping[str, Any]) -> str:
    """What a class is to this host and its operators, as `class list` describes it."""
    ours = f"{row['mine']} units are ours" if row["mine"] else "not joined"
    if row["drawn_until"] is not None:
        ours += f", drawn until {format_time(row['drawn_until'])}"
    able = "runs it" if row["can_run"] else f"cannot run it: {row['why']}"
    return f"{ours}; this host {able}"
