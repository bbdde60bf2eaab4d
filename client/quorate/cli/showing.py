"""How commands that two programs share print their results: one JSON value, or aligned lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from quorate.terminal import make_printable


class Output(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Form of the result on stdout.")]
LongOutputOption = Annotated[Output, typer.Option("--output", help="Form of the result on stdout.")]
"""For commands whose -o is a path."""


def show(values: dict[str, Any], output: Output) -> None:
    """Print a result."""
    if output is Output.JSON:
        print(json.dumps(values))
        return
    rows = list(_flatten(values))
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name:<{width}}  {make_printable(str(value))}")  # names of files need not be text


def show_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows that have the same names as columns below them; what is not there is a dash."""
    if not rows:
        return
    lines = [
        list(rows[0]),
        *(["-" if each is None else make_printable(str(each)) for each in row.values()] for row in rows),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """One line a value: `node.head.number`; a list's items each on a line of their own.

    Those that have parts are named by their `id`, as in `node.classes.2.price`, else numbered if there are several.
    """
    for name, value in values.items():
        for place, item in enumerate(value if isinstance(value, list) else [value], 1):
            if isinstance(item, dict):
                is_numbered = isinstance(value, list) and (len(value) > 1 or "id" in item)
                number = f".{item.get('id', place)}" if is_numbered else ""
                yield from _flatten(item, f"{prefix}{name}{number}.")
            else:
                yield f"{prefix}{name}", item
