"""One task's side of the host calls: descriptors, the virtual clock, the random stream, fuel for host calls."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from quorate_node.executor.wasi.abi import DIRECTORY_RIGHTS, FILE_RIGHTS, STREAM_RIGHTS, Errno, Right, WasiError
from quorate_node.executor.wasi.descriptors import Descriptor, Descriptors, Stream
from quorate_node.executor.wasi.memory import GuestMemory
from quorate_node.executor.wasi.tree import Directory, Place, Usage, locate

CLOCK_STEP_NS = 10_000  # each reading advances the clocks, so that a program which waits for time to pass ends
RANDOM_DOMAIN = b"quorate-wasm-1/random\0"
RANDOM_BLOCK = 4096

# Host calls cost fuel, for otherwise a program could keep a host busy for hours on the fuel of seconds. The rates are
# about what each costs in nanoseconds, as an instruction costs about one. They are part of the profile.
FUEL_PER_CALL = 10_000
FUEL_PER_STEP = 1_000  # a name in a path, an entry listed, a buffer, an event
BYTES_PER_FUEL = 4
FUEL_PER_RANDOM_BYTE = 4


class ProgramExit(Exception):
    """proc_exit."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit {code}")
        self.code = code


class GuestTrap(Exception):
    """The program broke a rule of the interface in a way that ends it."""


class OutOfFuel(Exception):
    """A host call cost more fuel than was left."""


class RandomStream:
    """Bytes that depend on the task alone: SHAKE-256 of domain ‖ task id ‖ block number, block after block."""

    __slots__ = ("_block", "_rest", "_seed")

    def __init__(self, task_id: bytes) -> None:
        self._seed, self._block, self._rest = RANDOM_DOMAIN + task_id, 0, b""

    def fill(self, target: memoryview) -> None:
        """Fill `target` with the next bytes of the stream."""
        at = 0
        while at < len(target):
            if not self._rest:
                seed = self._seed + self._block.to_bytes(8, "big")
                self._rest, self._block = hashlib.shake_256(seed).digest(RANDOM_BLOCK), self._block + 1
            chunk = self._rest[: len(target) - at]
            target[at : at + len(chunk)] = chunk
            self._rest, at = self._rest[len(chunk) :], at + len(chunk)


@dataclass(frozen=True, slots=True)
class Preopen:
    """A directory that the program starts with, under its guest path."""

    path: bytes
    directory: Directory


@dataclass(slots=True)
class Host:
    """All that one task's host calls read and write.

    `spend(fuel)` takes fuel from the running store or raises OutOfFuel. `memory` is set when the program first calls.
    """

    args: Sequence[bytes]
    env: Sequence[bytes]
    preopens: Sequence[Preopen]
    usage: Usage
    random: RandomStream
    stdout: Stream
    stderr: Stream
    max_open: int
    spend: Callable[[int], None]
    memory: GuestMemory = field(init=False)
    elapsed_ns: int = 0
    fds: Descriptors = field(init=False)

    def __post_init__(self) -> None:
        self.fds = Descriptors(self.max_open)
        self.fds.add(Descriptor(rights=STREAM_RIGHTS | Right.FD_READ))
        for stream in (self.stdout, self.stderr):
            self.fds.add(Descriptor(stream=stream, rights=STREAM_RIGHTS | Right.FD_WRITE))
        inheriting = DIRECTORY_RIGHTS | FILE_RIGHTS
        for preopen in self.preopens:
            self.fds.add(
                Descriptor(preopen.directory, rights=DIRECTORY_RIGHTS, inheriting=inheriting, preopen=preopen.path)
            )

    def charge_steps(self, steps: int) -> None:
        """Fuel for work on `steps` items."""
        self.spend(steps * FUEL_PER_STEP)

    def charge_bytes(self, size: int) -> None:
        """Fuel for moving or clearing `size` bytes."""
        self.spend(size // BYTES_PER_FUEL)

    def now(self) -> int:
        """Nanoseconds since the task began, on the virtual clock; the reading advances it."""
        current = self.elapsed_ns
        self.elapsed_ns += CLOCK_STEP_NS
        return current

    def locate(self, directory: Directory, pointer: int, length: int, *, follow: bool) -> Place:
        """Resolve a path in guest memory."""
        return locate(directory, self.read_path(pointer, length), follow=follow, charge=self.charge_steps)

    def locate_entry(self, directory: Directory, pointer: int, length: int) -> Place:
        """Resolve a path whose last name is to be made, moved or removed: if that is a link, the link itself."""
        path = self.read_path(pointer, length)
        return locate(directory, path, follow=False, charge=self.charge_steps, is_entry=True)

    def read_path(self, pointer: int, length: int) -> bytes:
        """A path in guest memory; WasiError if it is too long, before any of it is read."""
        self.memory.span(pointer, length)
        if length > self.usage.max_path:
            raise WasiError(Errno.NAMETOOLONG)
        return self.memory.read(pointer, length)
