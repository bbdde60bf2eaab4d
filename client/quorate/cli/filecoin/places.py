"""Which program runs the `filecoin` commands, and where it keeps what they read: each says so when it is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.piecetree import ComputeNode
from quorate.filecoin.retrieval.options import ReaderOptions

FOLDER = "filecoin"
HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Folder of the wallet, the limits and the store.", show_default=False)
]
PassphraseOption = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="File whose first line opens the wallet's keystore.", show_default=False),
]


@dataclass(frozen=True, slots=True)
class Program:
    """`name` is what its users type. `find_home` gives the home for what --home says, `get_store` its content store's
    folder, `get_options` what is configured of reading, `get_passphrase` a passphrase (from a file, if one is named;
    True: a new one), and `hashing` what computes the nodes of pieces, while it lasts; `hash_parts` computes the piece
    of a stream with so many threads, and `progress` shows how far a file is."""

    name: str
    find_home: Callable[[Path | None], Path]
    get_store: Callable[[Path], Path]
    get_options: Callable[[Path], ReaderOptions]
    get_passphrase: Callable[[Path | None, bool], bytes]
    hashing: Callable[[], AbstractContextManager[ComputeNode]]
    hash_parts: Callable[[Iterable[bytes], Callable[[bytes], None], int | None], PieceCid]
    progress: Callable[[str, int | None], AbstractContextManager[Callable[[int], None] | None]]


_programs: list[Program] = []


def register(program: Program) -> None:
    """From now on the commands run as this program's."""
    _programs[:] = [program]


def get_program() -> Program:
    """The program that runs."""
    assert _programs, "register() comes before any command"
    return _programs[0]


def find_folder(home: Path | None) -> Path:
    """HOME/filecoin."""
    return (home.expanduser() if home is not None else get_program().find_home(None)) / FOLDER
