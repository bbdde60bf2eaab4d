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


def render_classes(classes: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each class, as `class list` describes it."""
    table = make_table("classes", ">class", "for", "judged", ">unit", ">price", ">members", ">units", ">mine",
                       "era until", "this host")  # fmt: skip
    for row in classes:
        table.add_row(
            str(row["class"]),
            row["description"] or row["profile"],
            "yes" if row["judged"] else "never",
            format_amount(row["unit_wei"]),
            format_amount(row["price"]),
            *(str(row[name]) for name in ("members", "units", "mine")),
            format_time(row["era_end"]),
            Text("runs it") if row["can_run"] else Text(row["why"], style="yellow"),
        )
    return table
