"""Named content whose bytes were never made: directories of sparse files with the CIDs that `ipfs add` would give them.

Every file is zeros, of a whole number of GiB, so that it is one leaf, said again and again, under one inner node, said
again under the file's root; and each dataset has a few small files of its own, about which jobs can be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from quorate.storage import dagpb, unixfs
from quorate.storage.cid import Cid
from quorate.storage.memory import MemoryStore
from quorate.storage.unixfs import DEFAULT, FILE, Message, Part

GIB = 1 << 30
MOST_GIB = DEFAULT.links
"""A file of more would have another level."""
TASKS = 8
PATTERN = "*.txt"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A directory by its CID: `size` is what its files have in bytes, `car` all of its distinct blocks."""

    name: str
    root: Cid
    size: int
    files: int
    car: bytes


def join(part: Part, count: int) -> tuple[Part, bytes]:
    """A node of a file over `count` parts that are all the same."""
    message = Message(FILE, b"", part.size * count, (part.size,) * count).encode()
    block = dagpb.encode((part.link() for _ in range(count)), message)
    return Part(DEFAULT.cid_of(block), part.size * count, len(block) + part.total * count), block


def make_blocks(gib: int) -> Iterator[tuple[Part, bytes]]:
    """The distinct blocks of a file of zeros, its root last."""
    if not 1 <= gib <= MOST_GIB:
        raise SystemExit(f"a sparse file has 1 to {MOST_GIB} GiB, not {gib}")
    leaf, chunk = unixfs.leaf(bytes(DEFAULT.chunk), DEFAULT)
    yield leaf, chunk
    inner, block = join(leaf, GIB // DEFAULT.chunk)
    yield inner, block
    if gib > 1:
        yield join(inner, gib)


def make_dataset(name: str, sizes_gib: list[int]) -> Dataset:
    """A dataset with a sparse file of each size."""
    store = MemoryStore()
    entries: dict[str, bytes | dagpb.Link] = {}
    for number, gib in enumerate(sizes_gib):
        for part, block in make_blocks(gib):
            store.put(part.cid, block)
        entries[f"scenes/{number:04}.bin"] = dagpb.Link(part.cid, "", part.total)
    small = {f"{number}.txt": f"task {number} of {name}\n".encode() for number in range(TASKS)}
    root = store.add_tree({**entries, **small})
    size = sum(sizes_gib) * GIB + sum(map(len, small.values()))
    car = b"".join(store.export_car(root))
    return Dataset(name, root, size, len(entries) + len(small), car)
