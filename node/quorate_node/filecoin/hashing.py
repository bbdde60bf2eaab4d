"""Piece CIDs at several times the speed of hashlib: `tree.wasm` (its source is tree.c) on a thread for each core.

A piece's tree takes four compressions of SHA-256 for every 64 bytes, each behind a call of its own in Python; the
module does a chunk of 1,040,384 bytes in one call, four hashes at a time in a vector, without Python's lock.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from queue import SimpleQueue

import wasmtime

from quorate.filecoin.piececid import NODE_BYTES, PieceCid
from quorate.filecoin.pieceparts import read_parts
from quorate.filecoin.piecetree import CHUNK_HEIGHT, check_fits, compute_piece
from quorate.protocol.errors import UnrecoverableError

__all__ = ["Hasher", "NodeFunction", "count_cores", "hash_stream", "hasher", "read_parts"]

MODULE = Path(__file__).with_name("tree.wasm")
MAX_THREADS = 16


class NodeFunction:
    """One instance of the module: the ComputeNode of one thread at a time, for heights up to 15."""

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.Module) -> None:
        self._store = wasmtime.Store(engine)
        exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        memory, node, place = exports["memory"], exports["node"], exports["input"]
        if not (
            isinstance(memory, wasmtime.Memory) and isinstance(node, wasmtime.Func) and isinstance(place, wasmtime.Func)
        ):
            raise UnrecoverableError(f"{MODULE} is another module: rebuild it by scripts/lib/treewasm.py")
        self._node = node
        self._base = ctypes.addressof(memory.data_ptr(self._store).contents)  # it never grows, so it never moves
        self._input = self._base + place(self._store)

    def compute(self, data: bytes | memoryview, height: int) -> bytes:
        """Root over the bytes, filled with zeros. Raises DataError when more is given than fits."""
        check_fits(data, min(height, CHUNK_HEIGHT))
        ctypes.memmove(self._input, bytes(data), len(data))
        return ctypes.string_at(self._base + self._node(self._store, len(data), height), NODE_BYTES)


class Hasher:
    """Threads that compute nodes. `compute` is a ComputeNode that any thread may call."""

    def __init__(self, threads: int) -> None:
        engine = wasmtime.Engine()
        module = wasmtime.Module(engine, MODULE.read_bytes())
        self._idle: SimpleQueue[NodeFunction] = SimpleQueue()
        for _ in range(threads):
            self._idle.put(NodeFunction(engine, module))
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="piece")

    def compute(self, data: bytes | memoryview, height: int) -> bytes:
        """Root over the bytes; waits for an instance while all are at work."""
        function = self._idle.get()
        try:
            return function.compute(data, height)
        finally:
            self._idle.put(function)

    def map_in_order(self, work: Callable[[bytes], bytes], chunks: Iterable[bytes]) -> Iterator[bytes]:
        """`map` on all threads, with as many chunks in memory as there are threads, twice."""
        source = iter(chunks)
        running: deque[Future[bytes]] = deque(
            self._pool.submit(work, each) for each in islice(source, 2 * self._threads)
        )
        while running:
            made = running.popleft().result()
            running.extend(self._pool.submit(work, each) for each in islice(source, 1))
            yield made

    def close(self) -> None:
        """Wait for what runs, and end the threads."""
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def hasher(threads: int | None = None) -> Iterator[Hasher]:
    """A Hasher with a thread for each core that this process may use, or so many as are asked for."""
    made = Hasher(threads or count_cores())
    try:
        yield made
    finally:
        made.close()


def count_cores() -> int:
    """Cores that this process may use, of which more than 16 would wait for the reader."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(found, MAX_THREADS)


def hash_stream(
    parts: Iterable[bytes],
    on_node: Callable[[bytes], None] = lambda node: None,
    threads: int | None = None,
) -> PieceCid:
    """The piece of a stream, holding a few chunks of it."""
    with hasher(threads) as found:
        return compute_piece(parts, found.compute, on_node, found.map_in_order)
