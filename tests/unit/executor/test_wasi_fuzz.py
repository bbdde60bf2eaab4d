"""Random programs of WASI calls: nothing breaks the host, and the allowance is exact after whatever they did.

QUORATE_FUZZ_CALLS sets how many calls are made; CI makes few, and a million take about a minute.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from quorate_node.executor.wasi.abi import WasiError
from quorate_node.executor.wasi.host import GuestTrap, OutOfFuel, ProgramExit
from quorate_node.executor.wasi.linking import FUNCTIONS, SIGNATURES
from quorate_node.executor.wasi.memory import GuestFault
from quorate_node.executor.wasi.tree import Directory, File, Node, OverLimit, Symlink

EXPECTED = (WasiError, GuestFault, GuestTrap, OverLimit, OutOfFuel, ProgramExit)
CALLS = int(os.environ.get("QUORATE_FUZZ_CALLS", "40000"))
CALLS_A_PROGRAM = 1000
MAX_BYTES, MAX_FILES = 20_000, 40
PATHS = 8192  # where the names lie, one every 32 bytes
NAMES = [
    b"a", b"b", b"c", b"a/b", b"b/", b"a/b/c", b"../a", b"./b/../c", b"l", b"l/", b"l/c", b"in.txt", b"", b"/", b".",
    b"..", b"\xff", b"x" * 31, b"a\0b", b"c/.",
]  # fmt: skip
EDGES = [0, 1, 2, 3, 4, 5, 64, 1024, 65528, 65535, 65536, 1 << 31, (1 << 32) - 1]
WIDE = [*EDGES, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


def arguments(rng: random.Random, name: str) -> list[int]:
    """Mostly what could make sense, for sense reaches deeper; sometimes anything."""
    letters = SIGNATURES[name][0]
    if rng.random() < 0.1:
        return [rng.choice(EDGES if kind == "i" else WIDE) for kind in letters]
    values = [rng.choice((0, 1, 2, 4, 8, 16, 64, rng.randrange(200))) for _ in letters]
    for index, kind in enumerate(letters):
        if kind == "I" and rng.random() < 0.5:
            values[index] = rng.choice(((1 << 30) - 1, rng.randrange(5000), 1 << 63))
    if name.startswith(("fd_", "sock_")):
        values[0] = rng.randrange(14)
    if name in ("fd_close", "fd_renumber", "fd_fdstat_set_rights") and rng.random() < 0.99:
        values[0] = rng.randrange(6, 14)  # leave a program its folders for a while
    if name == "fd_renumber":
        values[1] = rng.choice((rng.randrange(6, 14), rng.randrange(14)))
    if name in ("fd_read", "fd_write", "fd_pread", "fd_pwrite"):
        values[1], values[2] = 2048, rng.randrange(3)
    for at in path_arguments(name):
        chosen = rng.randrange(len(NAMES))
        values[at], values[at + 1] = PATHS + 32 * chosen, len(NAMES[chosen])
    for at in directory_arguments(name):
        values[at] = rng.choice((3, 4, 4, 5, 6, rng.randrange(12)))
    if name == "path_open":
        values[1], values[4], values[7] = rng.randrange(2), rng.choice((0, 1, 1, 2, 5, 8, 9, 13)), rng.randrange(2)
    elif name in ("path_filestat_get", "path_filestat_set_times", "path_link"):
        values[1] = rng.randrange(2)
    return values


def path_arguments(name: str) -> tuple[int, ...]:
    """Where pointers to paths stand."""
    if name in ("path_open", "path_filestat_get", "path_filestat_set_times"):
        return (2,)
    return {"path_link": (2, 5), "path_rename": (1, 4), "path_symlink": (0, 3)}.get(
        name, (1,) if name.startswith("path_") else ()
    )


def directory_arguments(name: str) -> tuple[int, ...]:
    """Where descriptors of directories stand."""
    return {"path_link": (0, 4), "path_rename": (0, 3), "path_symlink": (2,)}.get(
        name, (0,) if name.startswith("path_") else ()
    )


def living(guest: Any) -> Iterator[Node]:
    """Every node that a name or a descriptor leads to, once."""
    seen: set[int] = set()
    pending: list[Node] = [preopen.directory for preopen in guest.host.preopens]
    pending += [fd.node for fd in guest.host.fds._open.values() if fd.node is not None]
    while pending:
        node = pending.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            if isinstance(node, Directory):
                pending += node.entries.values()


def check_allowance(guest: Any) -> None:
    """What was charged is what is there."""
    nodes = [node for node in living(guest) if node.is_writable]
    usage = guest.host.usage
    assert usage.bytes == sum(node.size for node in nodes if isinstance(node, File | Symlink))
    assert usage.files == sum(max(node.links, 1) for node in nodes)
    for node in nodes:
        if isinstance(node, Directory):
            assert all(child.parent is node for child in node.entries.values() if isinstance(child, Directory))


def make_memory(guest: Any) -> None:
    guest.put(b"".join(name.ljust(32, b"\0") for name in NAMES), PATHS)
    guest.put(b"".join(at.to_bytes(4, "little") + (100).to_bytes(4, "little") for at in (4096, 4300, 4500)), 2048)


@pytest.mark.timeout(max(120, CALLS // 1000))
def test_random_programs_never_break_the_host_nor_the_allowance(make_guest: Any) -> None:
    names = sorted(FUNCTIONS)
    worked: set[str] = set()
    for program in range(max(1, CALLS // CALLS_A_PROGRAM)):
        rng = random.Random(program)
        guest = make_guest(max_bytes=MAX_BYTES, max_files=MAX_FILES)
        for _ in range(CALLS_A_PROGRAM):
            name = rng.choice(names)
            if rng.random() < 0.05:
                make_memory(guest)
            with suppress(*EXPECTED):
                FUNCTIONS[name](guest.host, *arguments(rng, name))
                worked.add(name)
            assert 0 <= guest.host.usage.bytes <= MAX_BYTES, (program, name)
            assert 0 <= guest.host.usage.files <= MAX_FILES, (program, name)
        assert guest.is_guard_intact()
        check_allowance(guest)
    # The fuzzing would be worth little if most calls were refused.
    assert set(names) - worked <= {name for name in names if name.startswith(("sock_", "proc_"))}
