"""`quorate job`: what became of our jobs."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.cli.common import get_config
from quorate.cli.output import (
    OutputFormat,
    OutputOption,
    download_progress,
    guarded,
    print_result,
    print_tables,
    progress,
    say,
)
from quorate.cli.receipt import MOST_FAILURES, render_receipt
from quorate.delivery import ask_logs
from quorate.explaining import explain_exit
from quorate.jobs import JobRecord
from quorate.layout import describe_task
from quorate.messages import LogLine
from quorate.progress import JobStage
from quorate.protocol.errors import (
    ConfigurationError,
    ContentUnavailable,
    DataError,
    QuorateError,
    RecoverableError,
    ValidationError,
)
from quorate.protocol.result import TaskResult
from quorate.results import ResultFetch
from quorate.sdk import QuorateClient
from quorate.terminal import make_printable

app = typer.Typer(help="List, follow and describe jobs, and get their results.", no_args_is_help=True)

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or its beginning.")]
FinalOption = Annotated[bool, typer.Option("--final", help="Wait until no challenge can undo the result.")]
TimeoutOption = Annotated[float | None, typer.Option(min=0, help="Seconds to wait at most.")]

LAST_MOMENT = 2.0**37
"""Of strangers' clocks: unix seconds in the year 6325, which a date can still have."""
EXIT_TASK_FAILED = 5
"""The operators agree on the result, which is that a program failed."""


class JobFailed(ValidationError):
    """A job ended without a result."""

    exit_code = 4


@app.command("list", epilog="Example: quorate job list --output json")
@guarded
def list_(output: OutputOption = OutputFormat.TEXT) -> None:
    """Show the jobs that were signed here, the oldest first, with their states as the chain has them now.

    Where no chain answers they are shown as they were last seen, which is said.
    """
    with QuorateClient.open(get_config()) as client:
        try:
            records, deployment = client.refresh(), client.gateway.deployment
        except (RecoverableError, ConfigurationError) as error:
            records, deployment = client.book.load_all(), None
            if records:
                say(f"states are as they were last seen: {error}")
    place = deployment and (deployment.chain_id, deployment.market)
    rows: list[Any] = [_summarise(each) | {"asked": (each.chain_id, each.market) == place} for each in records]
    lines = [_tell_row(row, "" if row["asked"] or place is None else "  on another deployment") for row in rows]
    print_result(rows, output, "\n".join(lines) or "no jobs yet: `quorate wasm run` makes one")


def _summarise(record: JobRecord) -> dict[str, Any]:
    told = "sent" if record.collator else "signed"
    last = record.state or max(record.seen, key=lambda stage: record.seen[stage], default=told)
    return {
        "job_id": f"0x{record.job_id.hex()}",
        "signed_at": datetime.fromtimestamp(record.created_at, UTC).isoformat(timespec="seconds"),
        "class": record.order.class_id,
        "seats": record.order.seats,
        "rounds": record.order.rounds,
        "last_seen": last,
        "result_cid": record.result_cid,
    }


def _tell_row(row: dict[str, Any], place: str) -> str:
    return f"{row['job_id']}  {row['signed_at']}  class {row['class']}  {row['seats']} seats  {row['last_seen']}{place}"


@app.command(epilog="Example: quorate job describe 3fa9 --output json")
@guarded
def describe(job: JobArgument, output: OutputOption = OutputFormat.TEXT) -> None:
    """Show a job's receipt: order, verdict, steps, bundles, seats with their votes; JSON also has seconds."""
    with QuorateClient.open(get_config()) as client:
        record = client.job(job)
        receipt = client.describe(record)
        is_divided = receipt["spec"]["partition"]["pattern"] is not None
        tasks = client.find_tasks(record) if is_divided else None
        results: tuple[TaskResult, ...] = ()
        if receipt["verdict"] == JobStage.ACCEPTED and (is_divided or output is OutputFormat.TEXT):
            with contextlib.suppress(ContentUnavailable, DataError):  # the rest is worth having without it
                results = client.read_result(record)
    if output is OutputFormat.JSON:
        told = [describe_task(result, tasks) for result in results]
        counts = dict(Counter(result.status.value for result in results))
        print_result(receipt | ({"tasks": told, "tasks_by_status": counts} if is_divided else {}), output)
        return
    print_tables(render_receipt(receipt, results, tasks))


@app.command(epilog="Example: quorate job logs 3fa9")
@guarded
def logs(job: JobArgument, output: OutputOption = OutputFormat.TEXT) -> None:
    """Show what a job's seats say that they did for it, as far as nodes remember: unproven, but it may tell why not."""
    with QuorateClient.open(get_config()) as client:
        record = client.job(job)
        taker = [record.collator] if record.collator else []
        told = ask_logs(record.job_id, list(dict.fromkeys([*client.config.collators, *taker])))
    rows = []
    for seat in told.seats:
        rows += [_tell_line(seat.operator, line) for line in seat.lines]
        if seat.problem is not None:
            rows.append(f"operator {seat.operator}  says nothing: {make_printable(seat.problem)}")
    print_result(told.model_dump(), output, "\n".join(rows) or "no seat that the node knows of says anything")


def _tell_line(operator: int, line: LogLine) -> str:
    at = datetime.fromtimestamp(min(line.at, LAST_MOMENT), UTC).isoformat(timespec="milliseconds")
    detail = f": {line.detail}" if line.detail else ""
    return f"operator {operator}  {at}  {make_printable(line.event + detail)}"


@app.command(epilog="Example: quorate job get 3fa9 --to out/ --match 'north/*'")
@guarded
def get(
    job: JobArgument,
    to: Annotated[
        Path | None, typer.Option(help="Folder to write to, new, or one that this command began (named after the job).")
    ] = None,
    match: Annotated[
        str | None, typer.Option(help="Of a job over many files, only tasks with a file whose path fits.")
    ] = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Fetch an accepted job's result and check every byte of it; exit code 5 where the program failed.

    What was fetched before, also by a run that was interrupted, is not fetched again.
    """
    with QuorateClient.open(get_config()) as client:
        record = client.job(job)
        finish(client, record, client.open_results(record, to or Path(record.job_id.hex()[:12]), match=match), output)


@app.command(epilog="Example: quorate job wait 3fa9 --final --timeout 60")
@guarded
def wait(
    job: JobArgument,
    timeout: TimeoutOption = None,
    final: FinalOption = False,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Follow a job to its end; exit code 4 where it has no result, 5 where the program failed."""
    with QuorateClient.open(get_config()) as client:
        record = client.job(job)
        follow(client, record, timeout, final)
        finish(client, record, None, output)


@app.command(epilog="Example: quorate job extend 3fa9 --rounds 1")
@guarded
def extend(
    job: JobArgument,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds to buy for each bundle.")] = 1,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job to its new end.")] = False,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Buy more rounds for a void job whose votes stand: it goes on where it was, before its batch is final.

    With --wait exit codes are those of `quorate job wait`.
    """
    with QuorateClient.open(get_config()) as client:
        record = client.job(job)
        bundles = client.extend(record, rounds, timeout_s=timeout)
        say(f"{len(bundles)} bundles get {rounds} more rounds; their votes stand")
        if wait:
            follow(client, record, timeout)
            finish(client, record, None, output)
        else:
            text = f"bundles {', '.join(map(str, bundles))} of job 0x{record.job_id.hex()[:12]} are extended"
            print_result({"job_id": f"0x{record.job_id.hex()}", "bundles": list(bundles)}, output, text)


def check_folder(folder: Path) -> None:
    """Say before a job is paid that its result cannot be written. Raises DataError."""
    if folder.exists():
        raise DataError(f"{folder} exists: choose another folder")
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise DataError(f"{folder} cannot be made: {above} is no folder that you may write to")


def follow(
    client: QuorateClient,
    record: JobRecord,
    timeout_s: float | None,
    until_final: bool = False,
    fetch: ResultFetch | None = None,
) -> None:
    """Show a job's steps until its end, and `fetch` what is accepted before. Raises JobFailed unless it is a result."""
    with progress(f"job {record.job_id.hex()[:8]}") as show:
        for step in client.watch(record, timeout_s=timeout_s, until_final=until_final):
            show(step)
            if fetch is not None and step.stage is not JobStage.ACCEPTED:
                fetch.take()
    if step.stage not in (JobStage.ACCEPTED, JobStage.FINAL):
        raise JobFailed(f"the job is {step.stage.value}: {step.detail or 'see `quorate job describe`'}")


def finish(client: QuorateClient, record: JobRecord, fetch: ResultFetch | None, output: OutputFormat) -> None:
    """Print the receipt, with how the program ended; where it failed, that makes the exit code.

    `fetch` brings the result, if it is wanted. Raises ContentUnavailable or DataError when no seat told the result.
    """
    results: tuple[TaskResult, ...] = ()
    told: dict[str, Any] = {}
    unknown: QuorateError | None = None
    if fetch is not None:
        with download_progress() as show:
            fetched = fetch.finish(show)
        for provider, reason in fetched.refused:
            say(f"left {provider}: {reason}")
        results, told = fetched.results, {"path": str(fetched.path)}
    else:
        try:
            results = client.read_result(record)
        except (ContentUnavailable, DataError) as error:  # the receipt is worth having without it
            unknown = error
    told["status"] = [result.status.value for result in results]
    receipt = client.describe(record) | told
    lines = [f"job     {receipt['job_id']}", f"verdict {receipt['verdict']}"]
    lines += [f"result  {receipt['result_cid']}"] if receipt["result_cid"] else []
    lines += [f"status  {_count_endings(results)}"] if results else []
    lines += [f"files   {told['path']}"] if fetch is not None else []
    print_result(receipt, output, "\n".join(lines))
    if unknown is not None:
        raise unknown
    failed = [result for result in results if result.exit_code]
    for result in failed[:MOST_FAILURES]:
        say(f"task {result.task_index} ended as {result.status.value}: {explain_exit(result.exit_code)}")
    if len(failed) > MOST_FAILURES:
        say(f"… and {len(failed) - MOST_FAILURES} more tasks failed: `quorate job describe` with -o json has all")
    if fetch is None:
        say(f"fetch it with `quorate job get {record.job_id.hex()[:12]}`")
    if failed:
        raise typer.Exit(EXIT_TASK_FAILED)


def _count_endings(results: Sequence[TaskResult]) -> str:
    counts = Counter(result.status.value for result in results)
    return ", ".join(f"{status} x {count}" if count > 1 else status for status, count in sorted(counts.items()))
