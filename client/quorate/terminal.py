"""Text of others on a terminal: names in images and folders, messages of daemons."""

from __future__ import annotations


def make_printable(text: str, *, keep: str = "", most: int | None = None) -> str:
    """The text with escapes for what is no text, or would steer the terminal, except the letters in `keep`.

    Of a longer one than `most` letters the first are shown, and how many there are.
    """
    shown = "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode()
        for letter in text[:most]
    )
    return shown if most is None or len(text) <= most else f"{shown}… ({len(text)} letters)"
