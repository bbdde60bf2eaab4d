"""DAG-PB blocks: a list of links and some bytes.

Source: the dag-pb specification of IPLD. Written in its canonical form only (links before data, each link's fields in
order); read strictly, except that the data may stand first, as old writers put it. Names are bytes that are nearly
always UTF-8; `surrogateescape` carries the others through unharmed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from quorate.protocol.errors import DataError
from quorate.storage.cid import Cid
from quorate.storage.varint import decode as _read_number
from quorate.storage.varint import encode as _number

_LINK, _DATA = 0x12, 0x0A
_HASH, _NAME, _TSIZE = 0x0A, 0x12, 0x18


@dataclass(frozen=True, slots=True)
class Link:
    """A named edge; `tsize` is the cumulative size in bytes that the writer claims: never trusted, only shown."""

    cid: Cid
    name: str = ""
    tsize: int = 0

    @property
    def name_bytes(self) -> bytes:
        return self.name.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Node:
    links: tuple[Link, ...]
    data: bytes | None


def encode_link(link: Link) -> bytes:
    """One link with its field header: its length is what the link adds to a block."""
    cid, name = link.cid.to_bytes(), link.name_bytes
    body = b"".join((b"\x0a", _number(len(cid)), cid, b"\x12", _number(len(name)), name, b"\x18", _number(link.tsize)))
    return b"\x12" + _number(len(body)) + body


def encode(links: Iterable[Link], data: bytes) -> bytes:
    """A block; links must already be in the order that their container wants."""
    return b"".join((*map(encode_link, links), b"\x0a", _number(len(data)), data))


def sort_links(links: Iterable[Link]) -> list[Link]:
    """By the names' bytes, as directories store them."""
    return sorted(links, key=lambda link: link.name_bytes)


def decode(block: bytes) -> Node:
    """Links and data of a block; DataError when it is malformed."""
    links: list[Link] = []
    data: bytes | None = None
    at, end, closed = 0, len(block), False
    while at < end:
        tag = block[at]
        body, at = _field(block, at + 1, end)
        if tag == _LINK:
            if closed:
                raise DataError("a dag-pb block has links on both sides of its data")
            links.append(_decode_link(block, body, at))
        elif tag == _DATA:
            if data is not None:
                raise DataError("a dag-pb block has its data twice")
            data = block[body:at]
            closed = bool(links)
        else:
            raise DataError(f"a dag-pb block has an unknown field 0x{tag:02x}")
    return Node(tuple(links), data)


def _field(block: bytes, at: int, end: int) -> tuple[int, int]:
    """Start and end of the length-prefixed field whose length stands at `at`."""
    if at < end and block[at] < 0x80:
        length, start = block[at], at + 1
    else:
        length, start = _read_number(block, at)
    if start + length > end:
        raise DataError("a dag-pb field reaches beyond its end; the block is malformed")
    return start, start + length


def _decode_link(block: bytes, at: int, end: int) -> Link:
    cid: Cid | None = None
    name, tsize, last = "", 0, 0
    while at < end:
        tag = block[at]
        if tag <= last:
            raise DataError("a dag-pb link has its fields twice or out of order")
        last = tag
        if tag == _HASH:
            start, at = _field(block, at + 1, end)
            cid = Cid.parse(block[start:at])
        elif tag == _NAME:
            start, at = _field(block, at + 1, end)
            name = block[start:at].decode("utf-8", "surrogateescape")
        elif tag == _TSIZE:
            tsize, at = _read_number(block, at + 1, minimal=False)
            if at > end:
                raise DataError("a dag-pb field reaches beyond its end; the block is malformed")
        else:
            raise DataError(f"a dag-pb link has an unknown field 0x{tag:02x}")
    if cid is None:
        raise DataError("a dag-pb link has no CID")
    return Link(cid, name, tsize)
