"""`filecoin address | piece-cid`: without chain, wallet or network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate.cli.showing import Output, OutputOption, show


def address(
    text: Annotated[str, typer.Argument(metavar="ADDRESS", help="f0 to f4, t0 to t4, or 0x…")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Print every form of an address, or say what is wrong with it."""
    from quorate.cli.filecoin import commands

    show(commands.describe_address(text), output)


def piece_cid(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="File; - is standard input.")],
    nodes: Annotated[
        Path | None,
        typer.Option(
            help="Also write the tree's nodes over chunks of 1,040,384 bytes, 32 bytes each, to this file: with them "
            "any chunk can be checked by itself.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=64, help="Threads that hash (one a core).", show_default=False)
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print a file's piece CID of version 1 and 2 and its padded size; holds a few MiB of it, however large it is."""
    from quorate.cli.filecoin import commands

    show(commands.compute_piece_cid(file, nodes, threads), output)
