"""Recursive Length Prefix, as far as headers and transactions need it: encoding of byte strings and lists."""

from __future__ import annotations

from collections.abc import Sequence

RlpItem = bytes | int | Sequence["RlpItem"]
"""Bytes, a number (big-endian without leading zeros), or a list of items."""


def encode(item: RlpItem) -> bytes:
    """Canonical RLP of an item."""
    if isinstance(item, int):
        item = item.to_bytes((item.bit_length() + 7) // 8, "big")
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _prefix(len(item), 0x80) + item
    body = b"".join(map(encode, item))
    return _prefix(len(body), 0xC0) + body


def _prefix(size: int, offset: int) -> bytes:
    if size < 56:
        return bytes((offset + size,))
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((offset + 55 + len(length),)) + length
