"""`quorate-node exec | inspect | doctor`: try a program before any money moves. Needs no home, no key and no chain."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from quorate.protocol.errors import ValidationError
from quorate.protocol.spec import CEILINGS, Limits
from quorate_node.cli.printing import Output, OutputOption, complain, show

if TYPE_CHECKING:
    from quorate_node.executor.trial import TrialOutcome

MAX_SECONDS = 1e7
CACHE = Path("~/.quorate/exec-cache")
HINTS = {
    "OUT_OF_FUEL": "--fuel N gives it more",
    "TIMEOUT": "--timeout SECONDS gives it more",
    "STACK_OVERFLOW": "--limit stack_bytes=N gives it more",
}
LIMITS = sorted(CEILINGS.keys() - {"fuel"})

EXEC_EPILOG = """Exit codes: the program's own, at most 255; 134 it trapped; 152 out of fuel; 153 over another limit;
126 the profile refuses the module; 124 out of time; 125 no result on this host, so no vote either (stack, memory);
2 what was asked for cannot be done.

Example: quorate-node exec program.wasm --dir data::/data --env LANG=C --output json -- --verbose /data/x"""

ModuleArgument = Annotated[Path, typer.Argument(help="A .wasm file.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("exec", epilog=EXEC_EPILOG)(execute)
    app.command(epilog="Example: quorate-node inspect program.wasm --output json")(inspect)
    app.command(epilog="Example: quorate-node doctor")(doctor)


def execute(
    module: ModuleArgument,
    args: Annotated[
        list[str] | None, typer.Argument(help="Its arguments; after -- they may look like options.")
    ] = None,
    folder: Annotated[
        list[str] | None,
        typer.Option("--dir", help="HOST::GUEST: a copy of a folder, writable, in place of the profile's; repeat."),
    ] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE; repeat.")] = None,
    fuel: Annotated[
        int, typer.Option(min=1, max=CEILINGS["fuel"][1], help="Most instructions and host calls.")
    ] = Limits().fuel,
    limit: Annotated[
        list[str] | None,
        typer.Option(help=f"NAME=NUMBER, another limit of a job; repeat. Names: {', '.join(LIMITS)}."),
    ] = None,
    source: Annotated[Path | None, typer.Option("--input", "-i", help="File or folder to put into /inputs.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write /outputs to, new or empty, if the program ends by itself.")
    ] = None,
    engine: Annotated[str, typer.Option(help="cranelift, or pulley: an interpreter, 25 times slower.")] = "cranelift",
    timeout: Annotated[float, typer.Option(min=0.01, max=MAX_SECONDS, help="Seconds that it may run.")] = 600.0,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run a program under exactly the profile of jobs, with no chain.

    It sees /inputs, /outputs and /tmp, or with --dir only those folders, in their order from descriptor 3 on. Its
    standard output and error are passed through, its standard input is empty, its name (argv[0]) is main.wasm. With
    --output json the last line on stdout tells status, exit_code, digest (what nodes would agree on), fuel and seconds;
    negative exit codes are those of the protocol.
    """
    from quorate.spec import parse_env
    from quorate_node.executor.folders import Folder
    from quorate_node.executor.runner import Echo
    from quorate_node.executor.trial import EngineName, Trial, read_module, run_trial

    if engine not in list(EngineName):
        raise ValidationError(f"the engine {engine!r} is unknown: choose cranelift or pulley")
    wasm = read_module(module.expanduser())
    if wasm[257:262] == b"ustar":
        print("note: this is an archive; `quorate-node docker exec` tries the image in one", file=sys.stderr)
    trial = Trial(
        wasm,
        tuple(args or ()),
        parse_env(env or ()),
        parse_limits(fuel, limit or (), len(wasm)),
        source and source.expanduser(),
        tuple(map(Folder.parse, folder or ())),
        out and out.expanduser(),
        EngineName(engine),
        timeout,
        CACHE.expanduser(),
        partial(tell, output=output, is_line_open=False),
    )
    stdout = Tap(sys.stdout.buffer)
    with ending_at_once():
        outcome = run_trial(trial, Echo(stdout, Tap(sys.stderr.buffer)))
    tell(outcome, output, is_line_open=stdout.last not in (b"", b"\n"))
    raise typer.Exit(outcome.code)


def tell(outcome: TrialOutcome, output: Output, *, is_line_open: bool) -> None:
    """Print how it went, where that is asked for or not said by the program itself."""
    if outcome.detail and (outcome.result is None or outcome.result.exit_code < 0):
        hint = HINTS.get(outcome.status)
        complain(f"{outcome.detail}: {hint}" if hint else outcome.detail)
    if output is Output.JSON:
        if is_line_open:
            print()
        show(outcome.to_dict(), output)
    sys.stdout.flush()


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process as it ends others: a program that makes no host call would hold it up."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Tap:
    """Passes chunks on at once; once nobody reads any more, it drops them: the program must not notice."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream: BinaryIO | None = stream
        self.last = b""

    def __call__(self, chunk: memoryview) -> None:
        if self._stream is None or not chunk:
            return
        self.last = bytes(chunk[-1:])
        try:
            self._stream.write(chunk)
            self._stream.flush()
        except OSError:
            self._stream = None


def parse_limits(fuel: int, items: Sequence[str], module_bytes: int) -> Limits:
    """Limits from NAME=NUMBER items; a large module gets the limit that it needs. Raises ValidationError."""
    from quorate.spec import parse_limits as parse

    base = Limits(fuel=fuel)
    if module_bytes > base.module_bytes and not any(item.startswith("module_bytes=") for item in items):
        print(
            f"note: a job with this module needs --limit module_bytes={module_bytes}, as it has here", file=sys.stderr
        )
        base = replace(base, module_bytes=module_bytes)
    return parse(base, items)


def inspect(module: ModuleArgument, output: OutputOption = Output.TEXT) -> None:
    """Name a module's imports, exports and memory, and what the profile refuses and why.

    The exit code is 0 whatever is found, for what was asked is told: `refused` lists the reasons, and is empty for a
    module that may run. It is 2 where there is no such file.
    """
    from quorate_node.executor.inspection import inspect_module, summarize
    from quorate_node.executor.trial import read_module

    found = inspect_module(read_module(module.expanduser()))
    show(found if output is Output.JSON else summarize(found), output)


def doctor(
    home: Annotated[
        Path | None, typer.Option("--home", help="A node's folder, for its settings.", envvar="QUORATE_NODE_HOME")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell what this host can run, and what a job may ask for. The exit code is 1 if it is not even WebAssembly.

    Ceilings and the way to a Docker daemon are those of the node in --home, or of a node that was told nothing else.
    """
    from quorate_node.config import find_docker_host, load_config
    from quorate_node.core.policy import DEFAULT_LIMITS
    from quorate_node.executor.base import DockerSettings
    from quorate_node.executor.diagnosis import diagnose
    from quorate_node.gateway.status import describe_ceilings

    if home is None:
        limits, docker = DEFAULT_LIMITS, DockerSettings(find_docker_host(), Path())
    else:
        config = load_config(home.expanduser())
        limits, docker = config.limits, config.docker
    found = diagnose(docker) | describe_ceilings(limits)
    show(found, output)
    if not found["wasm"]["ok"]:
        raise typer.Exit(1)
