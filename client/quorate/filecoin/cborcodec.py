"""The part of deterministic CBOR that Filecoin's messages use: numbers, byte strings and arrays of them.

Reading is strict: what is not in its shortest form, of another type, or followed by more bytes is refused, so that a
message has one encoding and so one CID.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from quorate.protocol.errors import DataError

Item: TypeAlias = "int | bytes | Sequence[Item]"

MAX_BYTES = 1 << 21
MAX_DEPTH = 8
_NUMBER, _NEGATIVE, _BYTES, _ARRAY = 0, 1, 2, 4


def encode(item: Item) -> bytes:
    """Numbers from -2^64 to 2^64 - 1, bytes, and sequences of these."""
    if isinstance(item, bytes):
        return _encode_head(_BYTES, len(item)) + item
    if isinstance(item, int):
        return _encode_head(_NUMBER, item) if item >= 0 else _encode_head(_NEGATIVE, -1 - item)
    return _encode_head(_ARRAY, len(item)) + b"".join(map(encode, item))


def decode(data: bytes) -> Item:
    """Inverse of `encode`, with lists for sequences. Raises DataError."""
    if len(data) > MAX_BYTES:
        raise DataError(f"{len(data)} bytes of CBOR are more than the {MAX_BYTES} that a message may have")
    item, end = _decode(data, 0, 0)
    if end != len(data):
        raise DataError(f"{len(data) - end} bytes follow after the CBOR; the message is malformed")
    return item


def encode_bigint(value: int) -> bytes:
    """Filecoin's bytes of an amount ≥ 0: none for 0, else a zero for its sign and the number, big-endian."""
    if value < 0:
        raise DataError(f"an amount is not negative; this one is {value}")
    return b"\x00" + value.to_bytes((value.bit_length() + 7) // 8, "big") if value else b""


def decode_bigint(data: bytes) -> int:
    """Inverse of `encode_bigint`. Raises DataError for a negative amount and for any but the shortest spelling."""
    if not data:
        return 0
    if data[0] != 0:
        raise DataError("an amount is negative, or its sign is malformed")
    if len(data) < 2 or data[1] == 0:
        raise DataError("an amount is not written in its shortest form; the message is malformed")
    return int.from_bytes(data[1:], "big")


def _encode_head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes((major << 5 | value,))
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if value < 1 << 8 * size:
            return bytes((major << 5 | code,)) + value.to_bytes(size, "big")
    raise DataError(f"{value} does not fit into 64 bits")


def _decode_head(data: bytes, at: int) -> tuple[int, int, int]:
    if at >= len(data):
        raise DataError("CBOR is cut off; the message is malformed")
    major, code, at = data[at] >> 5, data[at] & 31, at + 1
    if code < 24:
        return major, code, at
    if code > 27:
        raise DataError("CBOR has a length that is not definite; the message is malformed")
    size = 1 << (code - 24)
    if at + size > len(data):
        raise DataError("CBOR is cut off; the message is malformed")
    value = int.from_bytes(data[at : at + size], "big")
    if value < (24 if size == 1 else 1 << 4 * size):
        raise DataError("CBOR has a number that is not in its shortest form; the message is malformed")
    return major, value, at + size


def _decode(data: bytes, at: int, depth: int) -> tuple[Item, int]:
    major, value, at = _decode_head(data, at)
    if major == _NUMBER:
        return value, at
    if major == _NEGATIVE:
        return -1 - value, at
    if major == _BYTES:
        if value > len(data) - at:
            raise DataError("CBOR is cut off; the message is malformed")
        return data[at : at + value], at + value
    if major != _ARRAY:
        raise DataError(f"CBOR of major type {major} has no place in a message; the message is malformed")
    if value > len(data) - at or depth == MAX_DEPTH:  # an item has a byte at least
        raise DataError("CBOR is cut off or nests too deep; the message is malformed")
    items: list[Item] = []
    for _ in range(value):
        item, at = _decode(data, at, depth + 1)
        items.append(item)
    return items, at
