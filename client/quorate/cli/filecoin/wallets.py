"""`filecoin wallet attach | show`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.cli.filecoin.places import HomeOption, find_folder, get_program
from quorate.cli.showing import Output, OutputOption, show
from quorate.filecoin import wallet
from quorate.filecoin.secrecy import forbid_dumps


def attach(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="Keystore of version 3, or what `lotus wallet export` prints.")
    ],
    passphrase_file: Annotated[
        Path | None,
        typer.Option(help="File whose first line opens the keystore, or is to close it.", show_default=False),
    ] = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Keep a key as this home's wallet, in HOME/filecoin/wallet.json of mode 0600. One wallet a home."""
    forbid_dumps()
    content = sys.stdin.buffer.read(wallet.MAX_FILE_BYTES) if file == "-" else None
    about = wallet.attach(
        find_folder(home),
        file,
        lambda is_new: get_program().get_passphrase(passphrase_file, is_new),
        content=content,
        passphrase_file=passphrase_file,
    )
    show(_describe(about), output)


def show_(home: HomeOption = None, output: OutputOption = Output.TEXT) -> None:
    """Print the wallet's addresses; its key is neither needed nor opened."""
    show(_describe(wallet.read_about(find_folder(home))), output)


def _describe(about: wallet.About) -> dict[str, Any]:
    return {
        "ethereum": about.ethereum,
        "f410": about.f410,
        "t410": "t" + about.f410[1:],
        "origin": about.origin,
        "f1": about.f1,
        "passphrase_file": about.passphrase_file,
        "note": about.note,
    }
