"""`quorate-node`: the operator's command line. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import quorate
from quorate.protocol.errors import DataError, QuorateError
from quorate_node.cli import classes, containers, datasets, filecoin, filecoin_provider, operations, programs, store
from quorate_node.cli.options import DEFAULT_HOME, HomeOption, OperatorsOption
from quorate_node.cli.printing import Output, OutputOption, complain, show

app = typer.Typer(
    name="quorate-node",
    help="Run a Quorate node: stake, be drawn, execute, vote, earn.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(value: bool) -> None:
    if value:
        print(quorate.__version__)
        raise typer.Exit


@app.callback()
def configure(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Run a Quorate node: stake, be drawn, execute, vote, earn."""


AmountArgument = Annotated[str, typer.Argument(help="Wei, or ether as in 1.5ether.")]


@app.command(
    epilog="Example: quorate-node init --home node --rpc-url http://127.0.0.1:8545 --deployment deployment.json"
)
def init(
    rpc_url: Annotated[str, typer.Option(help="The chain's JSON-RPC endpoint.")],
    deployment: Annotated[Path, typer.Option(help="File with the contracts' addresses.")],
    home: HomeOption = DEFAULT_HOME,
    listen: Annotated[str, typer.Option(help="HOST:PORT to serve on.")] = "127.0.0.1:8200",
    announce: Annotated[str | None, typer.Option(help="URL under which others reach the node.")] = None,
    passphrase_file: Annotated[Path | None, typer.Option(help="File whose first line is the passphrase.")] = None,
    owner: Annotated[str | None, typer.Option(help="Address that stakes, if it is another key's.")] = None,
    class_id: Annotated[list[int] | None, typer.Option("--class", help="Class to work in; repeat for more.")] = None,
    collator: Annotated[bool, typer.Option(help="Also take orders and post them.")] = False,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    operators: Annotated[int, typer.Option(help="Operators to run, each with a key derived from the keystore's.")] = 1,
    ceiling: Annotated[
        list[str] | None,
        typer.Option(help="NAME=NUMBER, the most of a limit that a job may ask for here, as memory_bytes; repeat."),
    ] = None,
    container_ceiling: Annotated[list[str] | None, typer.Option(help="The same for containers; repeat.")] = None,
    docker_host: Annotated[
        str | None, typer.Option(help="unix://PATH of the daemon for containers (DOCKER_HOST, or Docker's own).")
    ] = None,
    docker_runtime: Annotated[str | None, typer.Option(help="OCI runtime for containers, such as runsc.")] = None,
    docker_registry: Annotated[
        list[str] | None, typer.Option(help="A registry whose images may be pulled; repeat (none).")
    ] = None,
    kubo: Annotated[str | None, typer.Option(help="API of a Kubo daemon that gives content and gets results.")] = None,
    store_bytes: Annotated[
        int | None, typer.Option(min=0, help="The most that the store may take up on its disk (0: what there is).")
    ] = None,
    traffic: Annotated[
        list[str] | None,
        typer.Option(help="NAME=NUMBER, of serve_bytes_s, serve_bytes_day, fetch_bytes_s, fetch_bytes_day; repeat."),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a key and a configuration in the home folder."""
    from quorate_node.cli import commands

    options = commands.InitOptions(
        rpc_url,
        deployment,
        listen,
        announce,
        passphrase_file,
        owner,
        tuple(class_id or (1,)),
        collator,
        workers,
        operators,
        tuple(ceiling or ()),
        tuple(container_ceiling or ()),
        docker_host,
        docker_runtime,
        tuple(docker_registry or ()),
        kubo,
        store_bytes,
        tuple(traffic or ()),
    )
    made = commands.init(home.expanduser(), options)
    show(made, output)
    payer = owner or made["address"]
    print(f"next: send ether to {payer}, then `quorate-node stake` and `quorate-node run`", file=sys.stderr)


@app.command(epilog="Example: quorate-node run --home node --operators 20")
def run(
    home: HomeOption = DEFAULT_HOME,
    operators: OperatorsOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Execute what others were accepted for, and tell in log and status what would have come of it.",
        ),
    ] = False,
    p2p: Annotated[
        str | None,
        typer.Option(help="Find other nodes by libp2p, listening here: /ip4/0.0.0.0/tcp/4001. Written down."),
    ] = None,
    bootstrap: Annotated[
        list[str] | None,
        typer.Option(help="A node by which all others are found: /ip4/…/tcp/…/p2p/IDENTITY; repeat. Written down."),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run the node until it is stopped (Ctrl-C or SIGTERM). Prints one line when it is ready; logs go to stderr."""
    from quorate_node.config import change_config
    from quorate_node.node import run_node

    named = {"p2p_listen": p2p, "bootstrap": bootstrap}
    if changes := {name: value for name, value in named.items() if value}:
        change_config(home.expanduser(), **changes)
    run_node(home.expanduser(), operators=operators, is_dry=dry_run)


@app.command(epilog="Example: quorate-node stake 2ether --units 10 --ask 1000000000000 --capacity 10000000000")
def stake(
    amount: AmountArgument,
    home: HomeOption = DEFAULT_HOME,
    class_id: Annotated[int, typer.Option("--class", help="Class to join with --units.")] = 1,
    units: Annotated[int, typer.Option(min=0, help="Units of stake to allocate to the class; 0: join none.")] = 0,
    ask: Annotated[int, typer.Option(min=1, help="Wei for 1e9 fuel that you ask.")] = 10**12,
    capacity: Annotated[int, typer.Option(min=1, help="Fuel a second that you offer.")] = 10**9,
    operators: OperatorsOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Stake; the first time this registers the operator, with --units it joins a class. A farm stakes for each."""
    from quorate_node.cli import commands

    wei = commands.parse_amount(amount)
    show(commands.stake(home.expanduser(), wei, class_id, units, ask, capacity, operators), output)


@app.command(epilog="Example: quorate-node unstake 2ether --leave")
def unstake(
    amount: AmountArgument,
    leave: Annotated[bool, typer.Option("--leave", help="First leave all classes: their units hold stake.")] = False,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Ask for stake back; it stays slashable until the unbonding period is over."""
    from quorate_node.cli import commands

    show(commands.unstake(home.expanduser(), commands.parse_amount(amount), leave), output)


@app.command(epilog="Example: quorate-node withdraw --to 0x… --sweep")
def withdraw(
    to: Annotated[
        str | None, typer.Option(help="Address that gets it (the owner's; of a farm the first operator's).")
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Also bring all else that the operators' own addresses hold, such as gas.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take unbonded stake out. A farm's other operators have addresses of their own: what they get is sent on."""
    from quorate_node.cli import commands

    show(commands.withdraw(home.expanduser(), to, sweep), output)


@app.command(epilog="Example: quorate-node deposit 1ether")
def deposit(
    amount: Annotated[str | None, typer.Argument(help="Wei, or 1.5ether; without it: what there is.")] = None,
    back: Annotated[bool, typer.Option("--back", help="Take the amount out again.")] = False,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """A collator's deposit: each batch that it posts locks a bond of it, and its fees are paid into it."""
    from quorate_node.cli import commands, deposits

    wei = None if amount is None else commands.parse_amount(amount)
    show(deposits.change(home.expanduser(), wei, is_back=back), output)


@app.command(epilog="Example: quorate-node rejoin")
def rejoin(home: HomeOption = DEFAULT_HOME, output: OutputOption = Output.TEXT) -> None:
    """Be drawn again after a jail, which follows an era in which too many seats failed."""
    from quorate_node.cli import commands

    show(commands.rejoin(home.expanduser()), output)


@app.command(epilog="Example: quorate-node status --output json")
def status(
    of: Annotated[
        int | None, typer.Option(min=1, metavar="OPERATOR", help="What another operator's node says of itself.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show stake and classes by the chain, and what the running node says: also why it gets no work."""
    from quorate_node.cli import asking, commands

    if of is not None:
        show(asking.ask_operator(home.expanduser(), of), output)
        return
    found = commands.status(home.expanduser())
    if output is Output.JSON:
        show(found, output)
        return
    operators: list[dict[str, Any]] = found.pop("operators")
    if len(operators) > 1:
        from quorate.cli.output import print_tables
        from quorate_node.cli.tables import render_operators

        print_tables([render_operators(operators)])
        found = {name: found[name] for name in ("url", "node", "why_no_work")}
    why = found.pop("why_no_work") or "nothing is amiss: whom an order draws is chance, by units of stake"
    node = found.pop("node") or "does not answer: `quorate-node run` starts it"
    show(found | {"node": node, "why_no_work": why}, output)


operations.register(app)
programs.register(app)
store.register(app)
app.add_typer(classes.app, name="class")
app.add_typer(containers.app, name="docker")
app.add_typer(datasets.app, name="dataset")
app.add_typer(filecoin.app, name="filecoin")
app.add_typer(filecoin_provider.app, name="filecoin-provider")


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    sys.exit(report(lambda: app(argv, standalone_mode=True)))


def report(action: Callable[[], Any]) -> int:
    """Run a command; what Quorate raises on purpose, and a file that cannot be read or written, becomes one line on
    stderr and an exit code."""
    try:
        action()
    except QuorateError as error:
        complain(error)
        return error.exit_code
    except OSError as error:
        if error.filename is None:
            raise
        refused = DataError(f"{error.filename}: {error.strerror}")
        complain(refused)
        return refused.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    main()
