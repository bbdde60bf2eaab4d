"""Links inside blocks of every codec that a DAG may hold.

A DAG is whole only when every link is followed, so a codec that we cannot read is refused rather than taken for a leaf.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quorate.protocol.errors import DataError
from quorate.protocol.jsontext import load_json
from quorate.storage import dagpb
from quorate.storage.cid import CBOR, DAG_CBOR, DAG_JSON, DAG_PB, JSON, RAW, Cid

LEAF_CODECS = frozenset({RAW, CBOR, JSON})
KNOWN_CODECS = LEAF_CODECS | {DAG_PB, DAG_CBOR, DAG_JSON}
_MAX_NESTING = 256
_TAG_CID = 42


def links_of(cid: Cid, block: bytes) -> list[Cid]:
    """CIDs that the block links to, in their order; DataError when it is malformed or of an unknown codec."""
    if cid.codec in LEAF_CODECS:
        return []
    if cid.codec == DAG_PB:
        return [link.cid for link in dagpb.decode(block).links]
    if cid.codec == DAG_CBOR:
        return list(_cbor_links(block))
    if cid.codec == DAG_JSON:
        return list(_json_links(block))
    raise DataError(
        f"{cid} has codec 0x{cid.codec:x}, whose links cannot be followed; use raw, dag-pb, dag-cbor or dag-json"
    )


def _json_links(block: bytes) -> Iterator[Cid]:
    try:
        document = load_json(block, max_depth=_MAX_NESTING)
    except ValueError as error:
        raise DataError(f"a dag-json block is malformed: {error}") from None
    pending: list[Any] = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            target = value.get("/")
            if len(value) == 1 and isinstance(target, str):
                yield Cid.parse(target)
            else:
                pending.extend(reversed(list(value.values())))
        elif isinstance(value, list):
            pending.extend(reversed(value))


def _cbor_links(block: bytes) -> Iterator[Cid]:
    """A scan for tag 42: libraries lose the difference between a link and bytes that look like one."""
    at, open_items = 0, [1]  # how many items are still to be read at each level
    while open_items:
        if open_items[-1] == 0:
            open_items.pop()
            continue
        open_items[-1] -= 1
        major, value, at = _cbor_head(block, at)
        if major in (2, 3):
            at = _skip(block, at, value)
        elif major in (4, 5):
            open_items.append(value * (major - 3))
        elif major == 6:
            if value != _TAG_CID:
                raise DataError(f"a dag-cbor block has tag {value}; only links (42) are allowed")
            major, length, start = _cbor_head(block, at)
            at = _skip(block, start, length)
            if major != 2 or block[start : start + 1] != b"\0":
                raise DataError("a dag-cbor link is malformed")
            yield Cid.parse(block[start + 1 : at])
        if len(open_items) > _MAX_NESTING:
            raise DataError(f"a dag-cbor block nests deeper than {_MAX_NESTING}")
    if at != len(block):
        raise DataError("bytes follow after a dag-cbor item; the block is malformed")


def _cbor_head(block: bytes, at: int) -> tuple[int, int, int]:
    """Major type, argument, and the position after both."""
    if at >= len(block):
        raise DataError("a dag-cbor block is cut off")
    major, info = block[at] >> 5, block[at] & 31
    if info < 24:
        return major, info, at + 1
    if info > 27:
        raise DataError("a dag-cbor item has no definite length; the block is malformed")
    end = _skip(block, at + 1, 1 << (info - 24))
    return major, int.from_bytes(block[at + 1 : end], "big"), end


def _skip(block: bytes, at: int, length: int) -> int:
    if at + length > len(block):
        raise DataError("a dag-cbor block is cut off")
    return at + length
