"""`quorate class list`, and how classes are told to requesters and operators alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from quorate.cli.common import get_config
from quorate.cli.output import OutputFormat, OutputOption, format_amount, format_time, guarded, print_result
from quorate.cli.submitting import AdversaryOption, ConfidenceOption, RoundsOption, SeatsOption
from quorate.orders import OrderWishes
from quorate.protocol.profiles import Description
from quorate.sdk import QuorateClient

app = typer.Typer(help="Classes: who is drawn for which kind of programs.", no_args_is_help=True)


@app.callback()
def classes() -> None:
    """Keep `list` a command of its own."""


@app.command("list", epilog="Example: quorate class list --output json")
@guarded
def list_(
    description: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DESCRIPTION",
            help='What a class may be for, as "quorate-docker-1 image=sha256:…": on chain is only its hash.',
        ),
    ] = None,
    seats: SeatsOption = None,
    confidence: ConfidenceOption = None,
    adversary: AdversaryOption = 0.1,
    rounds: RoundsOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show all classes: what each is for, who is in it, and whether it is taken for an order that names none.

    That depends on the order's seats, or confidence. Of classes for one image or dataset those are told by name that
    our jobs could use, that our config's `profiles` has, or that are given here.
    """
    wishes = OrderWishes(seats=seats, rounds=rounds, confidence=confidence, adversary=adversary)
    with QuorateClient.open(get_config()) as client:
        rows = client.classes(wishes, [Description.parse(text) for text in description or ()])
    print_result(rows, output, render_classes(rows, _tell))


def _tell(row: Mapping[str, Any]) -> str:
    if row["unnamed"]:
        return "taken where an order names no class"
    return f"only if it is named, with --class {row['class']}: {row['why']}"


def render_classes(rows: Sequence[Mapping[str, Any]], tell: Callable[[Mapping[str, Any]], str]) -> str:
    """Classes as text, with `tell(row)` as each one's last line; what is to be copied is never cut."""
    return "\n".join(line for row in rows for line in (*_list_lines(row), f"    {tell(row)}"))


def _list_lines(row: Mapping[str, Any]) -> list[str]:
    meant = row["description"] or f"a description whose hash is {row['profile']}"
    members = f"{row['members']} members with {row['units']} units of {format_amount(row['unit_wei'])}"
    drawn = f"{row['drawn_members']} drawn in this era, with {format_amount(row['stake_wei'])}"
    judged = "judged by its members" if row["judged"] else "never judged"
    return [
        f"class {row['class']}  {meant}",
        f"    {members}; {drawn}",
        f"    {judged}; {format_amount(row['price'])} for 1e9 fuel; its era until {format_time(row['era_end'])}",
    ]
