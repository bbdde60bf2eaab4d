"""The files of a directory that a job is divided over: which they are is the same for everybody, or an agreed refusal.

What a program could not name (see `is_plain_name`), links, and what is neither file nor directory are left out.
Directories that share children list more paths than they have blocks: hence the limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

from quorate.protocol.errors import ContentUnavailable, DataError, ValidationError
from quorate.storage import reader, unixfs
from quorate.storage.base import MAX_BLOCK_BYTES, BlobStore, BlockNotFound
from quorate.storage.cid import DAG_PB, RAW, Cid
from quorate.storage.dagpb import Link
from quorate.storage.fetch import fetch_block, fetch_entity
from quorate.storage.providers import ProviderBook
from quorate.storage.transfer import FetchLimits

MAX_FILES = 1 << 18
MAX_DIRECTORIES = 1 << 16
MAX_PATHS_BYTES = 32 << 20
MAX_DEPTH = 64
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4000
"""A path is told to programs below /inputs, and they know none over 4,096 bytes."""
FETCHES = 8

Get = Callable[[Cid], bytes]


class Unlistable(ValidationError):
    """No directory, a malformed one, or one beyond the limits: so everybody finds, for its blocks are here."""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file at its path; `size` in bytes is what blocks above it claim."""

    path: str
    cid: Cid
    size: int


@dataclass(frozen=True, slots=True)
class _Folder:
    cid: Cid
    prefix: str
    depth: int


def is_plain_name(name: str) -> bool:
    """Whether a program could say an entry's name: UTF-8 of at most 255 bytes, and no way to another folder."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name and size <= MAX_NAME_BYTES


def list_files(get: Get, root: Cid) -> list[ListedFile]:
    """All files below a directory, in no order.

    Raises Unlistable; BlockNotFound where a block that tells is not here.
    """
    return _Lister(get, lambda cids, _: _miss(cids)).run(root)


def fetch_listing(
    store: BlobStore,
    root: Cid,
    providers: Sequence[str],
    limits: FetchLimits | None = None,
    book: ProviderBook | None = None,
) -> list[ListedFile]:
    """`list_files`, with the blocks that tell brought from `providers`: a directory's own, and of each large file one.

    Of `limits` `max_bytes` counts for each directory.
    """
    chosen, known = limits or FetchLimits(), book or ProviderBook()
    block_limits = replace(chosen, max_bytes=MAX_BLOCK_BYTES)

    def bring(cids: Sequence[Cid], whole: bool) -> None:
        if whole:
            fetch = partial(fetch_entity, store, providers=providers, limits=chosen, book=known)
        else:
            fetch = partial(fetch_block, store, providers=providers, limits=block_limits, book=known)
        if len(cids) == 1:
            fetch(cids[0])
            return
        with ThreadPoolExecutor(FETCHES, "listing") as threads:
            for _ in threads.map(fetch, cids):
                pass

    return _Lister(store.get, bring, store.has).run(root)


def _miss(cids: Sequence[Cid]) -> None:
    raise BlockNotFound(cids[0])


class _Lister:
    """One walk, folder by folder; `bring` gets blocks that are not here, of directories with all their shards."""

    def __init__(
        self, get: Get, bring: Callable[[Sequence[Cid], bool], None], has: Callable[[Cid], bool] | None = None
    ) -> None:
        self._get, self._bring, self._has = get, bring, has
        self._files: list[ListedFile] = []
        self._paths_bytes = self._folders = 0

    def run(self, root: Cid) -> list[ListedFile]:
        pending = [_Folder(root, "", 0)]
        while pending:
            folder = pending.pop()
            self._folders += 1
            if self._folders > MAX_DIRECTORIES:
                raise Unlistable(f"the input has more than {MAX_DIRECTORIES} directories: split it")
            if folder.depth > MAX_DEPTH:
                raise Unlistable(f"the input nests deeper than {MAX_DEPTH} directories")
            pending += self._open(folder)
        return self._files

    def _open(self, folder: _Folder) -> list[_Folder]:
        """Note the files of a folder; the folders in it."""
        links = [link for link in self._links(folder.cid) if is_plain_name(link.name)]
        if any(a.name == b.name for a, b in pairwise(links)):
            raise Unlistable(f"the directory {folder.cid} has one name twice: it is malformed")
        inner = [link.cid for link in links if link.cid.codec == DAG_PB]
        if self._has is not None and (absent := [cid for cid in dict.fromkeys(inner) if not self._has(cid)]):
            self._bring(absent, False)
        below: list[_Folder] = []
        for link in links:
            path = folder.prefix + link.name
            size = len(path.encode())
            if size > MAX_PATH_BYTES:
                continue
            kind, file_size = self._look(link)
            if kind in (unixfs.DIRECTORY, unixfs.SHARD):
                below.append(_Folder(link.cid, path + "/", folder.depth + 1))
            elif kind == unixfs.FILE:
                self._note(ListedFile(path, link.cid, file_size), size)
        return below

    def _note(self, file: ListedFile, path_bytes: int) -> None:
        self._files.append(file)
        self._paths_bytes += path_bytes
        if len(self._files) > MAX_FILES or self._paths_bytes > MAX_PATHS_BYTES:
            raise Unlistable(f"the input has over {MAX_FILES} files, or {MAX_PATHS_BYTES} bytes of paths: split it")

    def _look(self, link: Link) -> tuple[int | None, int]:
        """What a link leads to, and its bytes; None where that is nothing of UnixFS."""
        if link.cid.codec == RAW:
            return unixfs.FILE, link.tsize
        if link.cid.codec != DAG_PB:
            return None, 0
        block = self._get(link.cid)
        try:
            node = unixfs.Node.parse(link.cid, block)
        except DataError:
            return None, 0
        return (unixfs.FILE, node.file_size) if node.message.is_file else (node.message.kind, 0)

    def _links(self, cid: Cid) -> list[Link]:
        problem: ContentUnavailable | DataError | None = None

        def get(wanted: Cid) -> bytes:
            """Errors of the store are this host's; those of the blocks are everybody's."""
            nonlocal problem
            try:
                return self._get(wanted)
            except (ContentUnavailable, DataError) as error:
                problem = error
                raise

        for _ in range(2):
            try:
                return reader.directory_links(get, cid)
            except (ContentUnavailable, DataError) as error:
                if problem is None:
                    raise Unlistable(f"the input {cid} cannot be listed: {error}") from error
                if not isinstance(problem, BlockNotFound):
                    raise
                problem = None
                self._bring([cid], True)
        raise BlockNotFound(cid)
