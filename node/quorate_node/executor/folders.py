"""Folders of this machine for a program that is tried out: copied into memory, and written back only where asked."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quorate.protocol.errors import ConfigurationError
from quorate.protocol.spec import GIB, JobSpec, canonical_json
from quorate.storage.base import Additions, BlobStore
from quorate.storage.cid import Cid
from quorate_node.executor.content import collect_outputs, store_outputs
from quorate_node.executor.wasi.host import Preopen
from quorate_node.executor.wasi.tree import MAX_PATH_BYTES, Directory, File, Node, Symlink, Usage
from quorate_node.executor.world import OUTPUTS, Mounted

MAX_COPY_BYTES = 4 * GIB
MAX_COPY_FILES = 1_000_000
MAX_DEPTH = 256


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of this machine under the name that the guest sees."""

    source: Path
    guest: bytes

    @classmethod
    def parse(cls, text: str) -> Folder:
        """`HOST::GUEST`; without `::GUEST` the guest sees it under the same name. Raises ConfigurationError."""
        host, sign, guest = text.rpartition("::")
        source = Path(host if sign else text).expanduser()
        if sign and not host:
            raise ConfigurationError(f"--dir {text!r} names no folder of this machine: give HOST::GUEST, as .::{guest}")
        if not source.is_dir():
            raise ConfigurationError(f"{str(source)!r} is not a folder: give --dir HOST::GUEST")
        name = _guest_name(text, guest if sign else text)
        if not name or len(name) > MAX_PATH_BYTES:
            raise ConfigurationError(f"the guest's name in --dir {text!r} must have 1 to {MAX_PATH_BYTES} bytes")
        return cls(source, name)


@dataclass(slots=True)
class FolderWorld:
    """Copies of `folders`, writable, and nothing else.

    What was copied in is not part of the program's allowance. What is kept, and so goes into the digest, is a listing
    of all that the folders hold in the end; a folder that the guest sees as /outputs is stored as a job's would be.
    """

    folders: Sequence[Folder]
    outputs: str | None = field(default=None, init=False)

    def mount(self, spec: JobSpec, store: BlobStore) -> Mounted:
        """Copy the folders in."""
        usage = Usage(MAX_COPY_BYTES, MAX_COPY_FILES)
        copies = {place: _copy(folder.source, usage) for place, folder in self._by_name()}
        preopens = [Preopen(folder.guest, copies[place]) for place, folder in enumerate(self.folders)]
        usage.given_bytes, usage.given_files = usage.bytes, usage.files
        usage.max_bytes = usage.bytes + spec.limits.output_bytes
        usage.max_files = usage.files + spec.limits.output_files
        usage.max_path = spec.limits.path_bytes
        return Mounted(preopens, usage)

    def keep(self, mounted: Mounted, store: Additions) -> str:
        """The CID of the listing."""
        outputs = mounted.find(OUTPUTS)
        if outputs is not None:
            self.outputs = store_outputs(store, collect_outputs(outputs, mounted.usage))
        listing = [
            [os.fsdecode(folder.guest), dict(_describe(mounted.preopens[place].directory))]
            for place, folder in self._by_name()
        ]
        return str(store.put_raw(canonical_json(listing)))

    def _by_name(self) -> list[tuple[int, Folder]]:
        """The folders with their places, in an order that does not depend on it: for inodes and the digest."""
        return sorted(enumerate(self.folders), key=lambda item: item[1].guest)


def _copy(source: Path, usage: Usage, depth: int = 0) -> Directory:
    """The folder with its files, folders and links; in bytewise order, which numbers the inodes."""
    directory = Directory(usage)
    try:
        entries = sorted(os.scandir(source), key=lambda entry: os.fsencode(entry.name))
        for entry in entries:
            if node := _copy_entry(Path(entry.path), entry.stat(follow_symlinks=False), usage, depth):
                directory.attach(_guest_name(entry.path, entry.name), node)
    except OSError as error:
        raise ConfigurationError(f"cannot read {source}: {error.strerror}") from error
    return directory


def _copy_entry(path: Path, status: os.stat_result, usage: Usage, depth: int) -> Node | None:
    """A copy; None for devices, sockets and the like, which have no place in a guest."""
    if usage.bytes + status.st_size > usage.max_bytes or usage.files >= usage.max_files or depth >= MAX_DEPTH:
        raise ConfigurationError(f"{path}: --dir copies at most {MAX_COPY_BYTES >> 30} GiB, {MAX_COPY_FILES} files and "
                        f"{MAX_DEPTH} levels; give a smaller folder")  # fmt: skip
    if stat.S_ISDIR(status.st_mode):
        return _copy(path, usage, depth + 1)
    if stat.S_ISLNK(status.st_mode):
        return Symlink(usage, os.fsencode(path.readlink()))
    if not stat.S_ISREG(status.st_mode):
        return None
    file = File(usage)
    file.write(0, memoryview(path.read_bytes()))
    return file


def _guest_name(path: str, name: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path)
        raise ConfigurationError(f"{shown!r} is not a name in UTF-8, so no program could say it: rename it") from None


def _describe(root: Directory) -> Iterator[tuple[str, str | None]]:
    """Path → sha2-256 of a file, the target of a link after an arrow, None for a folder; whatever the depth."""
    pending: list[tuple[bytes, Directory]] = [(b"", root)]
    while pending:
        prefix, directory = pending.pop()
        for name, node in directory.entries.items():
            path = prefix + name
            if isinstance(node, Directory):
                pending.append((path + b"/", node))
                yield path.decode(), None
            elif isinstance(node, Symlink):
                yield path.decode(), "-> " + node.target.decode(errors="replace")
            elif isinstance(node, File):
                yield path.decode(), hashlib.sha256(node.data).hexdigest()


def check_out(folder: Path) -> None:
    """ConfigurationError unless outputs can be written here: into a new folder, or one that is empty."""
    try:
        if not folder.exists() and not folder.is_symlink():
            place = next(parent for parent in folder.absolute().parents if parent.exists())
            if not (place.is_dir() and os.access(place, os.W_OK)):
                raise ConfigurationError(f"{folder} cannot be made: {place} is no folder that can be written to")
        elif not folder.is_dir():
            raise ConfigurationError(f"{folder} is no folder, and --out writes one: give it another name")
        elif any(folder.iterdir()):
            raise ConfigurationError(
                f"{folder} is not empty, and outputs are not mixed with what was there: give a new folder to --out"
            )
    except OSError as error:
        raise ConfigurationError(f"cannot write {folder}: {error.strerror}; give another folder to --out") from error


def write_back(store: BlobStore, root: Cid, folder: Path) -> int:
    """Write a stored folder over an empty one of this machine; the number of files. Raises ConfigurationError.

    Whatever has come to stand there meanwhile is neither followed nor changed.
    """
    count = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, entry in store.walk(root):
            target = folder / path
            if entry.kind == "directory":
                target.mkdir()
                continue
            with target.open("xb") as file:
                file.write(store.read(entry.cid))
            count += 1
    except OSError as error:
        raise ConfigurationError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    return count
