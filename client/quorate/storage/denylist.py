"""Content that an operator will not have to do with: CIDs in a file, one a line; `#` begins a comment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from quorate.protocol.errors import DataError
from quorate.storage.cid import Cid


class Denied(DataError):
    """Content is here, and its operator will not serve it."""

    def __init__(self, cid: Cid) -> None:
        super().__init__(f"the operator of this gateway does not serve {cid}; ask another provider")


class DenyList:
    """`cid in list` goes by the hash: the same bytes under another version or codec are denied, too.

    A file is read again whenever it changes. One that cannot be read then, or that holds something else, leaves the
    list as it was, and `problem` says why.
    """

    def __init__(self, path: Path | None = None, *, is_optional: bool = False) -> None:
        """Raises DataError for a file that does not hold CIDs, or is not there though it is not optional."""
        self._path, self._is_optional = path, is_optional
        self._denied: frozenset[bytes] = frozenset()
        self._seen: tuple[int, int, int] | None = None
        self.problem: str | None = None
        if path is not None:
            self._seen = self._stat()
            self._denied = self._read()

    @classmethod
    def of(cls, cids: Iterable[Cid]) -> DenyList:
        """A list without a file."""
        found = cls()
        found._denied = frozenset(cid.multihash for cid in cids)
        return found

    def __contains__(self, cid: Cid) -> bool:
        self._refresh()
        return cid.multihash in self._denied

    def __len__(self) -> int:
        self._refresh()
        return len(self._denied)

    @property
    def multihashes(self) -> frozenset[bytes]:
        """Hashes of all that is denied; the same object for as long as the list is the same."""
        self._refresh()
        return self._denied

    def check(self, cid: Cid) -> None:
        """Raises Denied."""
        if cid in self:
            raise Denied(cid)

    def guard(self, get: Callable[[Cid], bytes]) -> Callable[[Cid], bytes]:
        """The same reader of blocks, which raises Denied for what is denied when it is read."""

        def get_allowed(cid: Cid) -> bytes:
            self.check(cid)
            return get(cid)

        return get_allowed

    def _refresh(self) -> None:
        if self._path is not None and (seen := self._stat()) != self._seen:
            self._seen = seen
            try:
                self._denied, self.problem = self._read(), None
            except DataError as error:
                self.problem = f"{error}; what it held before is still denied"

    def _stat(self) -> tuple[int, int, int] | None:
        assert self._path is not None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> frozenset[bytes]:
        assert self._path is not None
        try:
            lines = self._path.read_text("utf-8").splitlines()
        except FileNotFoundError:
            if self._is_optional:
                return frozenset()
            raise DataError(f"{self._path} does not exist: it holds CIDs, one a line") from None
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self._path} cannot be read: {error}; it holds CIDs, one a line") from error
        found = set()
        for number, line in enumerate(lines, start=1):
            if text := line.partition("#")[0].strip():
                try:
                    found.add(Cid.parse(text).multihash)
                except DataError as error:
                    raise DataError(f"{self._path}, line {number}: {error}") from error
        return frozenset(found)
