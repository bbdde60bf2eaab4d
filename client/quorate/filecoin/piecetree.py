"""The tree over a piece: computing it from a stream, and checking a part of a piece against the piece's CID.

The bytes are cut into chunks of 1,040,384, each of which lies under one node of height 15. Whoever has all nodes of
that height (32 bytes for each chunk) can check them against the root, and from then on check any chunk by itself: what
a reader wants who pays chunk by chunk, and what a piece CID alone cannot give.

Hashing a chunk is a function that may be replaced: `compute_node` is the plain one on hashlib, and quorate_node brings
one that is several times faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import chain, islice
from typing import TypeAlias

from quorate.filecoin.piececid import (
    MIN_HEIGHT,
    NODE_BYTES,
    QUAD_BYTES,
    PieceCid,
    compute_capacity,
    compute_height,
)
from quorate.protocol.errors import DataError

CHUNK_HEIGHT = 15
CHUNK_BYTES = QUAD_BYTES << (CHUNK_HEIGHT - MIN_HEIGHT)
"""1,040,384 raw bytes, which become 1 MiB of leaves."""
ComputeNode: TypeAlias = Callable[[bytes | memoryview, int], bytes]
"""Root over up to 127·2^(height-2) raw bytes, filled with zeros: 32 bytes. Heights 2 to 15."""
_MASK_254 = (1 << 254) - 1


def expand(data: bytes | memoryview) -> bytes:
    """Fr32: 127 bytes become 128, each 254 bits (little-endian) followed by two zeros. Takes multiples of 127 bytes."""
    if len(data) % QUAD_BYTES:
        raise DataError(f"Fr32 expands multiples of 127 bytes, not {len(data)}")
    out = bytearray(len(data) // QUAD_BYTES * 128)
    for number, at in enumerate(range(0, len(data), QUAD_BYTES)):
        quad = int.from_bytes(data[at : at + QUAD_BYTES], "little")
        wide = sum((quad >> 254 * place & _MASK_254) << 256 * place for place in range(4))
        out[128 * number : 128 * number + 128] = wide.to_bytes(128, "little")
    return bytes(out)


def combine(left: bytes, right: bytes) -> bytes:
    """A node over two: sha2-256 without its two highest bits of the last byte."""
    digest = bytearray(sha256(left + right).digest())
    digest[31] &= 0x3F
    return bytes(digest)


def compute_node(data: bytes | memoryview, height: int) -> bytes:
    """The plain ComputeNode. Raises DataError when more is given than fits."""
    check_fits(data, height)
    filled = bytes(data).ljust(-(-len(data) // QUAD_BYTES) * QUAD_BYTES, b"\0")
    leaves = expand(filled)
    nodes = [leaves[at : at + NODE_BYTES] for at in range(0, len(leaves), NODE_BYTES)]
    return join(nodes, 0, height)


def check_fits(data: bytes | memoryview, height: int) -> None:
    """DataError when more raw bytes are given than fit under a node of a height."""
    if len(data) > (most := compute_capacity(height)):
        raise DataError(f"under a node of height {height} fit {most} bytes, not {len(data)}")


def join(nodes: Sequence[bytes], level: int, height: int) -> bytes:
    """Root of `height` over nodes of a lower `level`, behind which are only zeros. Raises DataError for too many."""
    if len(nodes) > 1 << (height - level):
        raise DataError(f"under a node of height {height} fit {1 << (height - level)} of {level}, not {len(nodes)}")
    row = list(nodes) or [ZERO_NODES[level]]
    for below in range(level, height):
        if len(row) % 2:
            row.append(ZERO_NODES[below])
        row = [combine(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def _list_zero_nodes() -> list[bytes]:
    nodes = [bytes(NODE_BYTES)]
    while len(nodes) < 64:
        nodes.append(combine(nodes[-1], nodes[-1]))
    return nodes


ZERO_NODES = _list_zero_nodes()
"""Node of each height over nothing but zeros."""


def count_chunks(size_bytes: int) -> int:
    """Chunks of a piece; one also of an empty piece."""
    return max(-(-size_bytes // CHUNK_BYTES), 1)


def get_chunk_height(height: int) -> int:
    """Height of the nodes over chunks: 15, or the tree's own where it is lower."""
    return min(height, CHUNK_HEIGHT)


class TreeBuilder:
    """The root of a piece of unknown size, from its chunks in order: holds a node a level, and no data.

    `add` takes nodes of height 15, of which the last may have been filled with zeros; `finish` gives the piece.
    """

    def __init__(self) -> None:
        self._peaks: list[tuple[int, bytes]] = []  # heights fall: complete subtrees, left to right
        self._count = 0

    def add(self, node: bytes) -> None:
        """The node over the next chunk."""
        height = CHUNK_HEIGHT
        while self._peaks and self._peaks[-1][0] == height:
            node = combine(self._peaks.pop()[1], node)
            height += 1
        self._peaks.append((height, node))
        self._count += 1

    def finish(self, size_bytes: int) -> PieceCid:
        """The piece over all nodes, of which there is more than one. Raises DataError when they do not fit its size."""
        if self._count < 2 or self._count != count_chunks(size_bytes):
            raise DataError(f"{self._count} chunks are not those of {size_bytes} bytes")
        height = compute_height(size_bytes)
        level, node = self._peaks[-1]
        for above, left in reversed(self._peaks[:-1]):
            while level < above:
                node, level = combine(node, ZERO_NODES[level]), level + 1
            node, level = combine(left, node), level + 1
        assert level == height, "the least height that fits has a left half without a gap"
        return PieceCid(node, height, size_bytes)


def cut(parts: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """A stream in chunks of 1,040,384 bytes, the last one shorter; of an empty stream one empty chunk."""
    last: bytes | None = None  # one is always held back, so that the last is known to be the last
    held = bytearray()
    for part in parts:
        whole = [part] if not held and len(part) == CHUNK_BYTES else _fill(held, part)
        for chunk in whole:
            if last is not None:
                yield last
            last = bytes(chunk)
    if last is not None:
        yield last
    if held or last is None:
        yield bytes(held)


def _fill(held: bytearray, part: bytes | memoryview) -> Iterator[bytes]:
    """Whole chunks out of what was held and a further part; the rest stays held."""
    held += part
    while len(held) >= CHUNK_BYTES:
        yield bytes(held[:CHUNK_BYTES])
        del held[:CHUNK_BYTES]


MapInOrder: TypeAlias = Callable[[Callable[[bytes], bytes], Iterable[bytes]], Iterable[bytes]]
"""`map`, or one that works on several chunks at once; results come in the chunks' order."""


def compute_piece(
    parts: Iterable[bytes | memoryview],
    compute: ComputeNode = compute_node,
    on_node: Callable[[bytes], None] = lambda node: None,
    map_in_order: MapInOrder = map,
) -> PieceCid:
    """The piece of a stream, holding a few chunks of it; `on_node` gets the node of every chunk, in order."""
    chunks = cut(parts)
    first = list(islice(chunks, 2))
    if len(first) == 1:
        height = compute_height(len(first[0]))
        piece = PieceCid(compute(first[0], height), height, len(first[0]))
        on_node(piece.root)
        return piece
    size, builder = 0, TreeBuilder()

    def count() -> Iterator[bytes]:
        nonlocal size
        for chunk in chain(first, chunks):
            size += len(chunk)
            yield chunk

    for node in map_in_order(lambda chunk: compute(chunk, CHUNK_HEIGHT), count()):
        builder.add(node)
        on_node(node)
    return builder.finish(size)


class ChunkVerifier:
    """Checks chunks of a piece, whose nodes it has checked against the piece's root. Raises DataError for lies."""

    def __init__(self, piece: PieceCid, nodes: bytes, compute: ComputeNode = compute_node) -> None:
        """`nodes`: 32 bytes for each chunk, in order, as a provider serves them."""
        wanted = count_chunks(piece.size_bytes) * NODE_BYTES
        if len(nodes) != wanted:
            raise DataError(f"{piece.v2} has {wanted} bytes of nodes, not {len(nodes)}; refuse whoever sent them")
        self.piece, self._nodes, self._compute = piece, nodes, compute
        self.height = get_chunk_height(piece.height)
        row = [nodes[at : at + NODE_BYTES] for at in range(0, len(nodes), NODE_BYTES)]
        if any(node[-1] & 0xC0 for node in row) or join(row, self.height, piece.height) != piece.root:
            raise DataError(f"these nodes are not those of {piece.v2}; refuse whoever sent them")

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return len(self._nodes) // NODE_BYTES

    def get_length(self, index: int) -> int:
        """Raw bytes of a chunk."""
        if not 0 <= index < self.count:
            raise DataError(f"{self.piece.v2} has chunks 0 to {self.count - 1}, and no {index}")
        return min(CHUNK_BYTES, self.piece.size_bytes - index * CHUNK_BYTES)

    def verify(self, index: int, chunk: bytes | memoryview) -> None:
        """DataError unless these are the bytes of a chunk, all of them."""
        if len(chunk) != (length := self.get_length(index)):
            raise DataError(f"chunk {index} of {self.piece.v2} has {length} bytes, not {len(chunk)}")
        self.expect(index, self._compute(chunk, self.height))

    def expect(self, index: int, node: bytes) -> None:
        """DataError unless this is the node over a chunk, for whoever computes it by parts."""
        if self._nodes[index * NODE_BYTES : (index + 1) * NODE_BYTES] != node:
            raise DataError(f"chunk {index} is not what {self.piece.v2} says; refuse whoever sent it")
