"""`quorate`: the requester's command line."""

from __future__ import annotations

from typing import Annotated

import typer

import quorate
from quorate.cli import (  # retrying: for job
    account,
    classes,
    containers,
    deploy,
    devnet,
    job,
    retrying,  # noqa: F401  (adds its command to `job`)
    wasm,
)
from quorate.cli.common import HomeOption, KeystoreOption, RpcOption, StoreOption, remember
from quorate.cli.filecoin import requester

app = typer.Typer(
    name="quorate",
    help="Run programs on an open marketplace, and get results that a staked committee agreed on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: quorate devnet up && quorate wasm run program.wasm -i scene/ --wait",
)
app.add_typer(devnet.app, name="devnet")
app.add_typer(wasm.app, name="wasm")
app.add_typer(containers.docker, name="docker")
app.add_typer(containers.image, name="image")
app.add_typer(job.app, name="job")
app.add_typer(classes.app, name="class")
app.add_typer(account.app, name="account")
app.add_typer(requester.app, name="filecoin")
app.command(epilog="Example: quorate --rpc-url https://rpc.example deploy --preset production")(deploy.deploy)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(quorate.__version__)
        raise typer.Exit


@app.callback()
def configure(
    home: HomeOption = None,
    rpc_url: RpcOption = None,
    keystore: KeystoreOption = None,
    store: StoreOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options for all commands; quorate.config names the environment variables."""
    remember(home, rpc_url, keystore, store)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
