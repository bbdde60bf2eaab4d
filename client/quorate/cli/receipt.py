"""A job's receipt for people: what `quorate job describe` shows unless it is asked for JSON."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from quorate.cli.output import format_amount, format_time, make_table
from quorate.explaining import explain_exit
from quorate.protocol.partition import Task
from quorate.protocol.result import TaskResult
from quorate.tasks import TaskList

VERDICT_STYLES = {"accepted": "green", "void": "red", "skipped": "red", "expired": "red", "disputed": "yellow"}
BUNDLE_STATES = {
    "accepted": "accepted",
    "disputed": "in dispute: the class votes",
    "carried": "waits for a fresh committee",
    "void": "void",
    None: "waits for its committee",
}
MOST_FAILURES = 10
SHORT = 12


def render_receipt(
    receipt: Mapping[str, Any], results: Sequence[TaskResult] = (), tasks: TaskList | None = None
) -> list[RenderableType]:
    """Panel and tables of a receipt (see receipts.py); `results` tell how tasks ended, as far as that is known.

    `tasks` name the files of a job over many.
    """
    shown: list[RenderableType] = [_render_summary(receipt)]
    tables = [_render_steps(receipt), _render_bundles(receipt, results), _render_seats(receipt)]
    tables += [_render_failures(results, tasks), _render_slashes(receipt)]
    return shown + [table for table in tables if table.row_count]


def _render_summary(receipt: Mapping[str, Any]) -> Panel:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    style = VERDICT_STYLES.get(receipt["verdict"], "")
    grid.add_row("verdict", Text(_describe_verdict(receipt), style=style))
    for name, value in _list_facts(receipt):
        grid.add_row(name, Text(value))
    return Panel(grid, title=Text(f"job {receipt['job_id']}"), title_align="left", expand=False)


def _describe_verdict(receipt: Mapping[str, Any]) -> str:
    verdict, final_at = str(receipt["verdict"]), receipt["final_at"]
    if receipt["error"]:
        return f"{verdict}: {receipt['error']}"
    if verdict != "accepted":
        return verdict
    if receipt["final"]:
        return f"accepted, and final since {format_time(final_at)}"
    return f"accepted; final at {format_time(final_at)}, unless it is disputed" if final_at else "accepted"


def _name_program(spec: Mapping[str, Any]) -> str:
    """A module's CID; of a container its image, and what is run in place of the image's own program."""
    if "module" in spec:
        return str(spec["module"])
    image = spec["image"]
    return " ".join([image["id"] or image["reference"], *map(shlex.quote, spec["entrypoint"] or ())])


def _list_facts(receipt: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    order, spec = receipt["order"], receipt["spec"]
    if receipt["result_cid"]:
        yield "result", receipt["result_cid"]
    yield "program", " ".join([_name_program(spec), *map(shlex.quote, spec["args"])])
    if spec["input"]:
        yield "input", f"{spec['input']}, {order['input_bytes']:,} bytes"
    rounds = f"up to {1 + order['rounds']} rounds" if order["rounds"] else "one round"
    yield "order", f"{order['seats']} seats, {rounds}, class {order['class_id']}, {order['task_count']:,} task(s)"
    yield "limits", f"{order['fuel_limit']:,} fuel a task, {order['commit_period']} s to commit"
    fee = f", and {format_amount(order['max_fee'])} a bundle for the collator" if order["max_fee"] else ""
    yield "price", f"at most {format_amount(order['max_price'])} for a billion fuel{fee}"
    yield "requester", f"{order['requester']}, order {order['nonce']}"
    yield "valid until", format_time(order["valid_until"])
    if receipt["batch_id"] is not None:
        yield "batch", str(receipt["batch_id"])
    if receipt["collator"]:
        yield "collator", receipt["collator"]
    if receipt["abstentions"]:
        yield "abstentions", ", ".join(f"{name}: {count}" for name, count in sorted(receipt["abstentions"].items()))
    if receipt["extendable"]:
        yield "extendable", f"{len(receipt['extendable'])} bundle(s): `quorate job extend` buys more rounds"


def _render_steps(receipt: Mapping[str, Any]) -> Table:
    table = make_table("steps", "step", ">round", "time (UTC)", ">block", "transaction", "what")
    for step in receipt["steps"]:
        time = format_time(step["timestamp"]).removesuffix(" UTC")
        place = (str(step["block"]), shorten(step["transaction"]))
        table.add_row(step["stage"], str(step["round"]), time, *place, Text(step["detail"]))
    return table


def _render_bundles(receipt: Mapping[str, Any], results: Sequence[TaskResult]) -> Table:
    table = make_table("bundles", ">bundle", "tasks", "state", "agreed result", "tasks ended as")
    for bundle in receipt["bundles"]:
        first, last = bundle["tasks"]
        endings = Counter(result.status.value for result in results if first <= result.task_index <= last)
        tasks = str(first) if first == last else f"{first} to {last}"
        state = BUNDLE_STATES[bundle["verdict"]]
        ended = ", ".join(f"{status} x {count}" if count > 1 else status for status, count in sorted(endings.items()))
        table.add_row(str(bundle["bundle"]), tasks, state, shorten(bundle["vote"]), ended or "not known")
    return table


def _render_seats(receipt: Mapping[str, Any]) -> Table:
    table = make_table("seats", ">bundle", ">seat", ">operator", "vote")
    for seat in receipt["seats"]:
        vote = shorten(seat["vote"]) if seat["vote"] else f"abstained: {seat['abstained']}"
        if not seat["vote"] and not seat["abstained"]:
            vote = "none yet" if receipt["verdict"] in ("assigned", "committed") else "none"
        number = "earlier round" if seat["seat"] is None else str(seat["seat"])
        table.add_row(str(seat["bundle"]), number, str(seat["operator"]), vote)
    return table


def _render_failures(results: Sequence[TaskResult], tasks: TaskList | None) -> Table:
    failed = [result for result in results if result.exit_code]
    more = f", the first {MOST_FAILURES} of {len(failed)}" if len(failed) > MOST_FAILURES else ""
    table = make_table(f"tasks that failed{more}", ">task", "status", "why", *(["files"] if tasks else []))
    for result in failed[:MOST_FAILURES]:
        row = [str(result.task_index), result.status.value, explain_exit(result.exit_code)]
        table.add_row(*row, *([Text(_name_files(tasks.tasks[result.task_index]))] if tasks else []))
    return table


def _name_files(task: Task) -> str:
    first, more = task.paths[0], len(task.paths) - 1
    return f"{first} and {more} more" if more else first


def _render_slashes(receipt: Mapping[str, Any]) -> Table:
    table = make_table("slashes", ">operator", "taken", "", "transaction")
    for slash in receipt["slashes"]:
        ejected = "ejected" if slash["ejected"] else ""
        amount = format_amount(slash["amount_wei"])
        table.add_row(str(slash["operator"]), amount, ejected, shorten(slash["transaction"]))
    return table


def shorten(value: str | None) -> str:
    """The beginning of a hash; JSON has all of it."""
    return f"{value[:SHORT]}…" if value and len(value) > SHORT else value or ""
