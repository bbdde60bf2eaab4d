"""From bytes, files and folders to DAGs.

Hidden files belong to a folder as all others do; an `ipfs add -r -H` gives the same CID. Modes and times do not.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from quorate.protocol.errors import Busy, DataError
from quorate.storage import dagpb, unixfs
from quorate.storage.base import Session
from quorate.storage.cid import DAG_PB, RAW, Cid
from quorate.storage.dagpb import Link
from quorate.storage.directories import build_directory
from quorate.storage.traversal import MAX_DEPTH
from quorate.storage.unixfs import FileBuilder, Part, Profile

SMALL_FILE_BYTES = 64 * 1024  # below it a reference costs more than the bytes

Source = bytes | Path | Cid | Link
"""A link is taken as it is, with the size that it claims; of a CID the block is read for it."""
OnBytes = Callable[[int], None]
_Tree = dict[str, "Source | _Tree"]


class Steered:
    """A session that copies what it could refer to, if asked, and tells how many bytes of files it took."""

    def __init__(self, session: Session, *, copy: bool = False, on_bytes: OnBytes | None = None) -> None:
        self._session, self._copy, self._on_bytes = session, copy, on_bytes

    @property
    def new_blocks(self) -> int:
        return self._session.new_blocks

    @property
    def new_bytes(self) -> int:
        return self._session.new_bytes

    def put(self, cid: Cid, block: bytes, *, is_chunk: bool = False) -> None:
        self._session.put(cid, block, is_chunk=is_chunk)
        if is_chunk or cid.codec == RAW:
            self._tell(len(block))

    def refer(self, cid: Cid, path: Path, offset: int, length: int) -> bool:
        if self._copy or not self._session.refer(cid, path, offset, length):
            return False
        self._tell(length)
        return True

    def hold(self, cids: Iterable[Cid], seconds: float) -> None:
        self._session.hold(cids, seconds)

    def _tell(self, count: int) -> None:
        if self._on_bytes is not None:
            self._on_bytes(count)


class Hashing:
    """A session that keeps nothing: content's CID is all that is wanted."""

    new_blocks = new_bytes = 0

    def put(self, cid: Cid, block: bytes, *, is_chunk: bool = False) -> None:
        """Forgotten."""

    def refer(self, cid: Cid, path: Path, offset: int, length: int) -> bool:
        return True

    def hold(self, cids: Iterable[Cid], seconds: float) -> None:
        """There is nothing to hold."""


def add_bytes(session: Session, data: bytes, profile: Profile) -> Part:
    """Keep a file whose bytes are in memory."""
    builder = FileBuilder(profile)
    for start in range(0, len(data), profile.chunk):
        part, block = unixfs.leaf(data[start : start + profile.chunk], profile)
        session.put(part.cid, block, is_chunk=len(data) > profile.chunk)
        _keep(session, builder, part)
    return _finish(session, builder)


def add_path(session: Session, path: Path, profile: Profile, depth: int = 0) -> Part:
    """Keep a file or a folder; DataError for links, devices and what cannot be read."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            return _add_file(session, path, profile)
        if stat.S_ISDIR(mode):
            if depth > MAX_DEPTH:
                raise DataError(f"{path} nests deeper than {MAX_DEPTH} directories")
            names = sorted(os.listdir(path))  # noqa: PTH208
            children = {name: add_path(session, path / name, profile, depth + 1) for name in names}
            return _keep_directory(session, children, profile)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check its name and its rights") from error
    kind = "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a directory"
    raise DataError(f"{path} is {kind}; replace it by the file that is meant, or leave it out")


def add_stream(session: Session, read: Callable[[int], bytes], profile: Profile) -> Part:
    """Keep a file of unknown length, a chunk in memory at a time; `read` gives at most as much as it is asked for."""
    builder = FileBuilder(profile)
    chunk = _read_chunk(read, profile.chunk)
    is_large = len(chunk) == profile.chunk
    while chunk:
        part, block = unixfs.leaf(chunk, profile)
        session.put(part.cid, block, is_chunk=is_large)
        _keep(session, builder, part)
        chunk = _read_chunk(read, profile.chunk)
    return _finish(session, builder)


def _read_chunk(read: Callable[[int], bytes], size: int) -> bytes:
    """Chunks must not depend on how a pipe answers."""
    pieces, missing = list[bytes](), size
    while missing and (piece := read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def add_tree(session: Session, get: Callable[[Cid], bytes], entries: Mapping[str, Source], profile: Profile) -> Part:
    """Keep a directory of bytes, paths and CIDs under names that may hold '/'."""
    tree: _Tree = {}
    for name, source in entries.items():
        _place(tree, name, source)
    return _add_subtree(session, get, tree, profile)


def _add_subtree(session: Session, get: Callable[[Cid], bytes], tree: _Tree, profile: Profile) -> Part:
    children: dict[str, Part] = {}
    for name, source in tree.items():
        if isinstance(source, dict):
            children[name] = _add_subtree(session, get, source, profile)
        elif isinstance(source, Cid):
            children[name] = part_of(get, source)
        elif isinstance(source, Link):
            children[name] = Part(source.cid, 0, source.tsize)
        elif isinstance(source, bytes):
            children[name] = add_bytes(session, source, profile)
        else:
            children[name] = add_path(session, source, profile)
    return _keep_directory(session, children, profile)


def _place(tree: _Tree, path: str, source: Source) -> None:
    *folders, name = path.split("/")
    if len(folders) > MAX_DEPTH:
        raise DataError(f"the name {path[:80]!r}… nests deeper than {MAX_DEPTH} directories")
    for folder in folders:
        check_name(folder)
        below = tree.setdefault(folder, {})
        if not isinstance(below, dict):
            raise DataError(f"{folder!r} in {path!r} is a file and a directory at once; rename one")
        tree = below
    check_name(name)
    if name in tree:
        raise DataError(f"{path!r} is named twice, or is a file and a directory at once; rename one")
    tree[name] = source


def check_name(name: str) -> None:
    """DataError for names that no file system should be asked to create."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise DataError(f"{name!r} is no name for a file; it must not be empty, '.', '..', nor hold '/' or NUL")


def part_of(get: Callable[[Cid], bytes], cid: Cid) -> Part:
    """A link's sizes for content that is here already; BlockNotFound when it is not."""
    block = get(cid)
    if cid.codec != DAG_PB:
        return Part(cid, len(block), len(block))
    return Part(cid, 0, len(block) + sum(link.tsize for link in dagpb.decode(block).links))


def _add_file(session: Session, path: Path, profile: Profile) -> Part:
    """Chunk by chunk; Busy when somebody writes to it meanwhile: its CID would be of no file that ever was."""
    builder = FileBuilder(profile)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        is_large = before.st_size > profile.chunk
        may_refer = profile.raw_leaves and before.st_size > SMALL_FILE_BYTES
        buffer = bytearray(min(profile.chunk, before.st_size + 1))
        offset = 0
        while length := _fill(file.readinto, buffer):
            chunk = memoryview(buffer)[:length]
            if may_refer:
                cid = Cid.of(chunk, RAW)
                if session.refer(cid, path, offset, length):
                    _keep(session, builder, Part(cid, length, length))
                    offset += length
                    continue
                may_refer = False
            part, block = unixfs.leaf(bytes(chunk), profile)
            session.put(part.cid, block, is_chunk=is_large)
            _keep(session, builder, part)
            offset += length
        after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or offset != after.st_size:
        raise Busy(f"{path} changed while it was read; add it again when nobody writes to it")
    return _finish(session, builder)


def _fill(readinto: Callable[[memoryview], int | None], buffer: bytearray) -> int:
    """Read until the buffer is full or the file ends: chunks must not depend on how a file system answers."""
    view, at = memoryview(buffer), 0
    while at < len(buffer) and (count := readinto(view[at:])):
        at += count
    return at


def _keep(session: Session, builder: FileBuilder, part: Part) -> None:
    for cid, block in builder.add(part):
        session.put(cid, block)


def _finish(session: Session, builder: FileBuilder) -> Part:
    for cid, block in builder.finish():
        session.put(cid, block)
    assert builder.root is not None
    return builder.root


def _keep_directory(session: Session, children: Mapping[str, Part], profile: Profile) -> Part:
    root: Part | None = None
    for part, block in build_directory((child.link(name) for name, child in children.items()), profile):
        session.put(part.cid, block)
        root = part
    assert root is not None
    return root
