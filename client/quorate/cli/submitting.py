"""What commands share that sign an order and hand it to a collator."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from quorate.cli.common import get_config
from quorate.cli.job import check_folder, finish, follow
from quorate.cli.output import OutputFormat, format_ether, print_result, say
from quorate.orders import OrderWishes
from quorate.placement import Locality
from quorate.protocol.spec import MAX_BATCH
from quorate.sdk import QuorateClient
from quorate.spec import PreparedSpec
from quorate.storage.kubo_rpc import DaemonGone

SourceOption = Annotated[str | None, typer.Option("--input", "-i", help="A file, a folder, or a CID.")]
ClassOption = Annotated[
    int | None, typer.Option("--class", min=1, help="Class to ask (yours; for containers the one that fits best).")
]
LocalityOption = Annotated[
    Locality, typer.Option(help="Whether a class is asked whose members hold the input: if there is one, only, never.")
]
SeatsOption = Annotated[int | None, typer.Option(min=1, help="Operators that must agree (3 unless told).")]
ConfidenceOption = Annotated[
    float | None, typer.Option(help="Choose the seats for this probability of a right result, such as 0.999.")
]
AdversaryOption = Annotated[float, typer.Option(help="Share of all stake that may lie together.")]
RoundsOption = Annotated[
    int | None, typer.Option(min=0, help="Fresh committees for silent seats (as many as allowed).")
]
MemoryOption = Annotated[int, typer.Option(min=1, help="Most memory in MiB.")]
EnvOption = Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE; may be repeated.")]
MaxPriceOption = Annotated[int | None, typer.Option(help="Highest wei for a billion fuel (twice the present).")]
InputBytesOption = Annotated[int | None, typer.Option(help="Size of an input that is given by CID alone.")]
ProviderOption = Annotated[list[str] | None, typer.Option(help="URL of a gateway that has the input.")]
PartitionOption = Annotated[
    str | None,
    typer.Option(help="Divide the input folder: a task for each batch of files whose path fits, such as '*.tif'."),
]
BatchSizeOption = Annotated[int, typer.Option(min=1, max=MAX_BATCH, help="Files of one task, with --partition.")]
DirectOption = Annotated[
    bool,
    typer.Option("--direct", help="Post it yourself, past collators: for gas, a bond for a while, and time."),
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Serve the input and wait for the result.")]
ToOption = Annotated[Path | None, typer.Option(help="Folder to write the result to, as it comes; it must not exist.")]


@dataclass(frozen=True, slots=True)
class Following:
    """How a job is sent, and what becomes of it then: `to` and `final` imply `wait`."""

    providers: tuple[str, ...]
    wait: bool
    final: bool
    timeout_s: float | None
    to: Path | None
    output: OutputFormat
    is_direct: bool = False


def submit_job(prepare: Callable[[QuorateClient], PreparedSpec], wishes: OrderWishes, after: Following) -> None:
    """Prepare, sign and send; then follow the job to its end, or print its id."""
    wait = after.wait or after.final or after.to is not None
    if after.to is not None:
        check_folder(after.to)
    with QuorateClient.open(get_config()) as client, contextlib.ExitStack() as stack:
        prepared = prepare(client)
        quote = client.quote(prepared, wishes)
        most = format_ether(quote.escrow)
        if prepared.spec.partition.pattern is not None:
            say(f"{prepared.task_count:,} task{'s' if prepared.task_count != 1 else ''}")
        say(f"class {quote.class_id}, {quote.seats} seats, up to {1 + quote.rounds} rounds: locks at most {most}")
        providers = list(after.providers)
        if wait:
            providers.insert(0, stack.enter_context(client.serving()))
        job = client.submit(prepared, wishes, providers=providers, is_direct=after.is_direct)
        if wait:
            with telling_that_posted(job.job_id):
                fetch = client.open_results(job, after.to) if after.to is not None else None
                follow(client, job, after.timeout_s, after.final, fetch)
                finish(client, job, fetch, after.output)
        else:
            print_result({"job_id": f"0x{job.job_id.hex()}"}, after.output, f"0x{job.job_id.hex()}")


@contextlib.contextmanager
def telling_that_posted(job_id: bytes) -> Iterator[None]:
    """Whoever is told to start a daemon and try again shall not pay for the same job twice."""
    try:
        yield
    except DaemonGone as error:
        name = job_id.hex()[:8]
        raise DaemonGone(
            f"{error} by `quorate job get {name}`, or `job wait {name}`: the job is posted already, and another run of "
            "it would be paid for again"
        ) from error
