"""Room in a node's store: how much it may hold, what goes when it is full, and what never does.

What is pinned stays, and what was held since shortly before the oldest job in progress was posted: what such a job
needs, and what it has left. Of all else first goes what nobody holds any more, then what was used longest ago. Where
that is not enough, content is refused before any of it comes.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from quorate.protocol.errors import Busy, DataError
from quorate.storage.embedded import EmbeddedStore
from quorate_node.logs import get_logger
from quorate_node.roots import OwnRoots

GRACE_S = 2 * 3600.0
"""So long before its job is posted content may come: by a push, or for an earlier job."""
WAIT_S = 5.0
"""For a pause of those who add to the store, in which room can be made."""
PARTS = (2, 1)
"""Of what may go: the half that was used longest ago, then all."""


class StoreFull(Busy):
    """Content is refused, because there is no room for it; says what to do."""


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """`most_bytes` is what the store may take up on its disk (0: what there is), `spare_bytes` what is left free."""

    most_bytes: int = 0
    spare_bytes: int = 0


@dataclass(slots=True)
class RoomFigures:
    """In bytes; `evicted_bytes` and `refusals` (times that content was refused) since the node began.

    `spooled_bytes` have come, and lie beside the store until all of their DAG has.
    """

    used_bytes: int = 0
    spooled_bytes: int = 0
    free_disk_bytes: int = 0
    most_bytes: int = 0
    spare_bytes: int = 0
    evicted_bytes: int = 0
    refusals: int = 0


class Room:
    """The room in one store, for all threads of a node.

    `get_oldest` gives when the oldest job in progress was posted, in unix seconds of this host: now where there is
    none, None while that is not known yet. `roots` are told what is not whole any more.
    """

    def __init__(
        self, store: EmbeddedStore, limits: RoomLimits, roots: OwnRoots, get_oldest: Callable[[], float | None]
    ) -> None:
        self._store, self._limits, self._roots, self._get_oldest = store, limits, roots, get_oldest
        self._lock = threading.Lock()
        self._promised = 0
        self._log = get_logger()
        self.figures = RoomFigures(most_bytes=limits.most_bytes, spare_bytes=limits.spare_bytes)

    @contextmanager
    def taking(self, size: int) -> Iterator[None]:
        """While it lasts, up to so many bytes come into the store. Raises StoreFull before any does."""
        self.promise(size)
        try:
            yield
        finally:
            self.withdraw(size)

    def promise(self, size: int) -> None:
        """Keep room for so many bytes more, until they are withdrawn. Raises StoreFull where there is none."""
        with self._lock:
            self._make_room(size)
            self._promised += size

    def withdraw(self, size: int) -> None:
        """So much of what was promised has come, or will not come."""
        with self._lock:
            self._promised -= size

    def note_spooled(self, size: int) -> None:
        """So much more (less, where it is negative) of what was promised lies on the disk, beside the store as yet."""
        with self._lock:
            self.figures.spooled_bytes += size

    @property
    def directory(self) -> Path:
        """The store's, on the disk whose room this is."""
        return self._store.directory

    def measure(self) -> RoomFigures:
        """The figures as they are now."""
        self.figures.used_bytes = self._store.used_bytes()
        self.figures.free_disk_bytes = shutil.disk_usage(self._store.directory).free
        return self.figures

    def describe(self) -> dict[str, int]:
        """The same for `status`, with how many roots are pinned and held."""
        stats = self._store.stats()
        return asdict(self.measure()) | {"pins": stats.pins, "holds": stats.holds}

    def count_left(self) -> int:
        """How many bytes may come without anything having to go."""
        with self._lock:
            figures, limits = self.measure(), self._limits
            left = figures.free_disk_bytes + figures.spooled_bytes - limits.spare_bytes
            if limits.most_bytes:
                left = min(left, limits.most_bytes - figures.used_bytes)
            return max(0, left - self._promised)

    def _lacks(self, size: int) -> int:
        """How many bytes must go before so many may come."""
        figures, limits = self.measure(), self._limits
        coming = self._promised + size
        over = figures.used_bytes + coming - limits.most_bytes if limits.most_bytes else 0
        return max(0, over, coming + limits.spare_bytes - figures.free_disk_bytes - figures.spooled_bytes)

    def _make_room(self, size: int) -> None:
        if not self._lacks(size):
            return
        problem = ""
        try:
            if self._is_beyond_help(size):
                problem = "it would not fit into an empty store"
            elif self._collect(size) or any(self._release(part) and self._collect(size) for part in PARTS):
                return
        except (Busy, DataError) as error:
            problem = str(error)
        self.figures.refusals += 1
        raise StoreFull(self._explain(size, problem))

    def _is_beyond_help(self, size: int) -> bool:
        return 0 < self._limits.most_bytes < size

    def _collect(self, size: int) -> bool:
        """Remove what nobody holds; whether that is enough."""
        found = self._store.collect(wait_s=WAIT_S)
        if found.blocks:
            self.figures.evicted_bytes += found.bytes
            self._log.info("made room in the store", bytes=found.bytes, blocks=found.blocks)
            self._roots.keep_only(self._store.has)
        return not self._lacks(size)

    def _release(self, part: int) -> bool:
        """Hold no longer what was used longest ago and belongs to no job in progress; whether there was any."""
        oldest = self._get_oldest()
        if oldest is None:
            return False
        return self._store.release(oldest - GRACE_S, part) > 0

    def _explain(self, size: int, problem: str) -> str:
        figures, limits = self.figures, self._limits
        bound = f" of {limits.most_bytes} (store_bytes)" if limits.most_bytes else ""
        text = (
            f"no room for {size} bytes: the store takes up {figures.used_bytes}{bound}, {figures.free_disk_bytes} are "
            f"free on its disk, of which {limits.spare_bytes} are kept free (spare_disk_bytes)"
        )
        why = f"; {problem}" if problem else "; all of it is pinned or belongs to jobs in progress"
        return f"{text}{why}: make room on its disk, unpin what is not needed, or let it take more"
