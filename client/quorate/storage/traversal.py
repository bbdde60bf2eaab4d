"""The order in which a DAG's blocks are sent and expected.

One walk serves both ends: the writer of a CAR asks it which block comes next, and so does the verifier, which then
refuses anything else. Depth first, as the trustless gateway specification's `order=dfs`. Memory is bounded by limits on
depth and on links that wait, because the blocks come from strangers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from quorate.protocol.errors import DataError
from quorate.storage import codecs, dagpb, hamt, unixfs
from quorate.storage.base import ByteRange, Scope
from quorate.storage.cid import DAG_CBOR, DAG_JSON, DAG_PB, RAW, Cid

MAX_DEPTH: Final = 256
MAX_WAITING_LINKS: Final = 1 << 18

# What a block is wanted for: a segment of the path, the end of the path, inner shards of a directory, bytes of a file,
# or everything below.
_Role = Literal["path", "end", "shard", "bytes", "all"]


class PathNotFound(DataError):
    """A directory on the path has no such name."""


@dataclass(frozen=True, slots=True)
class _Step:
    cid: Cid
    role: _Role
    depth: int
    shard_depth: int = 0
    start: int = 0  # of the bytes that are wanted, relative to this node
    end: int = 0
    size: int = 0  # bytes that the parent says this node holds
    is_chunk: bool = False


class Traversal:
    """`wanted` is the next block, None when the walk is over; `accept` takes that block and goes on.

    `terminus` is the CID at the end of the path as soon as it is known, `roots` those on the way to it. Blocks
    handed to `accept` must have been verified. With `dups` false a block comes once, however often the DAG holds it.
    """

    def __init__(
        self,
        root: Cid,
        *,
        path: Sequence[str] = (),
        scope: Scope = "all",
        byte_range: ByteRange | None = None,
        dups: bool = False,
    ) -> None:
        self._path = list(reversed(path))
        self._scope: Scope = "entity" if byte_range is not None else scope
        self._range = byte_range
        self._seen: set[tuple[object, ...]] | None = None if dups else set()
        self._steps: list[_Step] = []
        self.terminus: Cid | None = None
        self.roots: list[Cid] = []
        self._go_to(root, 0, 0)
        self._settle()

    @property
    def wanted(self) -> Cid | None:
        return self._steps[-1].cid if self._steps else None

    @property
    def is_chunk(self) -> bool:
        """Whether the wanted block is a part of a larger file, so that it should lie beside its neighbours."""
        return bool(self._steps) and self._steps[-1].is_chunk

    def has_seen(self, cid: Cid) -> bool:
        """Whether the block was taken before; only known without `dups`."""
        return self._seen is not None and (cid.codec, cid.multihash) in self._seen

    def accept(self, block: bytes) -> None:
        """Take the wanted block; DataError when it is malformed or the DAG exceeds a limit, PathNotFound."""
        step = self._steps.pop()
        self._remember(step)
        self._expand(step, block)
        self._settle()

    def _settle(self) -> None:
        """Leave out what was seen, and look into identity CIDs, whose blocks are never sent."""
        while self._steps:
            step = self._steps[-1]
            if step.cid.is_identity:
                self._steps.pop()
                self._expand(step, step.cid.inline)
            elif self._seen is not None and self._key(step) in self._seen:
                self._steps.pop()
            else:
                return

    def _remember(self, step: _Step) -> None:
        if self._seen is not None:
            self._seen.add((step.cid.codec, step.cid.multihash))
            self._seen.add(self._key(step))

    @staticmethod
    def _key(step: _Step) -> tuple[object, ...]:
        """Part of an inner node may have been visited for other bytes: then it is not the same visit."""
        if step.role == "bytes" and step.cid.codec != RAW and (step.start, step.end) != (0, step.size):
            return (step.cid.codec, step.cid.multihash, step.start, step.end)
        return (step.cid.codec, step.cid.multihash)

    def _go_to(self, cid: Cid, depth: int, shard_depth: int) -> None:
        if depth > MAX_DEPTH:
            raise DataError(f"the path leads through more than {MAX_DEPTH} blocks; it is refused as a bomb")
        self.roots.append(cid)
        if self._path:
            self._steps.append(_Step(cid, "path", depth, shard_depth))
            return
        self.terminus = cid
        self._steps.append(_Step(cid, "all" if self._scope == "all" else "end", depth))

    def _expand(self, step: _Step, block: bytes) -> None:
        if step.role == "path":
            self._follow(step, block)
        elif step.role == "all":
            self._push(self._below(step, block), step)
        elif step.role == "end":
            if self._scope == "entity":
                self._push(self._entity(step, block), step)
        else:
            node = unixfs.Node.parse(step.cid, block)
            parts = self._bytes_of(step, node) if step.role == "bytes" else self._shards_of(step, node)
            self._push(parts, step)

    def _push(self, steps: list[_Step], parent: _Step) -> None:
        if steps and parent.depth >= MAX_DEPTH:
            raise DataError(f"the DAG is deeper than {MAX_DEPTH} blocks; it is refused as a bomb")
        if len(self._steps) + len(steps) > MAX_WAITING_LINKS:
            raise DataError(f"the DAG has more than {MAX_WAITING_LINKS} links waiting; it is refused as a bomb")
        steps.reverse()
        self._steps += steps

    def _follow(self, step: _Step, block: bytes) -> None:
        name = self._path[-1]
        if step.cid.codec in (DAG_CBOR, DAG_JSON):
            try:
                target, used = codecs.find_link(step.cid, block, self._path[::-1])
            except LookupError as error:
                raise PathNotFound(f"{step.cid} {error}") from None
            del self._path[len(self._path) - used :]
            if target is not None:
                self._go_to(target, step.depth + 1, 0)
                return
            self.terminus = step.cid  # the path ends at a value, and the whole block shows it
            self._expand(replace(step, role="all" if self._scope == "all" else "end"), block)
            return
        if step.cid.codec != DAG_PB:
            raise PathNotFound(f"{step.cid} is no directory, so it has no {name!r}")
        node = unixfs.Node.parse(step.cid, block)
        link = find_entry(step.cid, node, name, step.shard_depth)
        if node.message.kind == unixfs.SHARD and len(link.name) == hamt.PREFIX:
            self._steps.append(_Step(link.cid, "path", step.depth + 1, step.shard_depth + 1))
            return
        self._path.pop()
        self._go_to(link.cid, step.depth + 1, 0)

    def _below(self, step: _Step, block: bytes) -> list[_Step]:
        depth = step.depth + 1
        if step.cid.codec != DAG_PB:
            return [_Step(cid, "all", depth) for cid in codecs.links_of(step.cid, block)]
        node = dagpb.decode(block)
        is_file = node.data is not None and node.data[:2] == bytes((8, unixfs.FILE))
        return [_Step(link.cid, "all", depth, is_chunk=is_file) for link in node.links]

    def _entity(self, step: _Step, block: bytes) -> list[_Step]:
        if step.cid.codec != DAG_PB:
            return []
        node = unixfs.Node.parse(step.cid, block)
        if node.message.kind == unixfs.SHARD:
            return self._shards_of(step, node)
        if not node.message.is_file:
            return []
        span = self._range.within(node.file_size) if self._range is not None else (0, node.file_size)
        if span is None:
            return []
        return self._bytes_of(_Step(step.cid, "bytes", step.depth, 0, *span, node.file_size), node)

    @staticmethod
    def _shards_of(step: _Step, node: unixfs.Node) -> list[_Step]:
        hamt.check(step.cid, node.message)
        inner = (link for link in node.links if not hamt.split(link)[1])
        return [_Step(link.cid, "shard", step.depth + 1) for link in inner]

    @staticmethod
    def _bytes_of(step: _Step, node: unixfs.Node) -> list[_Step]:
        if not node.message.is_file or node.file_size != step.size:
            raise DataError(f"{step.cid} is not the {step.size} bytes of a file that its parent says; it is malformed")
        steps, at = list[_Step](), len(node.message.data)
        for link, size in zip(node.links, node.message.block_sizes, strict=True):
            first, last = max(step.start, at), min(step.end, at + size)
            if first < last:
                steps.append(_Step(link.cid, "bytes", step.depth + 1, 0, first - at, last - at, size, True))
            at += size
        return steps


def find_entry(cid: Cid, node: unixfs.Node, name: str, shard_depth: int) -> dagpb.Link:
    """The link for `name` in a directory, or the shard on the way to it; PathNotFound."""
    link: dagpb.Link | None = None
    if node.message.kind == unixfs.SHARD:
        hamt.check(cid, node.message)
        link = hamt.find(node.links, name.encode("utf-8", "surrogateescape"), shard_depth)
    elif node.message.kind == unixfs.DIRECTORY:
        link = next((each for each in node.links if each.name == name), None)
    else:
        raise PathNotFound(f"{cid} is no directory, so it has no {name!r}")
    if link is None:
        raise PathNotFound(f"the directory {cid} has no {name!r}")
    return link
