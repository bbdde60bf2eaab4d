"""What commands share that sign an order and hand it to a collator."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from quorate.cli.common import get_config
from quorate.cli.job import check_folder, finish, follow
from quorate.cli.output import OutputFormat, format_ether, print_result, say
from quorate.orders import OrderWishes
from quorate.placement import Locality
from quorate.sdk import QuorateClient
from quorate.spec import PreparedSpec

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
WaitOption = Annotated[bool, typer.Option("--wait", help="Serve the input and wait for the result.")]
ToOption = Annotated[Path | None, typer.Option(help="Folder to write the result to; it must not exist.")]


@dataclass(frozen=True, slots=True)
class Following:
    """What becomes of a job after it is sent: `to` and `final` imply `wait`."""

    providers: tuple[str, ...]
    wait: bool
    final: bool
    timeout_s: float | None
    to: Path | None
    output: OutputFormat


def submit_job(prepare: Callable[[QuorateClient], PreparedSpec], wishes: OrderWishes, after: Following) -> None:
    """Prepare, sign and send; then follow the job to its end, or print its id."""
    wait = after.wait or after.final or after.to is not None
    if after.to is not None:
        check_folder(after.to)
    with QuorateClient.open(get_config()) as client, contextlib.ExitStack() as stack:
        prepared = prepare(client)
        quote = client.quote(prepared, wishes)
        most = format_ether(quote.escrow)
        say(f"class {quote.class_id}, {quote.seats} seats, up to {1 + quote.rounds} rounds: locks at most {most}")
        providers = list(after.providers)
        if wait:
            providers.insert(0, stack.enter_context(client.serving()))
        job = client.submit(prepared, wishes, providers=providers)
        if wait:
            follow(client, job, after.timeout_s, after.final)
            finish(client, job, after.to, after.output)
        else:
            print_result({"job_id": f"0x{job.job_id.hex()}"}, after.output, f"0x{job.job_id.hex()}")
