"""The guest's linear memory as the host calls see it: every address and length comes from the program."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from quorate_node.executor.wasi.abi import PAIR, U32, U64, Errno, WasiError

MAX_IOVECS = 1024  # as IOV_MAX on common systems


class GuestFault(Exception):
    """A pointer outside the guest's memory: by the specification of witx pointers the call traps."""


class GuestMemory:
    """A window on the memory, renewed when the guest has grown it.

    `length` returns the present size in bytes and `address` where it starts. The engine is configured so that a
    memory never moves, but nothing here relies on it: the window is made anew whenever the size differs.
    """

    __slots__ = ("_address", "_length", "_view")

    def __init__(self, length: Callable[[], int], address: Callable[[], int]) -> None:
        self._length, self._address = length, address
        self._view = memoryview(b"")

    def window(self) -> memoryview:
        """The whole memory, writable."""
        size = self._length()
        if size != len(self._view):
            array = (ctypes.c_ubyte * size).from_address(self._address())
            self._view = memoryview(array).cast("B")
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
