"""A container's folders on this host: inputs that it cannot change, outputs that cannot fill a disk.

/outputs is a tmpfs of its own with a limit on bytes and inodes, which only root can mount. What it holds is read when
no process of the container lives any more, without following any link.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from quorate.protocol.container import ContainerLimits, ContainerSpec
from quorate.protocol.errors import ConfigurationError, DataError, RecoverableError
from quorate.storage.base import Additions, BlobStore
from quorate.storage.cid import Cid
from quorate.storage.exporting import MAX_ENTRIES, export
from quorate.storage.extent import Extent, measure
from quorate.terminal import make_printable
from quorate_node.executor.content import MAX_OUTPUT_DEPTH, is_directory, store_outputs
from quorate_node.executor.docker_clock import Allowance
from quorate_node.executor.wasi.tree import MAX_PATH_BYTES, OverLimit

NOBODY = 65534
EPOCH_NS = 1_577_836_800 * 10**9  # every time of an input: the start of 2020, as WASM programs see it
PAGE_BYTES = 4096
LEAST_NAME_BYTES = 32
SPARE_BYTES = 256 << 20  # left on the disk for everybody else
_NOSUID, _NODEV, _NOEXEC, _DETACH = 2, 4, 8, 2


@dataclass(frozen=True, slots=True)
class TaskFolders:
    """Where one task's /inputs and /outputs lie on this host."""

    inputs: Path
    outputs: Path


class HostFull(RecoverableError):
    """This host has no room for a task."""


class InputRefused(DataError):
    """The input is more, when it is written out, than its order says."""


@contextmanager
def make_folders(
    scratch: Path, store: BlobStore, spec: ContainerSpec, max_input_bytes: int, allowance: Allowance
) -> Iterator[TaskFolders]:
    """The folders of one task, gone afterwards.

    Raises ConfigurationError, TaskOver, InputRefused and any other DataError of the input, HostFull.
    """
    home = scratch / uuid4().hex
    folders = TaskFolders(home / "inputs", home / "outputs")
    home.mkdir(mode=0o700)
    try:
        _fill_inputs(store, spec, folders.inputs, max_input_bytes, allowance)
        folders.outputs.mkdir(mode=0)  # where a daemon does not see the mount, a container could not write either
        _mount(folders.outputs, spec.limits)
        yield folders
    finally:
        _remove(home)


def remove_leftovers(scratch: Path) -> None:
    """Make `scratch`, for us alone, without what a node that died left in it."""
    scratch.mkdir(parents=True, exist_ok=True)
    scratch.chmod(0o700)
    for home in scratch.iterdir():
        _remove(home)


def _fill_inputs(store: BlobStore, spec: ContainerSpec, folder: Path, max_bytes: int, allowance: Allowance) -> None:
    if spec.input is None:
        folder.mkdir()
    else:
        cid = Cid.parse(spec.input)
        check_extent(measure(store, cid), max_bytes, shutil.disk_usage(folder.parent).free)
        if not (is_folder := is_directory(store, cid)):
            folder.mkdir()
        place = folder if is_folder else folder / spec.input_name

        def keep_time(_: int) -> None:
            allowance.left()

        export(store.get, cid, place, max_bytes, keep_time)
    for parent, _, names in os.walk(folder, topdown=False):
        for path in (*(Path(parent, name) for name in names), Path(parent)):
            allowance.left()
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, ns=(EPOCH_NS, EPOCH_NS))


def check_extent(extent: Extent, max_bytes: int, free_bytes: int) -> None:
    """Raise InputRefused for an input that must not be written out, HostFull for one that cannot be here.

    Every name takes at least LEAST_NAME_BYTES of a block, so that no honest order grants too little.
    """
    bytes_ = extent.bytes + LEAST_NAME_BYTES * extent.entries
    if bytes_ > max_bytes or extent.entries > MAX_ENTRIES:
        text = f"{extent.bytes} bytes in {extent.entries} files and folders, and its order grants {max_bytes}"
        raise InputRefused(f"the input, written out, has {text}")
    needed = extent.bytes + PAGE_BYTES * extent.entries  # a small file takes up a page of the disk, or its inode
    if needed + SPARE_BYTES > free_bytes:
        raise HostFull(f"the input takes up {needed} bytes, and {free_bytes} are free for it: make room")


def _mount(folder: Path, limits: ContainerLimits) -> None:
    """One file and one page more than allowed fit in, so that a program over its limit is seen to be."""
    inodes = limits.output_files + 2
    size = -(-limits.output_bytes // PAGE_BYTES) * PAGE_BYTES + (inodes + 1) * PAGE_BYTES
    options = f"size={size},nr_inodes={inodes},uid={NOBODY},gid={NOBODY},mode=0755"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"quorate", os.fsencode(folder), b"tmpfs", _NOSUID | _NODEV | _NOEXEC, options.encode()) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise ConfigurationError(f"no limited /outputs can be mounted here ({reason}): run the node as root")


def _remove(home: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    while libc.umount2(os.fsencode(home / "outputs"), _DETACH) == 0:
        pass
    shutil.rmtree(home, ignore_errors=True)


def store_folder(root: Path, limits: ContainerLimits, store: Additions) -> str:
    """Keep the files and folders below `root` and return the directory's CID.

    Raises OverLimit, before anything large is read, for more than the limits allow and for what is no agreed content.
    """
    found = _list_outputs(root, limits)
    return store_outputs(store, {name: _read(root, path) if path else None for name, path in found})


def _list_outputs(root: Path, limits: ContainerLimits) -> list[tuple[str, bytes | None]]:
    """Files with their paths below `root`, and folders that are empty (None)."""
    found: list[tuple[str, bytes | None]] = []
    pending: list[tuple[bytes, int]] = [(b"", 0)]
    count = total = 0
    while pending:
        prefix, depth = pending.pop()
        is_empty = True
        with os.scandir(os.fsencode(root) + b"/" + prefix) as entries:
            for entry in entries:
                is_empty = False
                name, status = prefix + entry.name, entry.stat(follow_symlinks=False)
                count, total = count + 1, total + (status.st_size if stat.S_ISREG(status.st_mode) else 0)
                _check_output(name, status.st_mode, depth)
                if count > limits.output_files:
                    raise OverLimit(f"/outputs holds more than output_files = {limits.output_files}")
                if total > limits.output_bytes:
                    raise OverLimit(f"/outputs exceeds output_bytes = {limits.output_bytes}")
                if stat.S_ISDIR(status.st_mode):
                    pending.append((name + b"/", depth + 1))
                else:
                    found.append((name.decode(), name))
        if is_empty and prefix:
            found.append((prefix.decode().rstrip("/"), None))
    return found


def _check_output(name: bytes, mode: int, depth: int) -> None:
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OverLimit(
            f"/outputs/{make_printable(name.decode(errors='replace'))} is a link, a device, a pipe or a socket"
        )
    if len(name) > MAX_PATH_BYTES or depth >= MAX_OUTPUT_DEPTH:
        raise OverLimit(f"a path in /outputs is longer than {MAX_PATH_BYTES} bytes or deeper than {MAX_OUTPUT_DEPTH}")
    try:
        name.decode()
    except UnicodeDecodeError:
        raise OverLimit(f"a name in /outputs is not UTF-8: {name!r}") from None


def _read(root: Path, path: bytes) -> bytes:
    """A file that was listed. Raises OSError if it, or a folder on its way, has become anything else since."""
    *folders, name = path.split(b"/")
    place = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            os.close(place)
            place = below
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    finally:
        os.close(place)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"/outputs/{os.fsdecode(path)} was a file and is none any more")
    with os.fdopen(descriptor, "rb") as file:
        return file.read()
