"""The guest's linear memory as the host calls see it: every address and length comes from the program."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable

from quorate.protocol.spec import GIB
from quorate_node.executor.wasi.abi import PAIR, U32, U64, Errno, WasiError

MAX_IOVECS = 1024  # as IOV_MAX on common systems
RESERVED_BYTES = 4 * GIB  # address space behind each memory, whatever part of it the guest has grown to
LARGE_BYTES = 4 << 20  # from here on the kernel may back a memory with huge pages; smaller ones would waste most of one


class GuestFault(Exception):
    """A pointer outside the guest's memory: by the specification of witx pointers the call traps."""


class GuestMemory:
    """A window on the memory, renewed when the guest has grown it.

    `length` returns the present size in bytes and `address` where it starts. The engine is configured so that a
    memory never moves, but nothing here relies on it: the window is made anew whenever the size differs. `reserved`
    bytes from the address on are the memory's own, though the guest may not have grown it to them yet.
    """

    __slots__ = ("_address", "_length", "_reserved", "_view")

    def __init__(self, length: Callable[[], int], address: Callable[[], int], reserved: int = 0) -> None:
        self._length, self._address, self._reserved = length, address, reserved
        self._view = memoryview(b"")

    def window(self) -> memoryview:
        """The whole memory, writable."""
        size = self._length()
        if size != len(self._view):
            address = self._address()
            self._view = memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")
            if size >= LARGE_BYTES and self._reserved:
                advise_huge_pages(address, self._reserved)
                self._reserved = 0
        return self._view

    def span(self, pointer: int, length: int) -> memoryview:
        """`length` bytes at `pointer`, writable; GuestFault if any of them lies outside."""
        view = self.window()
        if pointer + length > len(view):
            raise GuestFault(f"{length} bytes at {pointer:#x} are outside a memory of {len(view)} bytes")
        return view[pointer : pointer + length]

    def read(self, pointer: int, length: int) -> bytes:
        """A copy of `length` bytes at `pointer`."""
        return bytes(self.span(pointer, length))

    def write(self, pointer: int, data: bytes) -> None:
        """Put `data` at `pointer`."""
        self.span(pointer, len(data))[:] = data

    def write_u32(self, pointer: int, value: int) -> None:
        """Put a u32 at `pointer`."""
        self.write(pointer, U32.pack(value))

    def write_u64(self, pointer: int, value: int) -> None:
        """Put a u64 at `pointer`."""
        self.write(pointer, U64.pack(value))

    def iovecs(self, pointer: int, count: int) -> list[memoryview]:
        """The buffers of an array of iovecs; WasiError INVAL for more than MAX_IOVECS."""
        if count > MAX_IOVECS:
            raise WasiError(Errno.INVAL)
        table = self.read(pointer, count * PAIR.size)
        return [self.span(*pair) for pair in PAIR.iter_unpack(table)]


def advise_huge_pages(address: int, size: int) -> None:
    """Ask for huge pages from a page boundary on: a guest that fills its memory waits for far fewer page faults.

    Advice only: a kernel without them goes on with small ones.
    """
    if advice := getattr(mmap, "MADV_HUGEPAGE", None):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), advice)
