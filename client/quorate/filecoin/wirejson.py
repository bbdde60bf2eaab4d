"""JSON of the other side's, read field by field, and strictly: whatever is not what it has to be raises WireError."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from quorate.filecoin.addresses import to_checksummed
from quorate.filecoin.spending import MAX_AMOUNT
from quorate.filecoin.terms import WireError

MAX_HEADER_CHARS = 16 * 1024
MAX_TEXT_CHARS = 2048
_AMOUNT = re.compile(r"0|[1-9][0-9]{0,77}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_HEX = re.compile(r"0x(?:[0-9a-f]{2})*")


def parse_header(name: str, header: str | None) -> Fields:
    """The object in a header, which is its base64. Raises WireError."""
    if header is None:
        raise WireError(name, "the header is missing")
    if len(header) > MAX_HEADER_CHARS:
        raise WireError(name, f"{len(header)} characters are more than {MAX_HEADER_CHARS}")
    try:
        raw = base64.b64decode(header.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise WireError(name, f"it is not base64 (standard alphabet, padded): {error}") from None
    if base64.b64encode(raw).decode() != header:
        raise WireError(name, "it is not base64 in its one spelling")
    return parse_json(name, raw)


def parse_json(name: str, raw: bytes) -> Fields:
    """One object, of which no name stands twice and no number has a fraction. Raises WireError."""
    try:
        text = raw.decode("utf-8")
        values = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_refuse)
    except (ValueError, RecursionError) as error:
        raise WireError(name, f"it does not hold JSON: {str(error)[:200]}") from None
    return Fields(values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _refuse(text: str) -> Any:
    raise ValueError(f"{text[:40]} is no whole number")


class Fields:
    """One JSON object of the other side's, read field by field; `at` says where it stands."""

    def __init__(self, values: object, at: str = "") -> None:
        self._at = at
        if not isinstance(values, dict):
            raise WireError(at or "header", f"a JSON object is needed, not {show(values)}")
        self._values: Mapping[str, Any] = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def fail(self, name: str, problem: str) -> NoReturn:
        """Raise WireError about a field."""
        raise WireError(f"{self._at}.{name}" if self._at else name, problem)

    def get(self, name: str) -> Any:
        """Whatever it is. Raises WireError when it is missing, as all below do."""
        if name not in self._values:
            self.fail(name, "it is missing")
        return self._values[name]

    def below(self, name: str) -> Fields:
        """An object within."""
        return Fields(self.get(name), f"{self._at}.{name}" if self._at else name)

    def text(self, name: str, pattern: re.Pattern[str] | None = None, what: str = "a text") -> str:
        """A text of a form."""
        value = self.get(name)
        if not isinstance(value, str) or len(value) > MAX_TEXT_CHARS:
            self.fail(name, f"{what} is needed, not {show(value)}")
        if not value.isprintable() or (pattern is not None and not pattern.fullmatch(value)):
            self.fail(name, f"{what} is needed, not {show(value)}")
        return str(value)

    def optional_text(self, name: str) -> str:
        """A text in which what cannot be printed is a space; empty where there is none."""
        value = self._values.get(name)
        if value is not None and (not isinstance(value, str) or len(value) > MAX_TEXT_CHARS):
            self.fail(name, f"a text is needed, not {show(value)}")
        return "".join(each if each.isprintable() else " " for each in value or "")

    def number(self, name: str, least: int, most: int) -> int:
        """A JSON integer within bounds."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.fail(name, f"a whole number from {least} to {most} is needed, not {show(value)}")
        return int(value)

    def amount(self, name: str, least: int = 0) -> int:
        """Base units as canonical decimal text."""
        text = self.text(name, _AMOUNT, "a whole number of base units, in digits alone,")
        if not least <= int(text) <= MAX_AMOUNT:
            self.fail(name, f"it is not from {least} to 2^256 − 1: {show(text)}")
        return int(text)

    def address(self, name: str) -> str:
        """An address in lower case; in mixed case its checksum has to be right."""
        text = self.text(name, _ADDRESS, "an address (0x and 40 hexadecimal digits)")
        digits = text[2:]
        if digits not in (digits.lower(), digits.upper()) and to_checksummed(bytes.fromhex(digits)) != text:
            self.fail(name, f"the checksum of {text} is wrong")
        return text.lower()

    def data(self, name: str, size: int) -> bytes:
        """Bytes as 0x and hexadecimal digits."""
        value = self.text(name).lower()
        if not _HEX.fullmatch(value) or len(value) != 2 + 2 * size:
            self.fail(name, f"0x and {2 * size} hexadecimal digits are needed, not {show(value)}")
        return bytes.fromhex(value[2:])


def show(value: object) -> str:
    """A value of the other side's in an error, short and printable."""
    shown = ascii(value) if not isinstance(value, int) or abs(value) < 10**80 else "a huge number"
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
