"""`quorate job retry`: what failed of a job over many files, alone."""

from __future__ import annotations

from typing import Annotated

import typer

from quorate.cli.common import get_config
from quorate.cli.job import FinalOption, JobArgument, TimeoutOption, app
from quorate.cli.output import OutputFormat, OutputOption, guarded
from quorate.cli.submitting import (
    Following,
    MaxPriceOption,
    ProviderOption,
    SeatsOption,
    ToOption,
    WaitOption,
    submit_job,
)
from quorate.orders import OrderWishes
from quorate.protocol.errors import ValidationError
from quorate.sdk import QuorateClient
from quorate.spec import PreparedSpec
from quorate.storage.cid import Cid

LIMIT_HELP = "NAME=NUMBER, another limit than the job had; repeat."


@app.command(epilog="Example: quorate job retry 3fa9 --fuel 2000000000 --wait --to again/")
@guarded
def retry(
    job: JobArgument,
    fuel: Annotated[int | None, typer.Option(min=1, help="Most fuel of a task (as the job had).")] = None,
    limit: Annotated[list[str] | None, typer.Option(help=LIMIT_HELP)] = None,
    seats: SeatsOption = None,
    max_price: MaxPriceOption = None,
    provider: ProviderOption = None,
    wait: WaitOption = False,
    final: FinalOption = False,
    timeout: TimeoutOption = None,
    to: ToOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Run the tasks of a job over many files again that failed, and no others, as a job of its own.

    The program is the same, so that without more fuel or another limit they fail again, unless by what they draw at
    random. Exit codes are those of `quorate wasm run`.
    """
    with QuorateClient.open(get_config()) as client:
        record = client.job(job)
    providers = (*record.providers, *(provider or ()))
    is_served = wait or final or to is not None

    def prepare(client: QuorateClient) -> PreparedSpec:
        prepared = client.prepare_retry(record, fuel=fuel, limits=limit or (), providers=providers)
        root = Cid.parse(prepared.spec.input or "")
        if not is_served and not client.store.is_complete(root):
            raise ValidationError(f"the files of {root} are not here to be pushed: add --wait, and nodes fetch them")
        return prepared

    wishes = OrderWishes(record.order.class_id, seats or record.order.seats, max_price=max_price)
    kept = providers if is_served else ()
    submit_job(prepare, wishes, Following(kept, wait, final, timeout, to, output))
