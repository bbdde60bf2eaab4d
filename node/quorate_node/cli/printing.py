"""How the commands print their results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer


class Output(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Form of the result on stdout.")]


def show(values: dict[str, Any], output: Output) -> None:
    """Print a result."""
    if output is Output.JSON:
        print(json.dumps(values))
        return
    rows = list(_flatten(values))
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        text = f"{name:<{width}}  {value}"
        print(text.encode("utf-8", "backslashreplace").decode())  # names of files need not be text


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """One line a value: `node.head.number`; a list's items each on a line of their own, numbered if they have parts."""
    for name, value in values.items():
        for place, item in enumerate(value if isinstance(value, list) else [value], 1):
            if isinstance(item, dict):
                number = f".{place}" if isinstance(value, list) and len(value) > 1 else ""
                yield from _flatten(item, f"{prefix}{name}{number}.")
            else:
                yield f"{prefix}{name}", item
