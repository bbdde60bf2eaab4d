"""`quorate docker` and `quorate image`: jobs in containers, and images without a registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from quorate.cli.common import get_config
from quorate.cli.job import FinalOption, TimeoutOption
from quorate.cli.output import OutputFormat, OutputOption, guarded, print_result
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
from quorate.images.build import ImageRecipe, build_image
from quorate.orders import OrderWishes
from quorate.placement import Locality
from quorate.protocol.container import CONTAINER_FUEL_RATE, ContainerLimits
from quorate.protocol.spec import Partition
from quorate.sdk import QuorateClient
from quorate.spec import add_image, parse_env

docker = typer.Typer(help="Run containers (profile quorate-docker-1).", no_args_is_help=True)
image = typer.Typer(help="Make images as content, without a registry.", no_args_is_help=True)
MIB = 1 << 20
DEFAULTS = ContainerLimits()


@docker.callback()
def _docker() -> None:
    """Keep `run` a command of its own."""


@docker.command(epilog="Example: quorate docker run image.tar -i scene/ --seconds 20 --wait --to out/ -- --verbose")
@guarded
def run(
    image: Annotated[str, typer.Argument(help="A docker-archive, its CID, or NAME@sha256:… of a registry.")],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- CMD", help="Arguments, in place of the image's own.")
    ] = None,
    source: SourceOption = None,
    partition: PartitionOption = None,
    batch_size: BatchSizeOption = 1,
    image_id: Annotated[
        str | None, typer.Option(help="sha256:… of the image, where its archive is given by a CID that is not here.")
    ] = None,
    entrypoint: Annotated[str | None, typer.Option(help="Program to run instead of the image's own.")] = None,
    class_id: ClassOption = None,
    locality: LocalityOption = Locality.PREFER,
    seats: SeatsOption = None,
    confidence: ConfidenceOption = None,
    adversary: AdversaryOption = 0.1,
    rounds: RoundsOption = None,
    seconds: Annotated[
        int,
        typer.Option(min=1, help="Time of a task on one processor; priced as 200,000,000 fuel a second."),
    ] = int(DEFAULTS.seconds),
    memory: MemoryOption = 512,
    pids: Annotated[int, typer.Option(min=2, help="Most processes and threads.")] = DEFAULTS.pids,
    output_mib: Annotated[int, typer.Option(min=0, help="Most MiB in /outputs.")] = DEFAULTS.output_bytes // MIB,
    tmp_mib: Annotated[int, typer.Option(min=0, help="Most MiB in /tmp.")] = DEFAULTS.tmp_bytes // MIB,
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
    """Sign an order for a container and hand it to a collator.

    It sees /inputs (read-only), /outputs and /tmp, and no network. Exit codes are those of `quorate wasm run`.
    """
    wishes = OrderWishes(
        class_id, seats, rounds, confidence, adversary,
        max_price=max_price, input_bytes=input_bytes, locality=locality,
    )  # fmt: skip
    limits = replace(
        DEFAULTS, fuel=seconds * CONTAINER_FUEL_RATE, memory_bytes=memory * MIB, pids=pids,
        output_bytes=output_mib * MIB, tmp_bytes=tmp_mib * MIB,
    )  # fmt: skip
    divided = Partition(partition, batch_size)
    submit_job(
        lambda client: client.prepare_container(
            image, source, image_id=image_id, entrypoint=entrypoint, args=command or (), env=env or (), limits=limits,
            partition=divided, providers=provider or (),
        ),
        wishes, Following(tuple(provider or ()), wait, final, timeout, to, output, direct),
    )  # fmt: skip


@image.command(epilog="Example: quorate image build --binary ./solver --output-file solver.tar")
@guarded
def build(
    output_file: Annotated[Path, typer.Option(help="The docker-archive to write; it must not exist.")],
    rootfs: Annotated[Path | None, typer.Option(help="A folder: the root of the image's file system.")] = None,
    binary: Annotated[Path | None, typer.Option(help="A statically linked program: the whole image.")] = None,
    entrypoint: Annotated[str | None, typer.Option(help="Program to run, absolute (the --binary).")] = None,
    arg: Annotated[list[str] | None, typer.Option("--arg", "-a", help="A default argument; may be repeated.")] = None,
    env: EnvOption = None,
    workdir: Annotated[str, typer.Option(help="Folder that it starts in.")] = "/",
    arch: Annotated[str | None, typer.Option(help="amd64, arm64, … (as the program's header says).")] = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Write an image that depends on content alone: the same files give the same id on every machine."""
    recipe = ImageRecipe(
        rootfs, binary, (entrypoint,) if entrypoint else (), tuple(arg or ()), parse_env(env or ()), workdir, arch
    )
    built = build_image(recipe, output_file)
    print_result(
        {"image_id": built.id, "path": str(output_file), "files": built.files, "bytes": built.unpacked_bytes}, output
    )


@image.command(epilog="Example: quorate image push solver.tar --output json")
@guarded
def push(
    archive: Annotated[Path, typer.Argument(help="A docker-archive, as `quorate image build` writes them.")],
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Check an image and put it into the local store, from which jobs are served; the file must stay where it is."""
    with QuorateClient.open(get_config()) as client:
        added, size = add_image(client.store, str(archive), None, DEFAULTS.image_bytes)
    print_result({"archive": added.archive, "image_id": added.id, "bytes": size}, output)
