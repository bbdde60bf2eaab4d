"""`quorate job`: what became of our jobs."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.cli.common import get_config
from quorate.cli.output import OutputFormat, OutputOption, guarded, print_result, print_tables, progress, say
from quorate.cli.receipt import render_receipt
from quorate.explaining import explain_exit
from quorate.jobs import JobRecord
from quorate.progress import JobStage
from quorate.protocol.errors import ContentUnavailable, DataError, QuorateError, ValidationError
from quorate.protocol.result import TaskResult
from quorate.sdk import QuorateClient

app = typer.Typer(help="List, follow and describe jobs, and get their results.", no_args_is_help=True)

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or its beginning.")]
FinalOption = Annotated[bool, typer.Option("--final", help="Wait until no challenge can undo the result.")]
TimeoutOption = Annotated[float | None, typer.Option(min=0, help="Seconds to wait at most.")]

EXIT_TASK_FAILED = 5
"""The operators agree on the result, which is that a program failed."""


class JobFailed(ValidationError):
    """A job ended without a result."""

    exit_code = 4


@app.command("list", epilog="Example: quorate job list --output json")
@guarded
def list_(output: OutputOption = OutputFormat.TEXT) -> None:
    """Show the jobs that were signed here, the oldest first, without asking the chain."""
    with QuorateClient.open(get_config()) as client:
        records = client.book.load_all()
    rows: list[Any] = [_summarise(record) for record in records]
    lines = [f"{row['job_id']}  {row['signed_at']}  {row['seats']} seats  {row['last_seen']}" for row in rows]
    print_result(rows, output, "\n".join(lines) or "no jobs yet: `quorate wasm run` makes one")


def _summarise(record: JobRecord) -> dict[str, Any]:
    last = max(record.seen, key=lambda stage: record.seen[stage], default="sent" if record.collator else "signed")
    return {
        "job_id": f"0x{record.job_id.hex()}",
        "signed_at": datetime.fromtimestamp(record.created_at, UTC).isoformat(timespec="seconds"),
        "seats": record.order.seats,
        "rounds": record.order.rounds,
        "last_seen": last,
        "result_cid": record.result_cid,
    }


@app.command(epilog="Example: quorate job describe 3fa9 --output json")
@guarded
def describe(job: JobArgument, output: OutputOption = OutputFormat.TEXT) -> None:
    """Show a job's receipt: order, verdict, steps, bundles, seats with their votes; JSON also has seconds."""
    with QuorateClient.open(get_config()) as client:
        record = client.job(job)
        receipt = client.describe(record)
        if output is OutputFormat.JSON:
            print_result(receipt, output)
            return
        results: tuple[TaskResult, ...] = ()
        if receipt["verdict"] == JobStage.ACCEPTED:
            with contextlib.suppress(ContentUnavailable, DataError):  # the rest is worth having without it
                results = client.read_result(record)
    print_tables(render_receipt(receipt, results))


@app.command(epilog="Example: quorate job get 3fa9 --to out/")
@guarded
def get(
    job: JobArgument,
    to: Annotated[
        Path | None, typer.Option(help="Folder to write to; it must not exist (named after the job).")
    ] = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Fetch an accepted job's result and check every byte of it; exit code 5 where the program failed."""
    with QuorateClient.open(get_config()) as client:
        record = client.job(job)
        finish(client, record, to or Path(record.job_id.hex()[:12]), output)


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


def follow(client: QuorateClient, record: JobRecord, timeout_s: float | None, until_final: bool = False) -> None:
    """Show a job's steps until its end. Raises JobFailed unless that is a result."""
    with progress(f"job {record.job_id.hex()[:8]}") as show:
        for step in client.watch(record, timeout_s=timeout_s, until_final=until_final):
            show(step)
    if step.stage not in (JobStage.ACCEPTED, JobStage.FINAL):
        raise JobFailed(f"the job is {step.stage.value}: {step.detail or 'see `quorate job describe`'}")


def finish(client: QuorateClient, record: JobRecord, to: Path | None, output: OutputFormat) -> None:
    """Print the receipt, with how the program ended; where it failed, that makes the exit code.

    The result is fetched to `to`, if there is one. Raises ContentUnavailable or DataError when no seat told the result.
    """
    results: tuple[TaskResult, ...] = ()
    told: dict[str, Any] = {}
    unknown: QuorateError | None = None
    if to is not None:
        fetched = client.fetch_result(record, to)
        for provider, reason in fetched.refused:
            say(f"left {provider}: {reason}")
        results, told = fetched.results, {"path": str(to)}
    else:
        try:
            results = client.read_result(record)
        except (ContentUnavailable, DataError) as error:  # the receipt is worth having without it
            unknown = error
    told["status"] = [result.status.value for result in results]
    receipt = client.describe(record) | told
    lines = [f"job     {receipt['job_id']}", f"verdict {receipt['verdict']}"]
    lines += [f"result  {receipt['result_cid']}"] if receipt["result_cid"] else []
    lines += [f"status  {', '.join(told['status'])}"] if results else []
    lines += [f"files   {to}"] if to else []
    print_result(receipt, output, "\n".join(lines))
    if unknown is not None:
        raise unknown
    for result in results:
        if result.exit_code:
            say(f"task {result.task_index} ended as {result.status.value}: {explain_exit(result.exit_code)}")
    if to is None:
        say(f"fetch it with `quorate job get {record.job_id.hex()[:12]}`")
    if any(result.exit_code for result in results):
        raise typer.Exit(EXIT_TASK_FAILED)
