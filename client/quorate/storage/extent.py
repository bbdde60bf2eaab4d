"""How much a DAG is when it is written out: a small one can say the same block without end.

Every block is looked at once, however often it is said, so that measuring costs no more than fetching did.
"""

from __future__ import annotations

from dataclasses import dataclass

from quorate.protocol.errors import DataError
from quorate.storage import reader, unixfs
from quorate.storage.base import BlobStore, BlockNotFound
from quorate.storage.cid import RAW, Cid
from quorate.storage.traversal import MAX_DEPTH


@dataclass(frozen=True, slots=True)
class Extent:
    """Files, names of whatever kind below the root, and bytes of the files."""

    files: int
    entries: int
    bytes: int


class _Measurer:
    def __init__(self, store: BlobStore) -> None:
        self._store, self._known = store, dict[Cid, Extent]()

    def measure(self, cid: Cid, depth: int) -> Extent:
        if (known := self._known.get(cid)) is not None:
            return known
        if depth > MAX_DEPTH:
            raise DataError(f"the DAG is deeper than {MAX_DEPTH} blocks; it is refused as a bomb")
        found = self._measure_raw(cid) if cid.codec == RAW else self._measure_node(cid, depth)
        self._known[cid] = found
        return found

    def _measure_raw(self, cid: Cid) -> Extent:
        size = self._store.size(cid)
        if size is None:
            raise BlockNotFound(cid)
        return Extent(1, 0, size)

    def _measure_node(self, cid: Cid, depth: int) -> Extent:
        node = unixfs.Node.parse(cid, self._store.get(cid))
        if node.message.is_file:
            for link, size in zip(node.links, node.message.block_sizes, strict=True):
                if self.measure(link.cid, depth + 1).bytes != size:
                    raise DataError(f"{link.cid} is not as long as {cid} says; the file is malformed")
            return Extent(1, 0, node.file_size)
        if node.message.kind not in (unixfs.DIRECTORY, unixfs.SHARD):
            return Extent(0, 0, 0)  # a link
        below = [self.measure(link.cid, depth + 1) for link in reader.directory_links(self._store.get, cid)]
        return Extent(
            sum(each.files for each in below),
            len(below) + sum(each.entries for each in below),
            sum(each.bytes for each in below),
        )


def measure(store: BlobStore, root: Cid) -> Extent:
    """The extent of a file or a directory that is in the store whole.

    Raises BlockNotFound where it is not, DataError for what is neither, or malformed.
    """
    return _Measurer(store).measure(root, 0)
