"""The bytes of a piece, read where they lie: a file, or the CAR of a DAG, of which any part is written by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator

from quorate.protocol.errors import ContentUnavailable
from quorate.storage import car
from quorate.storage.base import BlobStore
from quorate.storage.cid import RAW, Cid
from quorate.storage.traversal import Traversal
from quorate_node.filecoin.provider.catalog import Catalog, Dataset, Kind, Placed, measure_section

PART_BYTES = 1 << 20


class ContentChanged(ContentUnavailable):
    """A file is not what it was when it was put on sale: nothing is taken for it."""


def lay_out(store: BlobStore, root: Cid) -> Iterator[Placed]:
    """The blocks of a DAG in the order of its CAR (dfs, each once). Raises BlockNotFound where it is not whole."""
    at, walk = len(car.encode_header(root)), Traversal(root)
    while (cid := walk.wanted) is not None:
        size = store.size(cid)
        if size is None or cid.codec != RAW:
            block = store.get(cid)
            size = len(block)
            walk.accept(block)
        else:
            walk.accept(b"")  # a raw block has no links: no need to read it
        yield Placed(at, cid, size)
        at += measure_section(cid, size)


class PieceReader:
    """Reads parts of pieces. Methods block, and may be called from any thread."""

    def __init__(self, store: BlobStore, catalog: Catalog) -> None:
        self._store, self._catalog = store, catalog

    def check(self, dataset: Dataset) -> None:
        """Raise ContentChanged when a piece's file is not what it was."""
        if dataset.kind is Kind.FILE:
            os.close(_open(dataset))

    def read(self, dataset: Dataset, start: int, end: int) -> Iterator[bytes]:
        """Bytes `start` to `end`, not included, in parts of up to 1 MiB or a block.

        Raises ContentChanged, and BlockNotFound where a block has rotted.
        """
        if dataset.kind is Kind.FILE:
            return _read_file(dataset, start, end)
        return self._read_car(dataset, start, end)

    def read_whole(self, dataset: Dataset, start: int, end: int) -> bytes:
        """The same, in one piece."""
        return b"".join(self.read(dataset, start, end))

    def _read_car(self, dataset: Dataset, start: int, end: int) -> Iterator[bytes]:
        header = car.encode_header(dataset.root)
        if start < len(header):
            yield header[start:end]
        for at, cid, size in self._catalog.list_between(dataset, start, end):
            head = car.section_head(cid, size)
            if start < at + len(head):
                yield head[max(0, start - at) : max(0, end - at)]
            first = at + len(head)
            if start < first + size and end > first:
                yield self._store.get(cid)[max(0, start - first) : end - first]


def _open(dataset: Dataset) -> int:
    """A descriptor of the piece's file, as it was."""
    path = dataset.path
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ContentChanged(f"the file of {dataset.piece.v2} cannot be read: {error.strerror}") from error
    found = os.fstat(descriptor)
    if (found.st_size, found.st_mtime_ns) != (dataset.piece.size_bytes, dataset.mtime_ns):
        os.close(descriptor)
        raise ContentChanged(f"the file of {dataset.piece.v2} has changed: its owner has to add it again")
    return descriptor


def _read_file(dataset: Dataset, start: int, end: int) -> Iterator[bytes]:
    descriptor = _open(dataset)
    try:
        while start < end:
            part = os.pread(descriptor, min(PART_BYTES, end - start), start)
            if not part:
                raise ContentChanged(f"the file of {dataset.piece.v2} was cut while it was read")
            yield part
            start += len(part)
    finally:
        os.close(descriptor)
