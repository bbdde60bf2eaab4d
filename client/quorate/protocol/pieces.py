"""Piece CIDs of version 2 in specs: whether a text is one, and of how many bytes. See quorate.filecoin.piececid.

An input that is a piece stands for the DAG of the CAR that the piece's bytes are, if they are one of one whole DAG,
else for a file of those bytes: the same for everybody who reads it.
"""

from __future__ import annotations

import base64
import re

from quorate.protocol.errors import ValidationError

_TEXT = re.compile("bafkzci[a-z2-7]{50,70}")
_HEADER = b"\x01\x55\x91\x20"
"""Version 1, raw, and fr32-sha2-256-trunc254-padded-binary-tree."""
_MIN_HEIGHT, _MAX_HEIGHT = 2, 57
_ROOT_BYTES = 32
_MAX_VARINT_BYTES = 9


def is_piece_text(text: str) -> bool:
    """Whether a text has the form of a piece CID of version 2."""
    return _TEXT.fullmatch(text) is not None


def parse_piece_size(text: str) -> int:
    """Raw bytes of a piece. Raises ValidationError for what is no piece CID in its one spelling."""
    data = _decode(text) if is_piece_text(text) else b""
    if not data.startswith(_HEADER) or len(data) < 5 or data[4] != len(data) - 5:
        raise _refuse(text)
    padding, at = _read_varint(text, data, 5)
    if len(data) - at != 1 + _ROOT_BYTES or data[-1] & 0xC0:
        raise _refuse(text)
    height = data[at]
    if not _MIN_HEIGHT <= height <= _MAX_HEIGHT or padding > (most := 127 << height - _MIN_HEIGHT):
        raise _refuse(text)
    return most - padding


def _decode(text: str) -> bytes:
    body = text[1:].upper()
    try:
        data = base64.b32decode(body + "=" * (-len(body) % 8))
    except ValueError:
        return b""
    return data if base64.b32encode(data).decode().rstrip("=") == body else b""


def _read_varint(text: str, data: bytes, at: int) -> tuple[int, int]:
    """A number in its shortest form, and where it ends."""
    value = 0
    for count, byte in enumerate(data[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if byte == 0 and count:
                break
            return value, at + count + 1
    raise _refuse(text)


def _refuse(text: str) -> ValidationError:
    return ValidationError(f"{text[:100]!r} is no piece CID of version 2 in base32 (bafkzci…)")
