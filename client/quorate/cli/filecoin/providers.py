"""`filecoin providers list | add | remove | ban | unban`: who is asked for data, and who is not."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.chain.types import parse_address, to_hex
from quorate.cli.filecoin.places import HomeOption, find_folder
from quorate.cli.showing import Output, OutputOption, show
from quorate.filecoin.retrieval.book import ProvidersBook, check_provider

UrlArgument = Annotated[str, typer.Argument(metavar="URL")]


def list_(home: HomeOption = None, output: OutputOption = Output.TEXT) -> None:
    """Show them, and who is banned, since when and why; times in unix seconds, `until` 0 for ever."""
    show(_describe(home), output)


def add(
    url: UrlArgument,
    payee: Annotated[str | None, typer.Option(help="Pay it at this account alone, 0x….", show_default=False)] = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Ask a provider, also one in one's own network; again, to name another account."""
    _open(home).add(url, to_hex(parse_address(payee)) if payee is not None else None)
    show(_describe(home), output)


def remove(url: UrlArgument, home: HomeOption = None, output: OutputOption = Output.TEXT) -> None:
    """Ask a provider no more, unless an index names it."""
    _open(home).remove(url)
    show(_describe(home), output)


def ban(
    name: Annotated[str, typer.Argument(metavar="URL|ACCOUNT")],
    reason: Annotated[str, typer.Option(help="Why, for whoever reads the list.")] = "by hand",
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Never ask a provider again, nor pay to an account."""
    known = to_hex(parse_address(name)) if name.startswith("0x") else check_provider(name)
    _open(home).ban(known, reason=reason)
    show(_describe(home), output)


def unban(
    name: Annotated[str, typer.Argument(metavar="URL|ACCOUNT")],
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Ask a provider again."""
    _open(home).unban(name)
    show(_describe(home), output)


def _open(home: Path | None) -> ProvidersBook:
    return ProvidersBook(find_folder(home))


def _describe(home: Path | None) -> dict[str, Any]:
    book = _open(home)
    return {
        "providers": [asdict(each) for each in book.named()],
        "bans": [asdict(each) for each in book.bans()],
    }
