"""`quorate wasm`: run WebAssembly programs."""

from __future__ import annotations

from typing import Annotated

import typer

from quorate.cli.job import FinalOption, TimeoutOption
from quorate.cli.output import OutputFormat, OutputOption, guarded
from quorate.cli.submitting import (
    AdversaryOption,
    BatchSizeOption,
    ClassOption,
    ConfidenceOption,
    DirectOption,
    EnvOption,
    Following,
    InputBytesOption,
    LocalityOption,
    MaxPriceOption,
    MemoryOption,
    PartitionOption,
    ProviderOption,
    RoundsOption,
    SeatsOption,
    SourceOption,
    ToOption,
    WaitOption,
    submit_job,
)
from quorate.orders import OrderWishes
from quorate.placement import Locality
from quorate.protocol.spec import CEILINGS, Limits, Partition
from quorate.spec import parse_limits

app = typer.Typer(help="Run WebAssembly programs (profile quorate-wasm-1).", no_args_is_help=True)
DEFAULT_FUEL = 5_000_000_000
MIB = 1 << 20
LIMIT_HELP = f"NAME=NUMBER, another limit; repeat. Names: {', '.join(sorted(CEILINGS.keys() - {'fuel'}))}."

RUN_EXAMPLE = "Example: quorate wasm run cloudmask.wasm -i scene/ --seats 3 --wait --to out/ -- /inputs"


@app.callback()
def wasm() -> None:
    """Keep `run` a command of its own: others join it."""


@app.command(epilog=RUN_EXAMPLE)
@guarded
def run(
    module: Annotated[str, typer.Argument(help="A .wasm file, or its CID.")],
    args: Annotated[
        list[str] | None, typer.Argument(metavar="-- ARGS", help="Its arguments, after those of --arg.")
    ] = None,
    source: SourceOption = None,
    partition: PartitionOption = None,
    batch_size: BatchSizeOption = 1,
    class_id: ClassOption = None,
    locality: LocalityOption = Locality.PREFER,
    seats: SeatsOption = None,
    confidence: ConfidenceOption = None,
    adversary: AdversaryOption = 0.1,
    rounds: RoundsOption = None,
    fuel: Annotated[int, typer.Option(min=1, help="Most instructions and host calls of a task.")] = DEFAULT_FUEL,
    memory: MemoryOption = 512,
    limit: Annotated[list[str] | None, typer.Option(help=LIMIT_HELP)] = None,
    arg: Annotated[list[str] | None, typer.Option("--arg", "-a", help="An argument; may be repeated.")] = None,
    env: EnvOption = None,
    max_price: MaxPriceOption = None,
    input_bytes: InputBytesOption = None,
    provider: ProviderOption = None,
    direct: DirectOption = False,
    wait: WaitOption = False,
    final: FinalOption = False,
    timeout: TimeoutOption = None,
    to: ToOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Sign an order for a program and hand it to a collator.

    Without --wait module and input are pushed to the collator, and the job's id is printed. A job that ends without a
    result makes exit code 4, with the reason; a result that says that the program failed makes 5.
    """
    wishes = OrderWishes(
        class_id, seats, rounds, confidence, adversary,
        max_price=max_price, input_bytes=input_bytes, locality=locality,
    )  # fmt: skip
    limits = parse_limits(Limits(fuel=fuel, memory_bytes=memory * MIB), limit or ())
    divided, words = Partition(partition, batch_size), [*(arg or ()), *(args or ())]
    submit_job(
        lambda client: client.prepare(
            module, source, args=words, env=env or (), limits=limits, partition=divided, providers=provider or ()
        ),
        wishes, Following(tuple(provider or ()), wait, final, timeout, to, output, direct),
    )  # fmt: skip
