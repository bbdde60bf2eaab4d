"""Options that several groups of commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_HOME = Path("~/.quorate/node")

HomeOption = Annotated[Path, typer.Option("--home", help="The node's folder.", envvar="QUORATE_NODE_HOME")]
OperatorsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Operators of this home from now on, each with a key derived from the keystore's."),
]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="The store's folder (store in --home).", show_default=False),
]
