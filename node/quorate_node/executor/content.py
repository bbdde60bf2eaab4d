"""Between the blob store and a task's file tree: inputs appear as read-only files, outputs become a directory's CID."""

from __future__ import annotations

from pathlib import Path

from quorate.protocol.spec import JobSpec
from quorate.storage import unixfs
from quorate.storage.base import Additions, BlobStore, BlockNotFound
from quorate.storage.base import Entry as StoredEntry
from quorate.storage.cid import RAW, Cid
from quorate.storage.listing import is_plain_name
from quorate.terminal import make_printable
from quorate_node.executor.wasi.tree import Directory, File, Node, OverLimit, Usage

MAX_OUTPUT_DEPTH = 64  # directories below /outputs: well within what the store takes, which must never decide


class StoredFile:
    """A file of the store as a `tree.Source`: mapped where the store can, read otherwise."""

    __slots__ = ("_cid", "_store")

    def __init__(self, store: BlobStore, cid: Cid) -> None:
        self._store, self._cid = store, cid

    def size(self) -> int:
        """Bytes by the file's own blocks: what a directory says about its entries may be wrong."""
        if self._cid.codec != RAW:
            return unixfs.Node.parse(self._cid, self._store.get(self._cid)).file_size
        size = self._store.size(self._cid)
        if size is None:
            raise BlockNotFound(self._cid)
        return size

    def load(self) -> bytes | memoryview:
        """The bytes; ContentUnavailable or DataError if they are not (all) here."""
        mapped = self._store.map_file(self._cid)
        return self._store.read(self._cid) if mapped is None else mapped


def read_bounded(store: BlobStore, cid: Cid, max_bytes: int) -> bytes | None:
    """A whole file, or None if it is longer than `max_bytes`: found out before any of it is read."""
    if StoredFile(store, cid).size() > max_bytes:
        return None
    return store.read(cid, max_bytes)


def is_directory(store: BlobStore, cid: Cid) -> bool:
    """Whether `cid` is a UnixFS directory."""
    if cid.codec == RAW:
        return False
    return unixfs.Node.parse(cid, store.get(cid)).message.kind in (unixfs.DIRECTORY, unixfs.SHARD)


def mount_input(store: BlobStore, spec: JobSpec, usage: Usage) -> Directory:
    """The task's /inputs."""
    if spec.input is None:
        return Directory(usage, dict)
    cid = Cid.parse(spec.input)
    if is_directory(store, cid):
        return _directory(store, cid, usage)
    name = spec.input_name.encode()
    return Directory(usage, lambda: {name: File(usage, StoredFile(store, cid))})


def _directory(store: BlobStore, cid: Cid, usage: Usage) -> Directory:
    def load() -> dict[bytes, Node]:
        nodes: dict[bytes, Node] = {}
        for entry in store.list(cid):
            name = _guest_name(entry)
            if name is not None:
                nodes[name] = _node(store, entry, usage)
                if isinstance(child := nodes[name], Directory):
                    child.parent = directory
        return nodes

    directory = Directory(usage, load)
    return directory


def _guest_name(entry: StoredEntry) -> bytes | None:
    """The entry's name, or None where a program could not say it: such entries, and links, are not shown."""
    return entry.name.encode() if is_plain_name(entry.name) and entry.kind != "symlink" else None


def _node(store: BlobStore, entry: StoredEntry, usage: Usage) -> Node:
    if entry.kind == "unknown":
        raise BlockNotFound(entry.cid)
    if entry.kind == "directory":
        return _directory(store, entry.cid, usage)
    return File(usage, StoredFile(store, entry.cid))


def collect_outputs(root: Directory, usage: Usage) -> dict[str, bytes | None]:
    """Path → content of every file below `root`; None for an empty directory.

    Raises OverLimit for what is not agreed content: links, paths that are too long, and files that hard links
    multiply beyond the limit.
    """
    found: dict[str, bytes | None] = {}
    pending: list[tuple[bytes, Directory]] = [(b"", root)]
    total = 0
    while pending:
        prefix, directory = pending.pop()
        for name, node in directory.entries.items():
            path = prefix + name
            if len(path) > usage.max_path or path.count(b"/") >= MAX_OUTPUT_DEPTH:
                raise OverLimit(
                    f"a path in /outputs is longer than path_bytes = {usage.max_path} or deeper than {MAX_OUTPUT_DEPTH}"
                )
            total += node.size
            if total > usage.max_bytes:
                raise OverLimit(f"/outputs exceeds output_bytes = {usage.max_bytes - usage.given_bytes}")
            if isinstance(node, Directory):
                if not node.entries:
                    found[path.decode()] = None
                pending.append((path + b"/", node))
            elif isinstance(node, File):
                found[path.decode()] = bytes(node.data)
            else:
                raise OverLimit(
                    f"/outputs/{make_printable(path.decode())} is a link; outputs are files and directories only"
                )
    return found


def store_outputs(store: Additions, files: dict[str, bytes | None]) -> str:
    """Keep outputs as a UnixFS directory and return its CID."""
    entries: dict[str, bytes | Path | Cid] = {path: data for path, data in files.items() if data is not None}
    if len(entries) < len(files):
        empty = store.add_tree({})
        entries |= {path: empty for path, data in files.items() if data is None}
    return str(store.add_tree(entries))
