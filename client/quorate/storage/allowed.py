"""An embedded store as its operator lets others see it: without what is denied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from quorate.storage.base import HOLD_S
from quorate.storage.cid import Cid
from quorate.storage.dagstore import DagStore
from quorate.storage.denylist import DenyList
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.index import Stats
from quorate.storage.session import EmbeddedSession


class AllowedStore(DagStore):
    """Whatever reads a block that is denied, alone or as a part of something, gets Denied. Pins go on as before."""

    def __init__(self, store: EmbeddedStore, denied: DenyList) -> None:
        self._store, self.denied = store, denied

    @property
    def directory(self) -> Path:
        return self._store.directory

    def get(self, cid: Cid) -> bytes:
        self.denied.check(cid)
        return self._store.get(cid)

    def has(self, cid: Cid) -> bool:
        self.denied.check(cid)
        return self._store.has(cid)

    def size(self, cid: Cid) -> int | None:
        self.denied.check(cid)
        return self._store.size(cid)

    def is_complete(self, cid: Cid) -> bool:
        return self._store.is_complete(cid)

    def session(self, *, is_durable: bool = True) -> AbstractContextManager[EmbeddedSession]:
        return self._store.session(is_durable=is_durable)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        with self._store.keeping():
            yield

    def hold(self, cids: Iterable[Cid], seconds: float = HOLD_S) -> None:
        self._store.hold(cids, seconds)

    def stats(self) -> Stats:
        return self._store.stats()

    def sync(self) -> None:
        self._store.sync()

    def pin(self, cid: Cid) -> None:
        self._store.pin(cid)

    def unpin(self, cid: Cid) -> None:
        self._store.unpin(cid)

    def pins(self) -> Sequence[Cid]:
        return self._store.pins()

    def close(self) -> None:
        self._store.close()
