"""`quorate-node docker exec`: try a container before any money moves. Needs no home, no key and no chain."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.protocol.container import CONTAINER_FUEL_RATE, ContainerLimits
from quorate.protocol.spec import MIB
from quorate_node.cli.printing import Output, OutputOption, complain, show
from quorate_node.cli.programs import Tap

app = typer.Typer(help="Containers (profile quorate-docker-1).", no_args_is_help=True, rich_markup_mode=None)
SCRATCH = Path("~/.quorate/docker-trials")
DEFAULTS = ContainerLimits()

EXEC_EPILOG = """Exit codes: the program's own; 153 over a limit, which is a result; 126 the image is refused, or its
program cannot be started; 124 out of time; 125 no result on this host (memory, a signal, no daemon): in the last three
cases nodes would not vote either; 2 what was asked for cannot be done.

Example: quorate-node docker exec solver.tar -i scene/ --out result/ --output json -- --verbose"""


@app.callback()
def containers() -> None:
    """Keep `exec` a command of its own."""


@app.command("exec", epilog=EXEC_EPILOG)
def execute(
    image: Annotated[str, typer.Argument(help="A docker-archive, or NAME@sha256:… of a registry.", show_default=False)],
    args: Annotated[
        list[str] | None, typer.Argument(metavar="-- ARGS", help="Arguments, in place of the image's own.")
    ] = None,
    source: Annotated[Path | None, typer.Option("--input", "-i", help="File or folder to put into /inputs.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write /outputs to, new or empty, if the program ends by itself.")
    ] = None,
    entrypoint: Annotated[str | None, typer.Option(help="Program to run instead of the image's own.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE; repeat.")] = None,
    seconds: Annotated[int, typer.Option(min=1, help="Time of a job's task.")] = int(DEFAULTS.seconds),
    memory: Annotated[int, typer.Option(min=8, help="Most memory in MiB.")] = DEFAULTS.memory_bytes // MIB,
    pids: Annotated[int, typer.Option(min=2, help="Most processes and threads.")] = DEFAULTS.pids,
    output_mib: Annotated[int, typer.Option(min=0, help="Most MiB in /outputs.")] = DEFAULTS.output_bytes // MIB,
    tmp_mib: Annotated[int, typer.Option(min=0, help="Most MiB in /tmp.")] = DEFAULTS.tmp_bytes // MIB,
    home: Annotated[
        Path | None, typer.Option("--home", help="A node's folder, for its settings.", envvar="QUORATE_NODE_HOME")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run a container under exactly the profile of jobs, with no chain; as root, with a Docker daemon.

    It sees /inputs (read-only), /outputs and /tmp, and no network; its standard output and error are passed through.
    With --output json the last line on stdout tells status, exit_code, digest (what nodes would agree on) and seconds:
    run it twice, and see whether the digest is the same. Daemon and runtime are those of the node in --home, or what
    DOCKER_HOST says.
    """
    from quorate_node.executor.container_trial import ContainerTrial, run_container_trial
    from quorate_node.executor.runner import Echo

    limits = replace(
        DEFAULTS, fuel=seconds * CONTAINER_FUEL_RATE, memory_bytes=memory * MIB, pids=pids,
        output_bytes=output_mib * MIB, tmp_bytes=tmp_mib * MIB,
    )  # fmt: skip
    trial = ContainerTrial(
        image, _find_settings(home), SCRATCH.expanduser(), source and source.expanduser(), entrypoint,
        tuple(args or ()), tuple(env or ()), limits, out and out.expanduser(), float(seconds),
    )  # fmt: skip
    stdout = Tap(sys.stdout.buffer)
    with _ending_in_order():
        outcome = run_container_trial(trial, Echo(stdout, Tap(sys.stderr.buffer)))
    if outcome.detail and (outcome.result is None or outcome.result.exit_code < 0):
        complain(outcome.detail)
    if output is Output.JSON:
        if stdout.last not in (b"", b"\n"):
            print()
        show(outcome.to_dict(), output)
    sys.stdout.flush()
    raise typer.Exit(outcome.code)


def _find_settings(home: Path | None) -> Any:
    from quorate_node.config import find_docker_host, load_config
    from quorate_node.executor.base import DockerSettings

    return DockerSettings(find_docker_host(), Path()) if home is None else load_config(home.expanduser()).docker


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let SIGTERM end it as Ctrl-C does: the container is killed and removed first."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
