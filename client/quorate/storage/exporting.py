"""From DAGs to files and folders, when neither the names nor the sizes can be trusted."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from quorate.protocol.errors import DataError
from quorate.storage import reader, unixfs
from quorate.storage.adding import OnBytes, check_name
from quorate.storage.cid import Cid
from quorate.storage.dagpb import Link
from quorate.storage.traversal import MAX_DEPTH

MAX_ENTRIES = 4_000_000
_SPARE_BYTES = 64 * 1024 * 1024  # left on the disk for everybody else


class Exporter:
    """One export: counts bytes and entries, so that a small bomb cannot fill a disk."""

    def __init__(
        self, get: Callable[[Cid], bytes], max_bytes: int | None, free_bytes: int, on_bytes: OnBytes | None = None
    ) -> None:
        self._on_bytes = on_bytes
        self._get, self._left, self._entries = get, free_bytes, MAX_ENTRIES
        self._limit = "the free space on the disk"
        if max_bytes is not None and max_bytes < free_bytes:
            self._left, self._limit = max_bytes, f"the limit of {max_bytes} bytes"
        self.written_bytes = 0

    def write(self, cid: Cid, dest: Path, depth: int = 0) -> None:
        """Create `dest` as the file or the directory that `cid` is."""
        block = self._get(cid)
        node = unixfs.Node.parse(cid, block)

        def get(wanted: Cid) -> bytes:
            """A root is read, and checked, once: many exports are of little more."""
            return block if wanted is cid else self._get(wanted)

        if node.message.is_file:
            self._write_file(reader.stream_file(get, cid), node.file_size, dest)
        elif node.message.kind in (unixfs.DIRECTORY, unixfs.SHARD):
            self._write_directory(reader.directory_links(get, cid), cid, dest, depth)
        else:
            raise DataError(f"{dest.name!r} would be a symbolic link; links are not exported")

    def _write_file(self, pieces: Iterator[bytes], size: int, dest: Path) -> None:
        if size > self._left:
            raise DataError(
                f"{dest.name!r} has {size} bytes, which exceeds {self._limit}; make room or raise the limit"
            )
        self._left -= size
        with dest.open("xb") as file:
            if self._on_bytes is not None:
                self._on_bytes(0)  # also of an empty file: a million of them take time, too
            for piece in pieces:
                file.write(piece)
                self.written_bytes += len(piece)
                if self._on_bytes is not None:
                    self._on_bytes(len(piece))

    def _write_directory(self, links: Sequence[Link], cid: Cid, dest: Path, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise DataError(f"{dest} nests deeper than {MAX_DEPTH} directories; it is refused as a bomb")
        dest.mkdir()
        if self._on_bytes is not None:
            self._on_bytes(0)
        self._entries -= len(links)
        if self._entries < 0:
            raise DataError(f"the directory has more than {MAX_ENTRIES} entries below it; it is refused as a bomb")
        names = [link.name for link in links]
        if len(set(names)) != len(names):
            raise DataError(f"the directory {cid} has one name twice; it is malformed")
        for link in links:
            check_name(link.name)
            self.write(link.cid, dest / link.name, depth + 1)


def export(
    get: Callable[[Cid], bytes],
    cid: Cid,
    dest: Path,
    max_bytes: int | None,
    on_bytes: OnBytes | None = None,
    work: Path | None = None,
) -> int:
    """Write `cid` to `dest` and return the bytes written.

    `dest` appears whole or not at all: it is written beside, or in the folder `work` of the same file system, and
    renamed. DataError when it exists already.
    """
    if os.path.lexists(dest):
        raise DataError(f"{dest} exists; remove it or choose another name")
    dest.parent.mkdir(parents=True, exist_ok=True)
    free = max(0, shutil.disk_usage(dest.parent).free - _SPARE_BYTES)
    exporter = Exporter(get, max_bytes, free, on_bytes)
    with contextlib.ExitStack() as stack:
        if work is None:
            beside = tempfile.TemporaryDirectory(prefix=".quorate-export-", dir=dest.parent)
            work = Path(stack.enter_context(beside))
        unfinished = work / secrets.token_hex(8)
        try:
            exporter.write(cid, unfinished)
            unfinished.rename(dest)
        except OSError as error:
            raise DataError(f"{dest} cannot be written: {error.strerror}; check room, rights and names") from error
    return exporter.written_bytes
