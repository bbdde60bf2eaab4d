"""Unsigned LEB128 numbers, as multiformats, protobuf and CAR use them."""

from __future__ import annotations

from quorate.protocol.errors import DataError

MAX_BYTES = 9  # multiformats' limit: 63 bits


def encode(value: int) -> bytes:
    """`value` ≥ 0 in as few bytes as it needs."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(data: bytes | memoryview, at: int = 0, *, minimal: bool = True) -> tuple[int, int]:
    """The number that starts at byte `at`, and the position after it.

    DataError when it is cut off, longer than 9 bytes, or (if `minimal`) not written in its shortest form: two spellings
    of a CID would be two keys for one block.
    """
    value = shift = 0
    for position in range(at, min(at + MAX_BYTES, len(data))):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if minimal and byte == 0 and position > at:
                raise DataError("a number is not written in its shortest form; the data is malformed")
            return value, position + 1
        shift += 7
    raise DataError("a number is cut off or too long; the data is malformed")
