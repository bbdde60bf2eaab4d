"""The guest's linear memory as the host calls see it: every address and length comes from the program."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable

from quorate.protocol.spec import GIB
from quorate_node.executor.wasi.abi import PAIR, U32, U64, Errno, WasiError

MAX_IOVECS = 1024  # as IOV_MAX on common systems
RESERVED_BYTES = 4 * GIB  # address space behind each memory, whatever part of it the guest has grown to
LARGE_GROWTH = 4 << 20  # what a memory grows by before the rest of it may come in huge pages

# An array of ctypes would do as well, but its type is made anew for each size, which takes longer than a small task.
_view_memory = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)(
    ("PyMemoryView_FromMemory", ctypes.pythonapi)
)
_WRITABLE = 0x200  # PyBUF_WRITE
_HUGE_PAGES: int | None = getattr(mmap, "MADV_HUGEPAGE", None)  # of Linux
_advise = ctypes.CDLL(None).madvise
_advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class GuestFault(Exception):
    """A pointer outside the guest's memory: by the specification of witx pointers the call traps."""


class GuestMemory:
    """A window on the memory, renewed when the guest has grown it.

    `length` returns the present size in bytes and `address` where it starts. The engine is configured so that a
    memory never moves, but nothing here relies on it: the window is made anew whenever the size differs. `reserved`
    bytes from the address on are the memory's own, though the guest may not have grown it to them yet: once it has
    grown a good deal, the kernel may back the rest with huge pages, so that filling it takes far fewer page faults.
    What the memory starts with stays as it is, for most of that is a stack, of which little is ever touched.
    """

    __slots__ = ("_address", "_first", "_length", "_reserved", "_view")

    def __init__(self, length: Callable[[], int], address: Callable[[], int], reserved: int = 0) -> None:
        self._length, self._address, self._reserved = length, address, reserved
        self._view, self._first = memoryview(b""), 0

    def window(self) -> memoryview:
        """The whole memory, writable."""
        size = self._length()
        if size != len(self._view):
            address = self._address()
            self._view = _view_memory(address, size, _WRITABLE)
            self._first = self._first or size
            if size - self._first >= LARGE_GROWTH and self._reserved and _HUGE_PAGES is not None:
                _advise(address + self._first, self._reserved - self._first, _HUGE_PAGES)  # refused: small ones will do
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
