"""How commands speak: results to stdout as text or JSON, everything else to stderr, errors as one line."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import wraps
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from quorate.progress import JobProgress
from quorate.protocol.errors import DataError, QuorateError, ValidationError
from quorate.protocol.params import ETHER
from quorate.terminal import make_printable

stderr = Console(stderr=True, highlight=False)

_P = ParamSpec("_P")
_T = TypeVar("_T")
ETHER_DIGITS = 18
GWEI_DIGITS = 9
PIPED_WIDTH = 120
"""Columns of tables that no terminal shows."""
MAX_AMOUNT = 2**128


class OutputFormat(StrEnum):
    """For `--output`."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[
    OutputFormat, typer.Option("--output", "-o", help="Format of the result on stdout.", show_default=True)
]


def print_result(values: Mapping[str, Any] | list[Any], output: OutputFormat, text: str | None = None) -> None:
    """A command's result: one JSON value, or text (by default `name: value` lines)."""
    if output is OutputFormat.JSON:
        _write(json.dumps(values, indent=2, ensure_ascii=False))
        return
    if text is None:
        rows = values.items() if isinstance(values, Mapping) else ((i, v) for i, v in enumerate(values))
        text = "\n".join(f"{name}: {_show(value)}" for name, value in rows)
    _write(make_printable(text, keep="\n"))


def _write(text: str) -> None:
    """A line on stdout; what is no text, as parts of paths may be, is escaped as JSON escapes it too."""
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")


def make_table(title: str, *columns: str) -> Table:
    """An empty table; a column whose name begins with > is one of numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for column in columns:
        table.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left", overflow="fold"
        )
    return table


def print_tables(shown: Iterable[RenderableType]) -> None:
    """A command's result as tables for people."""
    is_piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(file=sys.stdout, highlight=False, width=PIPED_WIDTH if is_piped else None)
    for each in shown:
        console.print(each)


def _show(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def say(line: str) -> None:
    """Something for people, on stderr."""
    stderr.print(make_printable(line, keep="\n"), markup=False, soft_wrap=True)


def fail(error: QuorateError) -> NoReturn:
    """One line on stderr, and the error's exit code."""
    say(f"quorate: {error}")
    raise typer.Exit(error.exit_code)


def guarded(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """A command whose errors become one line and an exit code: QuorateErrors, and files that cannot be read or written.

    Anything else is a bug and keeps its trace.
    """

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return command(*args, **kwargs)
        except QuorateError as error:
            fail(error)
        except OSError as error:
            if error.filename is None:
                raise
            fail(DataError(f"{error.filename}: {error.strerror}"))
        except KeyboardInterrupt:
            stderr.print("quorate: interrupted", markup=False)
            raise typer.Exit(130) from None

    return run


def parse_amount(text: str) -> int:
    """Wei of `123` or `1.5ether`. Raises ValidationError."""
    number, factor = (text[:-5], ETHER) if text.endswith("ether") else (text, 1)
    try:
        wei = Decimal(number.strip()) * factor
    except InvalidOperation as error:
        raise ValidationError(f"{text!r} is not an amount: give wei, or ether as in 1.5ether") from error
    if wei.is_finite() and wei >= MAX_AMOUNT:
        raise ValidationError(f"{text!r} is more than contracts can count")
    if not wei.is_finite() or wei != int(wei) or wei <= 0:
        raise ValidationError(f"{text!r} is not a whole number of wei above 0")
    return int(wei)


def format_ether(wei: int) -> str:
    """Wei as ether, exactly."""
    return f"{_shift(wei, ETHER_DIGITS)} ether"


def format_amount(wei: int) -> str:
    """Wei in the unit in which it has few digits, exactly: ether from a thousandth of one on, gwei likewise."""
    for unit, digits in (("ether", ETHER_DIGITS), ("gwei", GWEI_DIGITS)):
        if abs(wei) * 1000 >= 10**digits:
            return f"{_shift(wei, digits)} {unit}"
    return f"{wei} wei"


def _shift(wei: int, digits: int) -> str:
    whole, rest = divmod(abs(wei), 10**digits)
    fraction = f".{rest:0{digits}d}".rstrip("0").rstrip(".")
    return f"{'-' if wei < 0 else ''}{whole}{fraction}"


def format_time(timestamp: int) -> str:
    """Unix seconds as a date and a time of day."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@contextlib.contextmanager
def progress(subject: str) -> Iterator[Callable[[JobProgress], None]]:
    """Show a job's steps: a live line on a terminal, plain lines when piped."""
    if not stderr.is_terminal:
        yield lambda step: say(_describe(subject, step))
        return
    done: list[str] = []
    with stderr.status(f"{subject}: signed, waiting for a collator") as status:

        def show(step: JobProgress) -> None:
            done.append(f"{step.stage.value} ({step.detail})" if step.detail else step.stage.value)
            status.update(f"{subject}: {' → '.join(done)}")

        yield show
    say(f"{subject}: {' → '.join(done)}")


def _describe(subject: str, step: JobProgress) -> str:
    detail = f" ({step.detail})" if step.detail else ""
    return f"{subject}: {step.stage.value}{detail}, block {step.block}"


@contextlib.contextmanager
def download_progress() -> Iterator[Callable[[int, int, int], None]]:
    """Show how many parts of a result are here: a bar on a terminal, nothing when piped."""
    if not stderr.is_terminal:
        yield lambda done, total, received: None
        return
    with Progress(TextColumn("fetching"), BarColumn(), TextColumn("{task.description}"), console=stderr) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, received: bar.update(
            task, completed=done, total=total, description=f"{done} of {total} bundles, {received:,} bytes"
        )
