"""Files, directories and symbolic links in memory, and how a path leads to them.

The input tree is read-only and loaded on demand. All that a program may write shares one `Usage`, so that /outputs and
/tmp together stay within the spec's limits; what is unlinked and closed is given back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from quorate_node.executor.wasi.abi import EPOCH_NS, Errno, Filetype, WasiError

MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_LINKS_FOLLOWED = 40


class OverLimit(Exception):
    """The program would keep more than its spec allows: the task ends as FAILED."""


@dataclass(slots=True)
class Usage:
    """Bytes and nodes that the program holds, with their limits; also the longest path, and the counter of inodes.

    `given_bytes` and `given_files` of both were there before the program, and are no part of its spec's limits.
    """

    max_bytes: int
    max_files: int
    max_path: int = MAX_PATH_BYTES
    bytes: int = 0
    files: int = 0
    given_bytes: int = 0
    given_files: int = 0
    inodes: count[int] = field(default_factory=lambda: count(1))

    def take(self, size: int, files: int = 0) -> None:
        """Charge before allocating; OverLimit leaves the usage as it was."""
        if self.bytes + size > self.max_bytes:
            raise OverLimit(f"the program's files exceed output_bytes = {self.max_bytes - self.given_bytes}")
        if self.files + files > self.max_files:
            raise OverLimit(f"the program's files exceed output_files = {self.max_files - self.given_files}")
        self.bytes += size
        self.files += files


class Node:
    """What files, directories and links share. Times are nanoseconds: the epoch's until the program sets them.

    Neither writing nor reading changes them. Not zero, for programs subtract from them.
    """

    __slots__ = ("atim", "inode", "links", "mtim", "opens", "usage")
    filetype = Filetype.UNKNOWN

    def __init__(self, usage: Usage, *, writable: bool = True) -> None:
        if writable:
            usage.take(0, 1)
        self.usage: Usage | None = usage if writable else None
        self.inode = next(usage.inodes)
        self.links, self.opens = 1, 0
        self.atim = self.mtim = EPOCH_NS

    @property
    def size(self) -> int:
        """Bytes, as stat reports them."""
        return 0

    @property
    def is_writable(self) -> bool:
        """Whether the node lies in a tree that the program may change."""
        return self.usage is not None

    def release(self) -> None:
        """Give back the quota once no name and no descriptor leads here."""
        if self.usage is not None and self.links <= 0 and self.opens <= 0:
            self.usage.take(-self.size, -1)
            self.usage = None


class Source(Protocol):
    """Where a read-only file's bytes come from, once they are asked for."""

    def size(self) -> int:
        """Bytes."""
        ...

    def load(self) -> bytes | memoryview:
        """All of them."""
        ...


class File(Node):
    """A regular file; read-only with a `source`."""

    __slots__ = ("_data", "_size", "_source")
    filetype = Filetype.REGULAR_FILE

    def __init__(self, usage: Usage, source: Source | None = None) -> None:
        super().__init__(usage, writable=source is None)
        self._source = source
        self._size: int | None = None
        self._data: bytes | memoryview | bytearray | None = bytearray() if source is None else None

    @property
    def size(self) -> int:
        if self._data is not None:
            return len(self._data)
        if self._size is None:
            assert self._source is not None
            self._size = self._source.size()
        return self._size

    @property
    def data(self) -> memoryview:
        """The bytes. Let go of the view before the file is changed."""
        if self._data is None:
            assert self._source is not None
            self._data = self._source.load()
        return memoryview(self._data)

    def _buffer(self) -> bytearray:
        if self.usage is None or not isinstance(self._data, bytearray):
            raise WasiError(Errno.ROFS)
        return self._data

    def resize(self, size: int) -> None:
        """Cut, or fill up with zeros."""
        buffer = self._buffer()
        assert self.usage is not None
        self.usage.take(size - len(buffer))
        if size < len(buffer):
            del buffer[size:]
        else:
            buffer.extend(bytes(size - len(buffer)))

    def write(self, offset: int, chunk: memoryview) -> None:
        """Put `chunk` at `offset`, filling a gap before it with zeros."""
        buffer, end = self._buffer(), offset + len(chunk)
        assert self.usage is not None
        if len(chunk) == 0:
            return
        if end > len(buffer):
            self.usage.take(end - len(buffer))
            buffer.extend(bytes(max(0, offset - len(buffer))))
        buffer[offset:end] = chunk


class Symlink(Node):
    """A symbolic link; `target` is relative."""

    __slots__ = ("target",)
    filetype = Filetype.SYMBOLIC_LINK

    def __init__(self, usage: Usage, target: bytes) -> None:
        super().__init__(usage)
        usage.take(len(target))
        self.target = target

    @property
    def size(self) -> int:
        return len(self.target)


class Directory(Node):
    """A directory. A read-only one gets its entries from `load` when they are first asked for."""

    __slots__ = ("_entries", "_load", "is_removed", "parent")
    filetype = Filetype.DIRECTORY

    def __init__(self, usage: Usage, load: Callable[[], dict[bytes, Node]] | None = None) -> None:
        super().__init__(usage, writable=load is None)
        self._load = load
        self._entries: dict[bytes, Node] | None = {} if load is None else None
        self.parent: Directory | None = None
        self.is_removed = False

    @property
    def entries(self) -> dict[bytes, Node]:
        """Name → node."""
        if self._entries is None:
            assert self._load is not None
            self._entries = self._load()
        return self._entries

    def check_writable(self) -> None:
        """WasiError unless names may be added and removed here."""
        if self.is_removed:
            raise WasiError(Errno.NOENT)
        if not self.is_writable:
            raise WasiError(Errno.ROFS)

    def attach(self, name: bytes, node: Node) -> None:
        """Give `node` a name here, replacing nothing."""
        self.entries[name] = node
        if isinstance(node, Directory):
            node.parent = self

    def detach(self, name: bytes) -> Node:
        """Take a name away without touching link counts."""
        return self.entries.pop(name)

    def drop(self, name: bytes) -> None:
        """Remove a name, and the node with its last one."""
        node = self.detach(name)
        node.links -= 1
        if node.links > 0 and node.usage is not None:
            node.usage.take(0, -1)
        if isinstance(node, Directory):
            node.is_removed = True
        node.release()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads: `node`, or None if the last name does not exist, under `name` in `parent`.

    `parent` is None where the path leads to the starting directory or back through `..`: such a node can be opened but
    not renamed or removed. `wants_directory`: the path ended in a slash or a dot.
    """

    parent: Directory | None
    name: bytes
    node: Node | None
    wants_directory: bool

    @property
    def found(self) -> Node:
        """The node; WasiError if there is none, or if a directory was asked for and it is not one."""
        if self.node is None:
            raise WasiError(Errno.NOENT)
        if self.wants_directory and not isinstance(self.node, Directory):
            raise WasiError(Errno.NOTDIR)
        return self.node

    @property
    def slot(self) -> Directory:
        """The directory in which the last name may be changed; WasiError if it may not."""
        if self.parent is None:
            raise WasiError(Errno.INVAL)
        self.parent.check_writable()
        return self.parent


def check_path(path: bytes) -> None:
    """WasiError unless `path` is relative, in UTF-8, and of a bearable length."""
    if not path:
        raise WasiError(Errno.NOENT)
    if len(path) > MAX_PATH_BYTES:
        raise WasiError(Errno.NAMETOOLONG)
    if b"\0" in path:
        raise WasiError(Errno.INVAL)
    try:
        path.decode()
    except UnicodeDecodeError:
        raise WasiError(Errno.ILSEQ) from None
    if path.startswith(b"/"):
        raise WasiError(Errno.PERM)


def _split(path: bytes) -> tuple[list[bytes], bool]:
    """Names in reverse, and whether the path insists on a directory."""
    parts = path.split(b"/")
    return [part for part in reversed(parts) if part not in (b"", b".")], parts[-1] in (b"", b".", b"..")


def _count_parts(path: bytes) -> int:
    """What lies between slashes, dots and nothing too: splitting costs time for each, whether or not it is a name."""
    return path.count(b"/") + 1


def locate(
    root: Directory, path: bytes, *, follow: bool, charge: Callable[[int], None], is_entry: bool = False
) -> Place:
    """Walk from `root`, which no `..` and no link may leave. `charge(steps)` meters the walk.

    A slash at the end makes a last link be followed, too, unless the name itself is to change (`is_entry`).
    Raises WasiError: NOENT, NOTDIR, LOOP, PERM (outside the root), ILSEQ, NAMETOOLONG, INVAL.
    """
    check_path(path)
    charge(_count_parts(path))
    pending, wants_directory = _split(path)
    stack, followed = [root], 0
    while pending:
        name, here = pending.pop(), stack[-1]
        if name == b"..":
            if len(stack) == 1:
                raise WasiError(Errno.PERM)
            stack.pop()
            continue
        if len(name) > MAX_NAME_BYTES:
            raise WasiError(Errno.NAMETOOLONG)
        node = here.entries.get(name)
        if isinstance(node, Symlink) and (pending or follow or (wants_directory and not is_entry)):
            followed += 1
            if followed > MAX_LINKS_FOLLOWED:
                raise WasiError(Errno.LOOP)
            wants_directory |= _follow(node, pending, charge)
            continue
        if not pending:
            return Place(here, name, node, wants_directory)
        if not isinstance(node, Directory):
            raise WasiError(Errno.NOENT if node is None else Errno.NOTDIR)
        stack.append(node)
    return Place(None, b".", stack[-1], True)


def _follow(link: Symlink, pending: list[bytes], charge: Callable[[int], None]) -> bool:
    """Put the link's names in front; whether they insist on a directory and are the last ones."""
    if link.target.startswith(b"/"):
        raise WasiError(Errno.PERM)
    charge(_count_parts(link.target))
    names, wants_directory = _split(link.target)
    is_last = not pending
    pending.extend(names)
    return wants_directory and is_last
