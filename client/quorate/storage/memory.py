"""A store in memory: for tests, for hashing without keeping, and to be read as the smallest store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from quorate.storage.base import BlockNotFound
from quorate.storage.cid import Cid
from quorate.storage.dagstore import DagStore


class MemoryStore(DagStore):
    """BlobStore whose blocks end with the process."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, bytes] = {}
        self._pins: dict[Cid, None] = {}

    def has(self, cid: Cid) -> bool:
        cid.check_supported()
        return cid.is_identity or cid.multihash in self._blocks

    def get(self, cid: Cid) -> bytes:
        cid.check_supported()
        if cid.is_identity:
            return cid.inline
        try:
            return self._blocks[cid.multihash]
        except KeyError:
            raise BlockNotFound(cid) from None

    def size(self, cid: Cid) -> int | None:
        return len(self.get(cid)) if self.has(cid) else None

    @contextmanager
    def session(self, *, is_durable: bool = True) -> Iterator[_MemorySession]:
        yield _MemorySession(self._blocks)

    def sync(self) -> None:
        """Nothing here outlives the process."""

    def pin(self, cid: Cid) -> None:
        self._pins[cid] = None

    def unpin(self, cid: Cid) -> None:
        self._pins.pop(cid, None)

    def pins(self) -> Sequence[Cid]:
        return list(self._pins)

    def close(self) -> None:
        self._blocks.clear()


class _MemorySession:
    def __init__(self, blocks: dict[bytes, bytes]) -> None:
        self._blocks = blocks
        self.new_blocks = self.new_bytes = 0

    def put(self, cid: Cid, block: bytes, *, is_chunk: bool = False) -> None:
        if cid.is_identity or cid.multihash in self._blocks:
            return
        self._blocks[cid.multihash] = bytes(block)
        self.new_blocks += 1
        self.new_bytes += len(block)

    def hold(self, cids: Iterable[Cid], seconds: float) -> None:
        """Nothing is thrown away here."""

    def refer(self, cid: Cid, path: Path, offset: int, length: int) -> bool:
        return False
