"""`quorate devnet`: a whole network on this machine."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from quorate.cli.common import get_config
from quorate.cli.output import OutputFormat, OutputOption, guarded, print_result, say
from quorate.protocol.errors import ConfigurationError
from quorate.protocol.profiles import Description

app = typer.Typer(help="A local network: chain, contracts, operators' nodes, and a requester with a deposit.")

UP_EXAMPLE = "Example: quorate devnet up --nodes 10"
DOWN_EXAMPLE = "Example: quorate devnet down"
STATUS_EXAMPLE = "Example: quorate devnet status --output json"


@app.command(epilog=UP_EXAMPLE)
@guarded
def up(
    nodes: Annotated[int, typer.Option(min=0, max=500, help="Nodes to start.")] = 10,
    operators_per_node: Annotated[int, typer.Option(min=1, max=500, help="Operators that a node runs.")] = 1,
    collators: Annotated[int, typer.Option(min=0, help="How many nodes take orders, too.")] = 1,
    block_time: Annotated[float, typer.Option(help="Seconds between blocks.")] = 0.25,
    chain_id: Annotated[int, typer.Option(min=1, help="Chain id.")] = 31337,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the chain; 0 takes a free one.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Jobs that a node executes at once.")] = 1,
    profile: Annotated[
        list[str] | None,
        typer.Option(help="A further class for all nodes: 'quorate-docker-1', or with ' image=sha256:…'; repeat."),
    ] = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Start a network and leave it running; `quorate wasm run` then works without further settings."""
    from quorate.devnet import Devnet, DevnetOptions

    home = get_config().devnet
    options = DevnetOptions(
        home=home,
        nodes=nodes,
        operators_per_node=operators_per_node,
        collators=frozenset(range(min(collators, nodes))),
        block_time_s=block_time,
        chain_id=chain_id,
        rpc_port=port,
        workers=workers,
        detach=True,
        profiles=tuple(map(Description.parse, profile or ())),
    )
    devnet = Devnet(options, say).start()
    found = {
        "home": str(home),
        "rpc_url": devnet.rpc_url,
        "chain_id": chain_id,
        "collators": devnet.collator_urls,
        "requester": f"0x{devnet.requester.address.hex()}",
        "nodes": [node.url for node in devnet.nodes],
        "operators": options.operators,
        "classes": {class_id: str(description) for class_id, description in options.classes.items()},
        "seconds": devnet.seconds["nodes"],
    }
    devnet.gateway.close()
    seconds = f"{devnet.seconds['nodes']:.1f}"
    who = f"{nodes} nodes" if operators_per_node == 1 else f"{nodes} nodes with {options.operators} operators"
    text = f"{who} on chain {chain_id} at {devnet.rpc_url}, ready after {seconds} s; files in {home}"
    print_result(found, output, text)


@app.command(epilog=DOWN_EXAMPLE)
@guarded
def down(output: OutputOption = OutputFormat.TEXT) -> None:
    """End exactly the processes that `up` started."""
    from quorate.devnet import stop_devnet

    stopped = stop_devnet(get_config().devnet)
    print_result({"stopped": stopped}, output, f"{stopped} processes ended" if stopped else "no devnet runs here")


@app.command(epilog=STATUS_EXAMPLE)
@guarded
def status(output: OutputOption = OutputFormat.TEXT) -> None:
    """Show what runs."""
    from quorate.devnet import load_state

    home = get_config().devnet
    state = load_state(home)
    if state is None:
        raise ConfigurationError(f"no devnet in {home}: start one with `quorate devnet up`")
    found = state.describe()
    rows = [f"anvil   {_word(found['anvil']['running'])}  {state.rpc_url}"]
    rows += [f"node-{n['index']:<3}{_word(n['running'])}  {n['url']}  {_name_operators(n)}" for n in found["nodes"]]
    print_result(found, output, "\n".join(rows))


def _name_operators(node: dict[str, Any]) -> str:
    first, count = node["operator_id"], node["operators"]
    return f"operator {first}" if count == 1 else f"operators {first} to {first + count - 1}"


def _word(running: bool) -> str:
    return "running" if running else "ended  "
