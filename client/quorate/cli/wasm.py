"""`quorate wasm`: run WebAssembly programs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from quorate.cli.common import get_config
from quorate.cli.job import FinalOption, TimeoutOption, check_folder, finish, follow
from quorate.cli.output import OutputFormat, OutputOption, format_ether, guarded, print_result, say
from quorate.orders import OrderWishes
from quorate.protocol.spec import CEILINGS, Limits
from quorate.sdk import QuorateClient
from quorate.spec import parse_limits

app = typer.Typer(help="Run WebAssembly programs (profile quorate-wasm-1).", no_args_is_help=True)
DEFAULT_FUEL = 5_000_000_000
MIB = 1 << 20
LIMIT_HELP = f"NAME=NUMBER, another limit; repeat. Names: {', '.join(sorted(CEILINGS.keys() - {'fuel'}))}."

RUN_EXAMPLE = "Example: quorate wasm run cloudmask.wasm -i scene/ --seats 3 --arg /inputs --wait --to out/"


@app.callback()
def wasm() -> None:
    """Keep `run` a command of its own: others join it."""


@app.command(epilog=RUN_EXAMPLE)
@guarded
def run(
    module: Annotated[str, typer.Argument(help="A .wasm file, or its CID.")],
    source: Annotated[str | None, typer.Option("--input", "-i", help="A file, a folder, or a CID.")] = None,
    seats: Annotated[int | None, typer.Option(min=1, help="Operators that must agree (3 unless told).")] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Choose the seats for this probability of a right result, such as 0.999.")
    ] = None,
    adversary: Annotated[float, typer.Option(help="Share of all stake that may lie together.")] = 0.1,
    rounds: Annotated[
        int | None, typer.Option(min=0, help="Fresh committees for silent seats (as many as allowed).")
    ] = None,
    fuel: Annotated[int, typer.Option(min=1, help="Most instructions and host calls of a task.")] = DEFAULT_FUEL,
    memory: Annotated[int, typer.Option(min=1, help="Most memory in MiB.")] = 512,
    limit: Annotated[list[str] | None, typer.Option(help=LIMIT_HELP)] = None,
    arg: Annotated[list[str] | None, typer.Option("--arg", "-a", help="An argument; may be repeated.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE; may be repeated.")] = None,
    max_price: Annotated[int | None, typer.Option(help="Highest wei for a billion fuel (twice the present).")] = None,
    input_bytes: Annotated[int | None, typer.Option(help="Size of an input that is given by CID alone.")] = None,
    provider: Annotated[list[str] | None, typer.Option(help="URL of a gateway that has the input.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Serve the input and wait for the result.")] = False,
    final: FinalOption = False,
    timeout: TimeoutOption = None,
    to: Annotated[Path | None, typer.Option(help="Folder to write the result to; it must not exist.")] = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Sign an order for a program and hand it to a collator.

    Without --wait module and input are pushed to the collator, and the job's id is printed. A job that ends without a
    result makes exit code 4, with the reason; a result that says that the program failed makes 5.
    """
    wishes = OrderWishes(seats, rounds, confidence, adversary, max_price=max_price, input_bytes=input_bytes)
    limits = parse_limits(Limits(fuel=fuel, memory_bytes=memory * MIB), limit or ())
    wait = wait or final or to is not None
    if to is not None:
        check_folder(to)
    with QuorateClient.open(get_config()) as client, contextlib.ExitStack() as stack:
        prepared = client.prepare(module, source, args=arg or (), env=env or (), limits=limits)
        quote = client.quote(prepared, wishes)
        say(f"{quote.seats} seats, up to {1 + quote.rounds} rounds: locks at most {format_ether(quote.escrow)}")
        providers = list(provider or ())
        if wait:
            providers.insert(0, stack.enter_context(client.serving()))
        job = client.submit(prepared, wishes, providers=providers)
        if wait:
            follow(client, job, timeout, final)
            finish(client, job, to, output)
        else:
            print_result({"job_id": f"0x{job.job_id.hex()}"}, output, f"0x{job.job_id.hex()}")
