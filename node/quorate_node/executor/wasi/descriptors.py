"""Open descriptors: what they lead to, where they stand, what may be done with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quorate_node.executor.wasi.abi import Errno, Filetype, Right, WasiError
from quorate_node.executor.wasi.tree import Directory, File, Node, OverLimit

READ_WRITE = int(Right.FD_READ | Right.FD_WRITE)


class Stream:
    """Standard output or error: grows up to `limit` bytes.

    Over it, standard output ends the task (its content is part of the result); standard error, which is not, is cut.
    `echo` is told of each chunk that does not end the task.
    """

    __slots__ = ("data", "echo", "is_strict", "limit")

    def __init__(self, limit: int, *, is_strict: bool, echo: Callable[[memoryview], object] | None = None) -> None:
        self.data, self.limit, self.is_strict, self.echo = bytearray(), limit, is_strict, echo

    def write(self, chunk: memoryview) -> None:
        """Append, or raise OverLimit."""
        room = self.limit - len(self.data)
        if len(chunk) > room and self.is_strict:
            raise OverLimit(f"standard output exceeds stdout_bytes = {self.limit}")
        self.data += chunk[:room]
        if self.echo is not None:
            self.echo(chunk)


@dataclass(slots=True)
class Descriptor:
    """One open descriptor. `node` for the tree, `stream` for standard output and error, neither for standard input.

    `listing` is a directory's content as of the last readdir from the beginning, so that cookies stay valid while
    names come and go. `preopen` is the name of a preopened directory.
    """

    node: Node | None = None
    stream: Stream | None = None
    rights: int = 0
    inheriting: int = 0
    flags: int = 0
    offset: int = 0
    preopen: bytes | None = None
    listing: list[tuple[bytes, Node]] | None = None

    @property
    def filetype(self) -> Filetype:
        """Kind of what it leads to."""
        return Filetype.UNKNOWN if self.node is None else self.node.filetype

    def require(self, rights: int) -> None:
        """WasiError unless all `rights` are held. Missing read or write is BADF, as POSIX has it."""
        if missing := rights & ~self.rights:
            raise WasiError(Errno.BADF if missing & READ_WRITE else Errno.NOTCAPABLE)

    def directory(self, right: int = 0) -> Directory:
        """The directory; WasiError NOTDIR if it is not one."""
        if not isinstance(self.node, Directory):
            raise WasiError(Errno.NOTDIR)
        self.require(right)
        return self.node

    def file(self, right: int = 0) -> File:
        """The regular file; WasiError ISDIR, or BADF for a stream."""
        if isinstance(self.node, Directory):
            raise WasiError(Errno.ISDIR)
        if not isinstance(self.node, File):
            raise WasiError(Errno.BADF)
        self.require(right)
        return self.node


class Descriptors:
    """The table of open descriptors, at most `limit` of them."""

    __slots__ = ("_lowest", "_open", "limit")

    def __init__(self, limit: int) -> None:
        self._open: dict[int, Descriptor] = {}
        self._lowest, self.limit = 0, limit

    def __getitem__(self, number: int) -> Descriptor:
        try:
            return self._open[number]
        except KeyError:
            raise WasiError(Errno.BADF) from None

    def add(self, descriptor: Descriptor) -> int:
        """Give the lowest free number."""
        if len(self._open) >= self.limit:
            raise WasiError(Errno.MFILE)
        while self._lowest in self._open:
            self._lowest += 1
        self._open[self._lowest] = descriptor
        if descriptor.node is not None:
            descriptor.node.opens += 1
        return self._lowest

    def close(self, number: int) -> None:
        """Forget a descriptor, and the node behind it if that was its last trace."""
        descriptor = self[number]
        del self._open[number]
        self._lowest = min(self._lowest, number)
        if descriptor.node is not None:
            descriptor.node.opens -= 1
            descriptor.node.release()

    def renumber(self, number: int, to: int) -> None:
        """Move a descriptor to number `to`, closing what is there; WasiError BADF unless both are open."""
        moved, _ = self[number], self[to]
        if number == to:
            return
        self.close(to)
        del self._open[number]
        self._open[to] = moved
        self._lowest = min(self._lowest, number)
