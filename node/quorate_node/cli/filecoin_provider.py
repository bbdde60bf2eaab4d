"""`quorate-node filecoin-provider run | add | price | status`: give data, free or for money."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate_node.cli.printing import Output, OutputOption, show

app = typer.Typer(
    help="A retrieval provider: files, folders and CARs by piece CID and by IPFS CID, free or paid.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
DEFAULT_HOME = Path("~/.quorate/filecoin-provider")
HomeOption = Annotated[Path, typer.Option("--home", help="The provider's folder.", envvar="QUORATE_PROVIDER_HOME")]
PRICE = "Base units of the token for a MiB (2^20 bytes), in digits alone; 0 is free."


@app.command(epilog="Example: quorate-node filecoin-provider add tiles --price-per-mib 1000000000000000")
def add(
    content: Annotated[str, typer.Argument(metavar="PATH|CID", help="A file, a folder, a .car, or a root CID.")],
    price_per_mib: Annotated[str, typer.Option(help=PRICE)] = "0",
    piece: Annotated[
        bool, typer.Option("--piece", help="The file's own bytes are the piece, as those of a .car always are.")
    ] = False,
    source: Annotated[
        str | None,
        typer.Option("--from", help="A CID's store: a folder, or a Kubo daemon's API.", show_default=False),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Put content on sale, or give it away. Large files stay where they are; their piece is the CAR of their DAG. A
    provider that runs has it at once; what is there already gets the new price."""
    from quorate_node.cli import filecoin_providing

    show(filecoin_providing.add(home.expanduser(), content, price_per_mib, source, is_piece=piece), output)


@app.command(epilog="Example: quorate-node filecoin-provider price bafybei… 0")
def price(
    cid: Annotated[str, typer.Argument(metavar="CID", help="Root or piece CID of a dataset.")],
    price_per_mib: Annotated[str, typer.Argument(metavar="N", help=PRICE)],
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Change a price. Whoever has begun to read keeps the old one until its terms end, a day later at most."""
    from quorate_node.cli import filecoin_providing

    show(filecoin_providing.set_price(home.expanduser(), cid, price_per_mib), output)


@app.command(epilog="Example: quorate-node filecoin-provider status --output json")
def status(home: HomeOption = DEFAULT_HOME, output: OutputOption = Output.TEXT) -> None:
    """Show datasets and prices, and what was taken, delivered and redeemed on every rail."""
    from quorate_node.cli import filecoin_providing

    show(filecoin_providing.describe(home.expanduser()), output)


@app.command(epilog="Example: quorate-node filecoin-provider run --network network.json --key-file key.json")
def run(
    listen: Annotated[str, typer.Option(help="HOST:PORT to serve on; port 0 takes a free one.")] = "127.0.0.1:8300",
    announce: Annotated[str | None, typer.Option(help="URL under which others reach it.", show_default=False)] = None,
    network: Annotated[
        Path | None,
        typer.Option(help="File with endpoint and contracts; kept. Without one: free data.", show_default=False),
    ] = None,
    rpc: Annotated[str | None, typer.Option(help="Another endpoint of that chain.", show_default=False)] = None,
    payee: Annotated[
        str | None, typer.Option(help="Account that gets the money (the key's).", show_default=False)
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Keystore of the key that sends transactions.", show_default=False)
    ] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="File whose first line is the passphrase.", show_default=False)
    ] = None,
    deny: Annotated[
        Path | None, typer.Option(help="File of CIDs that are not served, one a line.", show_default=False)
    ] = None,
    redeem_every: Annotated[float, typer.Option(min=1, help="Seconds after which vouchers are redeemed.")] = 600.0,
    watch_every: Annotated[
        float, typer.Option(min=0.1, help="Seconds between looks at rails, in case one was closed.")
    ] = 15.0,
    min_lockup_period: Annotated[
        int, typer.Option(min=1, help="Epochs that a rail has to stay redeemable after it was closed.")
    ] = 20,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Serve until Ctrl-C or SIGTERM; then redeem all vouchers. Prints one line when it is ready; logs go to stderr."""
    from quorate_node.cli import filecoin_providing
    from quorate_node.filecoin.provider.service import Options, run_provider

    host, port = filecoin_providing.parse_listen(listen)
    options = Options(
        home.expanduser(), host, port, announce, network, rpc, payee, key_file, passphrase_file, deny, redeem_every,
        watch_every, min_lockup_period,
    )  # fmt: skip
    run_provider(options)
