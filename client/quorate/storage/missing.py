"""What of a DAG is not here, as parts that can be asked for one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from quorate.protocol.errors import DataError
from quorate.storage import codecs, unixfs
from quorate.storage.base import BlobStore, ByteRange
from quorate.storage.cid import DAG_PB, RAW, Cid
from quorate.storage.traversal import MAX_DEPTH

PART_BYTES = 32 << 20
MAX_PARTS = 4096
"""In one list; what is left comes in the next."""
FEW_CHILDREN, LARGE_CHILD = 64, 256 << 10
"""A directory that lacks more children than this, smaller ones on average, is asked for as a whole: a request costs
more than to receive again what is here."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """Everything below `cid`, or only bytes `span` (start and end, not included) of that file."""

    cid: Cid
    span: Span | None = None

    @property
    def byte_range(self) -> ByteRange | None:
        """The span as gateways count."""
        return None if self.span is None else ByteRange(self.span[0], self.span[1] - 1)


def find_missing(store: BlobStore, root: Cid) -> list[Part]:
    """Parts of the DAG of `root` that are not here, in order; none when it is whole. DataError for a malformed one."""
    if store.has(root) and store.is_complete(root):  # some stores know that faster than block by block
        return []
    parts: list[Part] = []
    seen: set[tuple[int, bytes]] = set()
    pending: list[tuple[Cid, int]] = [(root, 0)]
    while pending and len(parts) < MAX_PARTS:
        cid, depth = pending.pop()
        key = (cid.codec, cid.multihash)
        if key in seen or cid.is_identity:
            continue
        seen.add(key)
        if depth > MAX_DEPTH:
            raise DataError(f"the DAG is deeper than {MAX_DEPTH} blocks; it is refused as a bomb")
        if not store.has(cid):
            parts.append(Part(cid))
        elif cid.codec == DAG_PB:
            node = unixfs.Node.parse(cid, store.get(cid))
            if node.message.is_file:
                spans = list(_merge(_find_spans(store, cid, 0, 0, set())))
                # A leaf without bytes is in no span: such a file is asked for as a whole.
                parts += [Part(cid)] if any(a == b for a, b in spans) else (Part(cid, each) for each in _split(spans))
            elif _is_better_whole(store, node):
                parts.append(Part(cid))
            else:
                pending += [(link.cid, depth + 1) for link in reversed(node.links)]
        elif cid.codec != RAW:
            pending += [(each, depth + 1) for each in codecs.links_of(cid, store.get(cid))]
    return parts


def _is_better_whole(store: BlobStore, node: unixfs.Node) -> bool:
    if len(node.links) <= FEW_CHILDREN:
        return False
    absent = [link.tsize for link in node.links if not store.has(link.cid)]
    return len(absent) > FEW_CHILDREN and sum(absent) < len(absent) * LARGE_CHILD


def _find_spans(store: BlobStore, cid: Cid, start: int, depth: int, seen: set[bytes]) -> Iterator[Span]:
    """Bytes of a file, whose part `cid` begins at `start` and is here, that are not here.

    Of a part that the file repeats only the first is told: once it is here, so are the others. Those that do not matter
    any more are `seen`; to look at each would take as long as a file of a few blocks may claim to be.
    """
    if depth > MAX_DEPTH:
        raise DataError(f"{cid} is deeper than {MAX_DEPTH} blocks; it is refused as a bomb")
    node = unixfs.Node.parse(cid, store.get(cid))
    at = start + len(node.message.data)
    for link, size in zip(node.links, node.message.block_sizes, strict=True):
        if link.cid.multihash not in seen:
            seen.add(link.cid.multihash)
            if not store.has(link.cid):
                yield at, at + size
            elif link.cid.codec != RAW:
                yield from _find_spans(store, link.cid, at, depth + 1, seen)
        at += size


def _merge(spans: Iterator[Span]) -> Iterator[Span]:
    last: Span | None = None
    for start, end in spans:
        if last is not None and last[1] == start:
            last = last[0], end
            continue
        if last is not None:
            yield last
        last = start, end
    if last is not None:
        yield last


def _split(spans: Iterable[Span]) -> Iterator[Span]:
    for start, end in spans:
        for at in range(start, end, PART_BYTES):
            yield at, min(at + PART_BYTES, end)
