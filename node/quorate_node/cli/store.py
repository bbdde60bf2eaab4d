"""`quorate-node store …`: content in a folder, with no chain, no key and no stake."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.terminal import make_printable
from quorate_node.cli.options import DEFAULT_HOME, HomeOption, StoreOption
from quorate_node.cli.printing import Output, OutputOption, show

app = typer.Typer(
    help="Content by its CID, in a folder that nodes, gateways and these commands may use at the same time.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
pins = typer.Typer(help="What `store gc` keeps.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(pins, name="pin")

PathArgument = Annotated[
    str, typer.Argument(metavar="CID[/PATH]", help="Content, as /ipfs/CID/PATH too.", show_default=False)
]
CidArgument = Annotated[str, typer.Argument(metavar="CID", help="Root of the content.", show_default=False)]
PinOption = Annotated[bool, typer.Option("--pin/--no-pin", help="Keep it when `store gc` makes room.")]

ADD_EPILOG = """Examples: quorate-node store add photos --store data
tar c photos | quorate-node store add - --profile unixfs-v0-2015 --output json"""
GET_EPILOG = """Examples: quorate-node store get bafy… photos
quorate-node store get bafy…/2026/one.tif - | sha256sum"""


@app.command(epilog=ADD_EPILOG)
def add(
    path: Annotated[str, typer.Argument(metavar="PATH|-", help="File or folder; - is standard input.")],
    profile: Annotated[
        str, typer.Option(help="How a CID is made: unixfs-v1-2025 or unixfs-v0-2015.")
    ] = "unixfs-v1-2025",
    copy: Annotated[bool, typer.Option("--copy", help="Copy files, so that they may change or go.")] = False,
    only_hash: Annotated[bool, typer.Option("--only-hash", help="Tell the CID, and keep nothing.")] = False,
    pin: PinOption = True,
    store: StoreOption = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Add a file, or a folder with all that is in it, and tell its CID.

    Files over 64 KiB are not copied but referred to: they must stay as they are, and are checked at every reading.
    Symbolic links and special files are refused. Interrupted, it keeps what it took; given again it goes on from there.
    """
    from quorate_node.cli import storing

    if only_hash:
        show(storing.hash_only(path, profile), output)
        return
    with storing.opened(store, home, creates=True) as found:
        show(storing.add(found, path, profile, copy=copy, pin=pin), output)


@app.command(epilog=GET_EPILOG)
def get(
    content: PathArgument,
    dest: Annotated[
        str | None, typer.Argument(metavar="[DEST|-]", help="Where to; - is standard output.", show_default=False)
    ] = None,
    max_bytes: Annotated[int | None, typer.Option(min=0, help="Refuse more than this.")] = None,
    store: StoreOption = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Write a file or a folder, every block checked. DEST (by default its name, here) appears whole or not at all."""
    from quorate_node.cli import storing

    with storing.opened(store, home) as found:
        done = storing.get(found, content, dest, max_bytes)
    if dest != "-":
        show(done, output)


@app.command("import", epilog="Example: quorate-node store import data.car --output json")
def import_(
    car: Annotated[str, typer.Argument(metavar="CAR|-", help="A CARv1 file; - is standard input.")],
    partial: Annotated[
        bool, typer.Option("--partial", help="Also take a CAR that lacks a part of its roots' content.")
    ] = False,
    pin: PinOption = True,
    store: StoreOption = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take all blocks of a CAR, in whatever order, each checked, and pin its roots.

    What was good before an error stays, unpinned.
    """
    from quorate_node.cli import storing

    with storing.opened(store, home, creates=True) as found:
        show(storing.import_car(found, car, partial=partial, pin=pin), output)


@app.command(epilog="Example: quorate-node store export bafy… data.car")
def export(
    content: PathArgument,
    dest: Annotated[str, typer.Argument(metavar="CAR|-", help="File to write; - is standard output.")],
    store: StoreOption = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Write content with everything below it as a CARv1, depth first, each block once."""
    from quorate_node.cli import storing

    with storing.opened(store, home) as found:
        done = storing.export(found, content, dest)
    if dest != "-":
        show(done, output)


@app.command(epilog="Example: quorate-node store ls bafy…/2026 --recursive --output json")
def ls(
    content: Annotated[
        str | None, typer.Argument(metavar="[CID[/PATH]]", help="A directory; without it, what is pinned.")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Also what is below.")] = False,
    store: StoreOption = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """List a directory: CID, bytes, kind and name. Without one, list the pinned roots and whether they are whole."""
    from quorate_node.cli import storing

    with storing.opened(store, home) as found:
        if content is None:
            show({"pins": storing.list_pins(found)}, output)
            return
        rows = storing.list_entries(found, content, recursive=recursive)
        if output is Output.JSON:
            show({"cid": content, "entries": list(rows)}, output)
            return
        for row in rows:
            print(f"{row['cid']}  {row['size']:>14}  {row['kind']:<9}  {make_printable(row['name'])}")


@app.command(epilog="Example: quorate-node store stat bafy… --output json")
def stat(
    content: Annotated[
        str | None, typer.Argument(metavar="[CID[/PATH]]", help="Content; without it, the store itself.")
    ] = None,
    store: StoreOption = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell what a store holds, or how large content is and whether it is here whole."""
    from quorate_node.cli import storing

    with storing.opened(store, home) as found:
        if content is not None:
            show(storing.describe(found, content), output)
        else:
            show({"store": str(found.directory)} | found.stats()._asdict(), output)


@app.command(epilog="Example: quorate-node store gc --dry-run")
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for a pause of those who add.")] = 10.0,
    store: StoreOption = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove what is neither pinned nor held for a job: inputs and results of jobs are held for 14 days.

    Others may use the store meanwhile. Files that were added by reference are never touched.
    """
    from quorate_node.cli import storing

    with storing.opened(store, home) as found:
        done = storing.collect(found, wait_s=wait, is_dry=dry_run)
    show({"dry_run": dry_run} | done, output)
    for root in done["incomplete"]:
        print(f"note: {root} is kept, but a part of it is missing: fetch it again", file=sys.stderr)


@pins.command("add", epilog="Example: quorate-node store pin add bafy…")
def pin_add(
    content: PathArgument,
    store: StoreOption = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Keep content that is here whole."""
    from quorate_node.cli import storing

    with storing.opened(store, home) as found:
        show(storing.pin(found, content), output)


@pins.command("rm", epilog="Example: quorate-node store pin rm bafy…")
def pin_rm(
    content: CidArgument,
    store: StoreOption = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let `store gc` remove content again, unless another pin or a job needs it."""
    from quorate_node.cli import storing

    with storing.opened(store, home) as found:
        show(storing.unpin(found, content), output)


@pins.command("list", epilog="Example: quorate-node store pin list --output json")
@pins.command("ls", hidden=True)
def pin_list(store: StoreOption = None, home: HomeOption = DEFAULT_HOME, output: OutputOption = Output.TEXT) -> None:
    """List what is pinned, and whether it is here whole."""
    from quorate_node.cli import storing

    with storing.opened(store, home) as found:
        pinned: list[dict[str, Any]] = storing.list_pins(found)
    show({"pins": pinned}, output)


def gateway(
    store: StoreOption = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT to serve on; port 0 takes a free one.")] = "127.0.0.1:8080",
    api: Annotated[
        bool, typer.Option("--api", help="Also let programs on this host add and pin, by the RPC of Kubo.")
    ] = False,
    max_upload: Annotated[int, typer.Option(min=1, help="Most bytes of one upload by --api.")] = 16 << 30,
    deny: Annotated[
        Path | None, typer.Option(help="File of CIDs, one a line, that nobody gets.", show_default=False)
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TEXT,
) -> None:
    """Serve a store over HTTP, with no chain, no key and no stake, until Ctrl-C or SIGTERM.

    A trustless gateway at /ipfs/, which gives blocks and CARs that whoever fetches them can verify; on loopback also
    the part of Kubo's RPC at /api/v0/ that reads, and with --api the part that writes. Prints a line when it is ready.
    """
    from quorate_node.cli import serving, storing

    options = serving.Options(listen, api, max_upload, deny)
    with storing.opened(store, home, creates=True) as found:
        serving.serve(found, options, lambda ready: show(ready, output))


def register(main: typer.Typer) -> None:
    """Add the commands."""
    main.add_typer(app, name="store")
    main.command(epilog="Example: quorate-node gateway --store data --listen 127.0.0.1:8080")(gateway)
