"""How the commands print their results, and what is wrong."""

from __future__ import annotations

import sys

from quorate.cli.showing import Output, OutputOption, show
from quorate.terminal import make_printable

__all__ = ["LINES", "Output", "OutputOption", "complain", "show"]

LINES = "\n\t"


def complain(problem: object) -> None:
    """Say on standard error what is wrong; some of it may be in others' words."""
    print(f"error: {make_printable(str(problem), keep=LINES)}", file=sys.stderr)
