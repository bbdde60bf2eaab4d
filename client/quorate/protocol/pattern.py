"""Which paths a job takes: a small pattern language with one meaning on every node, whatever its Python.

    pattern = item+                       at most MAX_PATTERN_BYTES bytes of UTF-8
    item    = "*"                         any characters, also none, also "/"
            | "?"                         one character, also "/"
            | "[" ["!"] member+ "]"       one character that is ("!": is not) among the members
            | any other character         itself
    member  = character "-" character     from the first to the second, by code point
            | character                   itself; a "-" that has no character on both sides is one, too

Inside brackets only "]" is special, and ends them: "[*]" is a star, "[[]" a bracket. There is no escape character.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from quorate.protocol.errors import ValidationError

MAX_PATTERN_BYTES = 255


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression whose `match` accepts exactly the pattern's paths. ValidationError for what is no pattern.

    What follows a star is taken where it first fits, and never tried elsewhere (an atomic group): every piece between
    stars has one length, so that a later place could not help. Steps are at most path times pattern length.
    """
    if not pattern or len(pattern.encode("utf-8", "surrogatepass")) > MAX_PATTERN_BYTES:
        raise ValidationError(f"a pattern has 1 to {MAX_PATTERN_BYTES} bytes, such as '*.tif': not {pattern[:80]!r}")
    pieces = [""]
    for item in _items(pattern):
        if item == "*":
            pieces.append("")
        else:
            pieces[-1] += item
    first, *rest = pieces
    if not rest:
        return re.compile(rf"{first}\Z", re.DOTALL)
    *middle, last = rest
    inner = "".join(f"(?>.*?{piece})" for piece in middle if piece)
    return re.compile(rf"{first}{inner}.*{last}\Z", re.DOTALL)


def _items(pattern: str) -> Iterator[str]:
    """Each item as a regular expression of one character; a star as itself."""
    at = 0
    while at < len(pattern):
        sign = pattern[at]
        at += 1
        if sign == "*":
            yield "*"
        elif sign == "?":
            yield "."
        elif sign == "[":
            end = pattern.find("]", at)
            if end < 0:
                raise ValidationError(f"the pattern {pattern!r} has a '[' without its ']': a bracket itself is '[[]'")
            yield _bracket(pattern, pattern[at:end])
            at = end + 1
        else:
            yield re.escape(sign)


def _bracket(pattern: str, body: str) -> str:
    negated, members = body.startswith("!"), body.removeprefix("!")
    if not members:
        raise ValidationError(f"the pattern {pattern!r} has brackets without a character in them")
    found, at = "", 0
    while at < len(members):
        first = last = members[at]
        if members[at + 1 : at + 2] == "-" and at + 2 < len(members):
            last = members[at + 2]
            at += 2
        at += 1
        if first > last:
            raise ValidationError(f"the pattern {pattern!r} has the range {first}-{last} backwards")
        found += f"{_code(first)}-{_code(last)}"
    return f"[{'^' if negated else ''}{found}]"


def _code(character: str) -> str:
    return f"\\U{ord(character):08x}"
