"""WASI functions on paths and on the process, on a host without a module; then any calls in any order."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.executor.wasi_calls import BOTH, OUT, READ, TMP, create, names, open_path, read, refused, stat_of

from quorate_node.executor.wasi import files, paths, process
from quorate_node.executor.wasi.abi import (
    EPOCH_NS,
    EVENT,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_TRUNC,
    SUBSCRIPTION,
    Errno,
    WasiError,
)
from quorate_node.executor.wasi.host import (
    BYTES_PER_FUEL,
    CLOCK_STEP_NS,
    FUEL_PER_STEP,
    GuestTrap,
    OutOfFuel,
    ProgramExit,
)
from quorate_node.executor.wasi.linking import FUNCTIONS, SIGNATURES
from quorate_node.executor.wasi.memory import GuestFault
from quorate_node.executor.wasi.tree import OverLimit

# paths ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "errno"),
    [
        (b"", Errno.NOENT),
        (b"/etc/passwd", Errno.PERM),
        (b"../inputs/in.txt", Errno.PERM),
        (b"d/../../x", Errno.PERM),
        (b"nothing", Errno.NOENT),
        (b"nothing/x", Errno.NOENT),
        (b"f/x", Errno.NOTDIR),
        (b"f/", Errno.NOTDIR),
        (b"f/.", Errno.NOTDIR),
        (b"f/..", Errno.NOTDIR),
        (b"a\0b", Errno.INVAL),
        (b"\xff\xfe", Errno.ILSEQ),
        (b"x" * 256, Errno.NAMETOOLONG),
        (b"a/" * 2049, Errno.NAMETOOLONG),
        (b"up", Errno.PERM),
        (b"absolute", Errno.PERM),
        (b"loop", Errno.LOOP),
        (b"dangling", Errno.NOENT),
    ],
)
def test_paths_stay_below_their_descriptor(guest: Any, path: bytes, errno: Errno) -> None:
    create(guest, b"f")
    paths.path_create_directory(guest.host, OUT, *guest.put(b"d"))
    for name, target in ((b"up", b"../f"), (b"loop", b"loop"), (b"dangling", b"gone")):
        paths.path_symlink(guest.host, *guest.put(target), OUT, *guest.put(name, 3000))
    if path == b"absolute":
        refused(errno, paths.path_symlink, guest.host, *guest.put(b"/etc"), OUT, *guest.put(path, 3000))
        return
    with pytest.raises(WasiError) as caught:
        open_path(guest, path)
    assert caught.value.errno is errno, caught.value.errno.name


def test_links_are_followed_within_the_root(guest: Any) -> None:
    paths.path_create_directory(guest.host, OUT, *guest.put(b"d"))
    create(guest, b"d/f", b"deep")
    paths.path_symlink(guest.host, *guest.put(b"d/./f"), OUT, *guest.put(b"l", 3000))
    paths.path_symlink(guest.host, *guest.put(b"../l"), OUT, *guest.put(b"d/back", 3000))
    assert read(guest, open_path(guest, b"d/back")) == b"deep"
    assert stat_of(guest, b"l", follow=0)["type"] == 7
    assert stat_of(guest, b"l")["size"] == 4
    with pytest.raises(WasiError, match="LOOP"):
        open_path(guest, b"l", follow=0)
    paths.path_readlink(guest.host, OUT, *guest.put(b"l"), 8192, 3, 0)
    assert guest.host.memory.read(8192, guest.number()) == b"d/."
    refused(Errno.INVAL, paths.path_readlink, guest.host, OUT, *guest.put(b"d"), 8192, 3, 0)


def test_dots_and_slashes_cost_as_much_as_names(guest: Any) -> None:
    """Otherwise links full of them would keep a host busy for a thousandth of the fuel that the work is worth."""
    create(guest, b"f")
    dots = b"./" * 1000
    paths.path_symlink(guest.host, *guest.put(dots + b"f"), OUT, *guest.put(b"l", 5000))
    for path, parts in ((dots + b"f", 1001), (b"." + b"/" * 1000 + b"f", 1001), (b"l", 1002)):
        before = guest.spent
        assert stat_of(guest, path)["type"] == 4
        assert guest.spent - before == parts * FUEL_PER_STEP, path[:4]


def test_buffers_for_an_empty_input_cost_fuel(guest: Any) -> None:
    table, _ = guest.put(bytes(8 * 1000), 16384)
    before = guest.spent
    files.fd_read(guest.host, 0, table, 1000, 8192)
    assert guest.number(8192) == 0
    assert guest.spent - before == 1000 * FUEL_PER_STEP


def test_reading_and_listing_are_paid_for_before_they_are_done(guest: Any) -> None:
    """A program without fuel gets no work out of its host: nothing is copied, no position moves, no list is made."""
    number, root = create(guest, b"f", bytes(range(100, 200))), OUT
    files.fd_seek(guest.host, number, 20, 0, 0)
    pay, budget = guest.host.spend, 0

    def spend(fuel: int) -> None:
        if guest.spent + fuel > budget:
            raise OutOfFuel
        pay(fuel)

    guest.host.spend = spend
    for call, args in ((files.fd_read, ()), (files.fd_pread, (20,))):
        iovec, guest.spent = guest.iovec(bytes(100)), 0
        budget = FUEL_PER_STEP + 80 // BYTES_PER_FUEL - 1
        with pytest.raises(OutOfFuel):
            call(guest.host, number, *iovec, *args, 0)
        assert guest.host.memory.read(4096, 100) == bytes(100)
        budget, guest.spent = budget + 1, 0
        call(guest.host, number, *iovec, *args, 0)
        assert guest.host.memory.read(4096, 100) == bytes(range(120, 200)) + bytes(20)
        assert (guest.number(), guest.spent) == (80, budget)
    budget, guest.spent = FUEL_PER_STEP - 1, 0
    with pytest.raises(OutOfFuel):
        files.fd_readdir(guest.host, root, 8192, 4096, 0, 0)
    assert guest.host.fds[root].listing is None


def test_reading_goes_through_buffers_in_order_and_stops_at_the_end(guest: Any) -> None:
    """Buffers may have no bytes, and may lie within each other; those behind the file's end stay as they are."""
    number = create(guest, b"f", b"abcdefg")
    for offset, want in (
        (0, (7, b"abcdefg.....")),
        (6, (1, b"g...........")),
        (7, (0, b"." * 12)),
        (99, (0, b"." * 12)),
    ):
        guest.put(b"." * 12, 4096)
        guest.put(struct.pack("<8I", 4096, 3, 5000, 0, 4099, 5, 4104, 2), 2048)
        files.fd_pread(guest.host, number, 2048, 4, offset, 0)
        assert (guest.number(), guest.host.memory.read(4096, 12)) == want
    guest.put(struct.pack("<4I", 4096, 3, 4097, 3), 2048)
    files.fd_pread(guest.host, number, 2048, 2, 0, 0)
    assert guest.host.memory.read(4096, 4) == b"adef"


def test_a_descriptor_on_a_subdirectory_confines_too(guest: Any) -> None:
    paths.path_create_directory(guest.host, OUT, *guest.put(b"d"))
    create(guest, b"secret")
    number = open_path(guest, b"d", O_DIRECTORY)
    with pytest.raises(WasiError, match="PERM"):
        open_path(guest, b"../secret", fd=number)


def test_creating_and_its_flags(guest: Any) -> None:
    create(guest, b"f", b"x")
    for path, oflags, rights, errno in (
        (b"f", O_CREAT | O_EXCL, READ, Errno.EXIST),
        (b"f", O_DIRECTORY, READ, Errno.NOTDIR),
        (b"g/", O_CREAT, READ, Errno.ISDIR),
        (b".", 0, BOTH, Errno.ISDIR),
        (b"f", O_CREAT | O_DIRECTORY, READ, Errno.INVAL),
        (b"f", 16, READ, Errno.INVAL),
        (b"no/f", O_CREAT, READ, Errno.NOENT),
    ):
        with pytest.raises(WasiError) as caught:
            open_path(guest, path, oflags, rights)
        assert caught.value.errno is errno, (path, caught.value.errno.name)
    open_path(guest, b"f", O_TRUNC, BOTH)
    assert stat_of(guest, b"f")["size"] == 0


def test_directories_are_made_and_removed(guest: Any) -> None:
    put, host = guest.put, guest.host
    paths.path_create_directory(host, OUT, *put(b"d/"))
    refused(Errno.EXIST, paths.path_create_directory, host, OUT, *put(b"d"))
    number = open_path(guest, b"d", O_DIRECTORY)
    files.fd_close(host, create(guest, b"d/f"))
    refused(Errno.NOTEMPTY, paths.path_remove_directory, host, OUT, *put(b"d"))
    refused(Errno.ISDIR, paths.path_unlink_file, host, OUT, *put(b"d"))
    refused(Errno.NOTDIR, paths.path_remove_directory, host, OUT, *put(b"d/f"))
    refused(Errno.NOTDIR, paths.path_unlink_file, host, OUT, *put(b"d/f/"))
    paths.path_unlink_file(host, OUT, *put(b"d/f"))
    paths.path_remove_directory(host, OUT, *put(b"d/"))
    refused(Errno.NOENT, paths.path_remove_directory, host, OUT, *put(b"d"))
    refused(Errno.INVAL, paths.path_remove_directory, host, OUT, *put(b"."))
    refused(Errno.NOENT, paths.path_create_directory, host, number, *put(b"x"))  # it is gone, though open


def test_renaming(guest: Any) -> None:
    put, host = guest.put, guest.host

    def rename(old: bytes, new: bytes, to: int = OUT) -> None:
        paths.path_rename(host, OUT, *put(old), to, *put(new, 3000))

    for name in (b"d", b"d/e", b"full", b"full/x"):
        paths.path_create_directory(host, OUT, *put(name))
    for name in (b"f", b"g"):
        files.fd_close(host, create(guest, name, name))
    for old, new, errno in (
        (b"gone", b"x", Errno.NOENT),
        (b"d", b"d/e/y", Errno.INVAL),
        (b"d", b"full", Errno.NOTEMPTY),
        (b"d", b"f", Errno.NOTDIR),
        (b"f", b"d", Errno.ISDIR),
        (b"f", b"new/", Errno.NOTDIR),
        (b"f/", b"new", Errno.NOTDIR),
        (b".", b"new", Errno.INVAL),
    ):
        refused(errno, rename, old, new)
    rename(b"f", b"f")
    rename(b"f", b"g")
    assert read(guest, open_path(guest, b"g")) == b"f"
    rename(b"d/e", b"moved", TMP)
    assert names(guest, TMP) == [b".", b"..", b"moved"]
    assert names(guest, OUT) == [b".", b"..", b"d", b"full", b"g"]


def test_hard_links(guest: Any) -> None:
    put, host = guest.put, guest.host
    files.fd_close(host, create(guest, b"f", b"x"))
    paths.path_link(host, OUT, 0, *put(b"f"), TMP, *put(b"g", 3000))
    assert stat_of(guest, b"f")["ino"] == stat_of(guest, b"g", fd=TMP)["ino"]
    refused(Errno.EXIST, paths.path_link, host, OUT, 0, *put(b"f"), TMP, *put(b"g", 3000))
    refused(Errno.NOENT, paths.path_link, host, OUT, 0, *put(b"f"), TMP, *put(b"h/", 3000))
    refused(Errno.PERM, paths.path_link, host, OUT, 0, *put(b"."), TMP, *put(b"h", 3000))
    refused(Errno.INVAL, paths.path_link, host, OUT, 2, *put(b"f"), TMP, *put(b"h", 3000))


# process --------------------------------------------------------------------------------------------------------------


def test_arguments_and_environment(guest: Any) -> None:
    process.args_sizes_get(guest.host, 0, 4)
    assert (guest.number(0), guest.number(4)) == (2, 12)
    process.args_get(guest.host, 0, 100)
    assert guest.host.memory.read(100, 12) == b"main.wasm\0x\0"
    assert guest.number(4) == 110
    process.environ_sizes_get(guest.host, 0, 4)
    process.environ_get(guest.host, 0, 100)
    assert guest.host.memory.read(100, 4) == b"A=1\0"


def test_clocks_only_move_when_read(guest: Any) -> None:
    readings = []
    for clock in (0, 1, 2, 3):
        process.clock_time_get(guest.host, clock, 0, 0)
        readings.append(guest.number(0, 8))
    assert readings == [EPOCH_NS, CLOCK_STEP_NS, 2 * CLOCK_STEP_NS, 3 * CLOCK_STEP_NS]
    refused(Errno.INVAL, process.clock_time_get, guest.host, 4, 0, 0)
    refused(Errno.INVAL, process.clock_res_get, guest.host, 4, 0)


def test_random_bytes_are_one_stream_however_they_are_taken(make_guest: Any) -> None:
    one, two = make_guest(), make_guest()
    process.random_get(one.host, 0, 10_000)
    for at in range(0, 10_000, 1000):
        process.random_get(two.host, at, 1000)
    assert one.host.memory.read(0, 10_000) == two.host.memory.read(0, 10_000)
    assert len(set(one.host.memory.read(0, 10_000))) == 256


def poll(guest: Any, *subscriptions: tuple[int, ...]) -> list[tuple[int, ...]]:
    guest.put(b"".join(SUBSCRIPTION.pack(*item) for item in subscriptions), 8192)
    process.poll_oneoff(guest.host, 8192, 16384, len(subscriptions), 0)
    return list(EVENT.iter_unpack(guest.host.memory.read(16384, guest.number() * EVENT.size)))


def test_sleeping_takes_no_time_but_the_clocks_know(guest: Any) -> None:
    assert poll(guest, (1, 0, 1, 10**12, 0, 0), (2, 0, 1, 10**13, 0, 0)) == [(1, 0, 0, 0, 0)]
    assert guest.host.elapsed_ns == 10**12 + CLOCK_STEP_NS
    deadline = EPOCH_NS + 2 * 10**12
    assert poll(guest, (3, 0, 0, deadline, 0, 1)) == [(3, 0, 0, 0, 0)]
    assert guest.host.elapsed_ns == 2 * 10**12 + CLOCK_STEP_NS
    assert poll(guest, (4, 0, 1, (1 << 64) - 1, 0, 0)) == [(4, 0, 0, 0, 0)]
    process.clock_time_get(guest.host, 0, 0, 0)


def test_descriptors_are_always_ready(guest: Any) -> None:
    number = create(guest, b"f", b"abc")
    files.fd_seek(guest.host, number, 1, 0, 0)
    events = poll(guest, (1, 1, number, 0, 0, 0), (2, 2, 1, 0, 0, 0), (3, 1, 77, 0, 0, 0), (4, 0, 1, 10**9, 0, 0))
    assert events == [(1, 0, 1, 2, 0), (2, 0, 2, 0, 0), (3, Errno.BADF, 1, 0, 0)]
    refused(Errno.INVAL, process.poll_oneoff, guest.host, 0, 0, 0, 0)
    refused(Errno.INVAL, process.poll_oneoff, guest.host, 0, 0, 1 << 20, 0)


def test_there_are_no_sockets_and_signals(guest: Any) -> None:
    refused(Errno.NOTSOCK, process.sock_accept, guest.host, 1, 0, 0)
    refused(Errno.NOTSOCK, process.sock_recv, guest.host, 1, 0, 0, 0, 0, 0)
    refused(Errno.NOTSOCK, process.sock_send, guest.host, 1, 0, 0, 0, 0)
    refused(Errno.BADF, process.sock_shutdown, guest.host, 99, 0)
    refused(Errno.NOSYS, process.proc_raise, guest.host, 1)


# anything -------------------------------------------------------------------------------------------------------------

EXPECTED = (WasiError, GuestFault, GuestTrap, OverLimit, OutOfFuel, ProgramExit)
VALUES = st.one_of(
    st.integers(0, 12), st.sampled_from([1024, 2048, 4096, 65528, 65535, 65536, 1 << 31, (1 << 32) - 1]),
    st.integers(0, (1 << 32) - 1),
)  # fmt: skip
LONG = st.one_of(VALUES, st.integers(0, (1 << 64) - 1))
CALLS = st.sampled_from(sorted(FUNCTIONS)).flatmap(
    lambda name: st.tuples(st.just(name), *(VALUES if kind == "i" else LONG for kind in SIGNATURES[name][0]))
)


@settings(max_examples=150)
@given(calls=st.lists(CALLS, max_size=30), memory=st.binary(max_size=200))
def test_no_sequence_of_calls_breaks_the_host(make_guest: Any, calls: list[tuple[Any, ...]], memory: bytes) -> None:
    """Whatever a program passes, a call ends as the interface knows it, and the usage is never off."""
    guest = make_guest(max_bytes=10_000, max_files=20)
    guest.put(memory or b"a", 1024)
    for name, *values in calls:
        with suppress(*EXPECTED):
            FUNCTIONS[name](guest.host, *values)
        assert guest.is_guard_intact()
        assert 0 <= guest.host.usage.bytes <= 10_000
        assert 0 <= guest.host.usage.files <= 20
        assert guest.host.elapsed_ns < 1 << 63
