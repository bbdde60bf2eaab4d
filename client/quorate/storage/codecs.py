"""Links inside blocks of every codec that a DAG may hold.

A DAG is whole only when every link is followed, so a codec that we cannot read is refused rather than taken for a leaf.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

from quorate.protocol.errors import DataError
from quorate.protocol.jsontext import load_json
from quorate.storage import dagpb
from quorate.storage.cid import CBOR, DAG_CBOR, DAG_JSON, DAG_PB, JSON, RAW, Cid

LEAF_CODECS = frozenset({RAW, CBOR, JSON})
KNOWN_CODECS = LEAF_CODECS | {DAG_PB, DAG_CBOR, DAG_JSON}
_MAX_NESTING = 256
_MAX_ITEMS = 100_000  # of a dag-cbor block, which are read one by one
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


def find_link(cid: Cid, block: bytes, path: Sequence[str]) -> tuple[Cid | None, int]:
    """The link that `path` meets inside a dag-cbor or dag-json block, and how many of its segments lead there.

    None when it ends at a value of the block itself. Segments are keys of maps and positions in lists. DataError when
    the block is malformed, LookupError with a reason when it has nothing at the path.
    """
    return _cbor_find(block, path) if cid.codec == DAG_CBOR else _json_find(block, path)


def _json_find(block: bytes, path: Sequence[str]) -> tuple[Cid | None, int]:
    value = _load_document(block)
    for used, name in enumerate((*path, "")):
        if isinstance(value, dict):
            target = value.get("/")
            if len(value) == 1 and isinstance(target, str):
                return Cid.parse(target), used
        if used == len(path):
            break
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and len(name) < 10 and int(name) < len(value):
            value = value[int(name)]
        else:
            raise LookupError(f"has no {name!r}")
    return None, len(path)


def _cbor_find(block: bytes, path: Sequence[str]) -> tuple[Cid | None, int]:
    at = 0
    for used, name in enumerate((*path, "")):
        major, value, start = _cbor_head(block, at)
        if major == 6:
            return next(_cbor_links(block[at : _cbor_end(block, at)])), used
        if used == len(path):
            break
        if major == 5:
            at = _cbor_entry(block, start, value, name)
        elif major == 4 and name.isdecimal() and len(name) < 10 and int(name) < value:
            at, read = start, 0
            for _ in range(int(name)):
                read = _count(read)
                at = _cbor_end(block, at)
        else:
            raise LookupError(f"has no {name!r}")
    return None, len(path)


def _cbor_entry(block: bytes, at: int, count: int, name: str) -> int:
    """Where the value under a key begins, in a map of `count` entries that begin at `at`."""
    wanted = name.encode("utf-8", "surrogateescape")
    read = 0
    for _ in range(count):
        read = _count(read)
        major, length, start = _cbor_head(block, at)
        end = _cbor_end(block, at)
        if major == 3 and block[start : start + length] == wanted:
            return end
        at = _cbor_end(block, end)
    raise LookupError(f"has no {name!r}")


def _cbor_end(block: bytes, at: int) -> int:
    """The position after the item at `at`."""
    left, read = 1, 0
    while left:
        read = _count(read)
        major, value, at = _cbor_head(block, at)
        left -= 1
        if major in (2, 3):
            at = _skip(block, at, value)
        elif major in (4, 5, 6):
            left += 1 if major == 6 else value * (major - 3)
    return at


def _load_document(block: bytes) -> Any:
    try:
        return load_json(block, max_depth=_MAX_NESTING)
    except ValueError as error:
        raise DataError(f"a dag-json block is malformed: {error}") from None


def to_dag_json(cid: Cid, block: bytes) -> Any:
    """A block as the value that dag-json shows it as; DataError when it is malformed or of an unknown codec."""
    if cid.codec == RAW:
        return _shown_bytes(block)
    if cid.codec == DAG_PB:
        node = dagpb.decode(block)
        links = [{"Hash": {"/": str(link.cid)}, "Name": link.name, "Tsize": link.tsize} for link in node.links]
        return ({} if node.data is None else {"Data": _shown_bytes(node.data)}) | {"Links": links}
    if cid.codec == DAG_JSON:
        return _load_document(block)
    if cid.codec == DAG_CBOR:
        list(_cbor_links(block))  # refuses what is malformed or nests too deep for what follows
        return _cbor_value(block, 0)[0]
    raise DataError(f"{cid} has codec 0x{cid.codec:x}, which cannot be shown; get it as a block")


def _shown_bytes(data: bytes) -> dict[str, Any]:
    return {"/": {"bytes": b64encode(data).decode().rstrip("=")}}


def _cbor_value(block: bytes, at: int) -> tuple[Any, int]:
    """The item at `at`, which is known to be well-formed, and the position after it."""
    major, value, start = _cbor_head(block, at)
    if major < 2:
        return (value if major == 0 else -1 - value), start
    if major == 2:
        return _shown_bytes(block[start : start + value]), start + value
    if major == 3:
        return block[start : start + value].decode("utf-8", "replace"), start + value
    if major == 4:
        items = []
        for _ in range(value):
            item, start = _cbor_value(block, start)
            items.append(item)
        return items, start
    if major == 5:
        entries = {}
        for _ in range(value):
            key, start = _cbor_value(block, start)
            entries[str(key)], start = _cbor_value(block, start)
        return entries, start
    end = _cbor_end(block, at)
    if major == 6:
        return {"/": str(next(_cbor_links(block[at:end])))}, end
    return _cbor_simple(block[at], block[at + 1 : end]), end


def _cbor_simple(head: int, body: bytes) -> Any:
    if head in (0xF4, 0xF5, 0xF6):
        return (False, True, None)[head - 0xF4]
    if len(body) == 8 and isfinite(number := struct.unpack(">d", body)[0]):
        return number
    raise DataError("a dag-cbor block has a simple value or a number that dag-cbor does not allow")


def _json_links(block: bytes) -> Iterator[Cid]:
    pending: list[Any] = [_load_document(block)]
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
    at, open_items, read = 0, [1], 0  # how many items are still to be read at each level
    while open_items:
        if open_items[-1] == 0:
            open_items.pop()
            continue
        open_items[-1] -= 1
        read = _count(read)
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


def _count(read: int) -> int:
    """One item more."""
    if read >= _MAX_ITEMS:
        raise DataError(f"a dag-cbor block holds more than {_MAX_ITEMS} items: divide it over several")
    return read + 1


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
