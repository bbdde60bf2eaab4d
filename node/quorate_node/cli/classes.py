"""`quorate-node class create | join | ask | leave | list`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from quorate.terminal import make_printable
from quorate_node.cli.options import DEFAULT_HOME, HomeOption, OperatorsOption
from quorate_node.cli.printing import Output, OutputOption, show

app = typer.Typer(
    help="Classes: who is drawn for which kind of programs. A node joins none by itself.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ClassArgument = Annotated[int, typer.Argument(metavar="CLASS", min=1, help="Number of the class.", show_default=False)]
PROFILE_HELP = "What its programs are: quorate-wasm-1, quorate-docker-1 [image=sha256:…], quorate-gpu-1 gpu=KIND."
DRAWN = "drawn from the class's next era on; a node that runs knows of it within a second"

CREATE_EXAMPLE = "Example: quorate-node class create quorate-docker-1 image=sha256:… --unit 0.1ether"
JOIN_EXAMPLE = "Example: quorate-node class join 2 quorate-docker-1 image=sha256:… --units 10"


@app.command(epilog=CREATE_EXAMPLE)
def create(
    profile: Annotated[list[str], typer.Argument(help=PROFILE_HELP, show_default=False)],
    unit: Annotated[str | None, typer.Option(help="Stake of a unit: wei, or 1.5ether (the least allowed).")] = None,
    price: Annotated[int, typer.Option(min=1, help="First price, in wei for 1e9 fuel.")] = 10**9,
    judged: Annotated[
        bool | None,
        typer.Option(
            "--judged/--never-judged",
            help="Whether different results cost somebody its stake, by the class's vote; else such a job is void. "
            "Judged unless told, for WebAssembly and for single images.",
        ),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Create a class; anybody may, and its deposit stays locked. Nobody is in it until they join."""
    from quorate_node.cli import commands

    unit_wei = None if unit is None else commands.parse_amount(unit)
    show(commands.create_class(home.expanduser(), profile, unit_wei, price, judged), output)


@app.command(epilog=JOIN_EXAMPLE)
def join(
    class_id: ClassArgument,
    profile: Annotated[
        list[str] | None,
        typer.Argument(help="What its programs are, where that is not known here: only its hash is on chain."),
    ] = None,
    units: Annotated[int, typer.Option(min=1, help="Units of stake to allocate to it.")] = 10,
    ask: Annotated[int | None, typer.Option(min=1, help="Wei for 1e9 fuel that you ask (the class's price).")] = None,
    capacity: Annotated[int, typer.Option(min=1, help="Fuel a second that you offer.")] = 10**9,
    operators: OperatorsOption = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Be drawn for a class from its next era on, with stake that is free. All operators of a farm join.

    Refused for a class that this host cannot run. To join one for a single image is to judge that image deterministic:
    a result that differs from the others' costs stake.
    """
    from quorate_node.cli import commands

    show(commands.join_class(home.expanduser(), class_id, profile or (), units, ask, capacity, operators), output)
    print(DRAWN, file=sys.stderr)


@app.command(epilog="Example: quorate-node class ask 1 2000000000")
def ask(
    class_id: ClassArgument,
    price: Annotated[int, typer.Argument(min=1, help="Wei for 1e9 fuel that you ask.", show_default=False)],
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Ask another price, from the class's next era on. All members get the class's price: the median of their asks."""
    from quorate_node.cli import commands

    show(commands.set_ask(home.expanduser(), class_id, price), output)


@app.command(epilog="Example: quorate-node class leave 2")
def leave(class_id: ClassArgument, home: HomeOption = DEFAULT_HOME, output: OutputOption = Output.TEXT) -> None:
    """Free the stake that a class holds. Keep the node running until its era is over: it may still be drawn."""
    from quorate_node.cli import commands

    show(commands.leave_class(home.expanduser(), class_id), output)


@app.command("list", epilog="Example: quorate-node class list --output json")
def list_(home: HomeOption = DEFAULT_HOME, output: OutputOption = Output.TEXT) -> None:
    """Show all classes: what each is for, its members and terms, and whether this host can run it, or why not."""
    from quorate.cli.classes import render_classes
    from quorate_node.cli import commands
    from quorate_node.cli.tables import tell_class

    found = commands.list_classes(home.expanduser())
    if output is Output.JSON:
        show({"classes": found}, output)
    else:
        print(make_printable(render_classes(found, tell_class), keep="\n"))
