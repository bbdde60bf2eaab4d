"""Reading files and directories out of blocks, whatever keeps the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from quorate.protocol.errors import DataError
from quorate.storage import hamt, unixfs
from quorate.storage.base import BlockNotFound, Entry
from quorate.storage.cid import RAW, Cid
from quorate.storage.dagpb import Link
from quorate.storage.traversal import MAX_DEPTH, PathNotFound, Traversal

Get = Callable[[Cid], bytes]


def file_size(get: Get, cid: Cid) -> int:
    """Bytes of a file as its root claims; DataError when it is no file."""
    return _file_node(cid, get(cid)).file_size


def stream_file(get: Get, cid: Cid, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """A file's bytes from `start` up to `end` (not included), one leaf in memory at a time.

    DataError when a part is not as long as its parent says: a short file must not pass for a long one.
    """
    if start < 0 or (end is not None and end < start):
        raise DataError(f"bytes {start} to {end} are no range; give 0 ≤ start ≤ end")
    pending: list[tuple[Cid, int, int | None, int]] = [(cid, 0, None, 0)]
    while pending:
        part, offset, size, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise DataError(f"{cid} is deeper than {MAX_DEPTH} blocks; it is refused as a bomb")
        node = _file_node(part, get(part))
        if size is not None and node.file_size != size:
            raise DataError(f"{part} has {node.file_size} bytes where its parent says {size}; the file is malformed")
        data = node.message.data
        piece = data[max(0, start - offset) : None if end is None else max(0, end - offset)]
        if piece:
            yield piece
        at, below = offset + len(data), list[tuple[Cid, int, int | None, int]]()
        for link, length in zip(node.links, node.message.block_sizes, strict=True):
            if length and at + length > start and (end is None or at < end):  # empty parts may be without end
                below.append((link.cid, at, length, depth + 1))
            at += length
        pending += reversed(below)


def _file_node(cid: Cid, block: bytes) -> unixfs.Node:
    node = unixfs.Node.parse(cid, block)
    if not node.message.is_file:
        raise DataError(f"{cid} is no file; list it, or name a file in it")
    return node


def directory_links(get: Get, cid: Cid) -> list[Link]:
    """Entries of a flat or sharded directory in order of their names' bytes; DataError when it is none."""
    links, pending, seen = list[Link](), [(cid, 0)], set[bytes]()
    while pending:
        shard, depth = pending.pop()
        if shard.multihash in seen:
            continue
        seen.add(shard.multihash)
        node = unixfs.Node.parse(shard, get(shard))
        if node.message.kind == unixfs.DIRECTORY and depth == 0:
            return sorted(node.links, key=lambda link: link.name_bytes)
        if node.message.kind != unixfs.SHARD or depth >= hamt.MAX_DEPTH:
            raise DataError(f"{shard} is no directory" if depth == 0 else f"the sharded directory {cid} is malformed")
        hamt.check(shard, node.message)
        for link in node.links:
            if hamt.split(link)[1]:
                links.append(Link(link.cid, hamt.split(link)[1], link.tsize))
            else:
                pending.append((link.cid, depth + 1))
    return sorted(links, key=lambda link: link.name_bytes)


def describe(get: Get, link: Link) -> Entry:
    """What a link leads to, as far as the blocks that are here tell."""
    if link.cid.codec == RAW:
        return Entry(link.name, link.cid, link.tsize, "file")
    try:
        node = unixfs.Node.parse(link.cid, get(link.cid))
    except (BlockNotFound, DataError):
        return Entry(link.name, link.cid, link.tsize, "unknown")
    if node.message.is_file:
        return Entry(link.name, link.cid, node.file_size, "file")
    kind = "symlink" if node.message.kind == unixfs.SYMLINK else "directory"
    return Entry(link.name, link.cid, link.tsize, "directory" if kind == "directory" else "symlink")


def resolve(get: Get, cid: Cid, path: str) -> Cid:
    """The CID at `path` below `cid`; PathNotFound, BlockNotFound."""
    return resolve_all(get, cid, split_path(path))[-1]


def resolve_all(get: Get, cid: Cid, path: Sequence[str]) -> list[Cid]:
    """The CIDs that a path leads through, from `cid` to its end; PathNotFound, BlockNotFound."""
    walk = Traversal(cid, path=path, scope="block")
    while walk.terminus is None and walk.wanted is not None:
        walk.accept(get(walk.wanted))
    if walk.terminus is None:
        raise PathNotFound(f"{cid} has no {'/'.join(path)!r}")
    return walk.roots


def parse_path(text: str) -> tuple[Cid, list[str]]:
    """`CID`, `CID/name/…`, `/ipfs/CID/…` or `ipfs://CID/…`; DataError for anything else."""
    rest = text.removeprefix("ipfs://") if text.startswith("ipfs://") else text.removeprefix("/ipfs/")
    root, _, path = rest.partition("/")
    return Cid.parse(root), split_path(path)


def split_path(path: str) -> list[str]:
    """Segments of a path; empty ones do not count."""
    return [segment for segment in path.split("/") if segment]
