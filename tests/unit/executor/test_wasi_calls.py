"""WASI functions one by one, on a host without a module: what they do, each errno, what they cannot be made to do."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate_node.executor.wasi import files, paths, process
from quorate_node.executor.wasi.abi import (
    DIRECTORY_RIGHTS,
    EVENT,
    FILE_RIGHTS,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_TRUNC,
    SUBSCRIPTION,
    Errno,
    Right,
    WasiError,
)
from quorate_node.executor.wasi.host import CLOCK_STEP_NS, EPOCH_NS, GuestTrap, OutOfFuel, ProgramExit
from quorate_node.executor.wasi.linking import FUNCTIONS, SIGNATURES
from quorate_node.executor.wasi.memory import GuestFault
from quorate_node.executor.wasi.tree import OverLimit

IN, OUT, TMP = 3, 4, 5
READ, WRITE = int(Right.FD_READ), int(Right.FD_WRITE)
BOTH = READ | WRITE


def refused(errno: Errno, call: Callable[..., None], *args: Any) -> None:
    with pytest.raises(WasiError) as caught:
        call(*args)
    assert caught.value.errno is errno, caught.value.errno.name


def open_path(
    guest: Any, path: bytes, oflags: int = 0, rights: int = READ, *, fd: int = OUT, flags: int = 0, follow: int = 1
) -> int:
    paths.path_open(guest.host, fd, follow, *guest.put(path), oflags, rights, 0, flags, 0)
    return int(guest.number())


def create(guest: Any, path: bytes, data: bytes = b"", *, fd: int = OUT) -> int:
    number = open_path(guest, path, O_CREAT, BOTH, fd=fd)
    if data:
        files.fd_write(guest.host, number, *guest.iovec(data), 0)
    return number


def read(guest: Any, number: int, size: int = 100) -> bytes:
    files.fd_read(guest.host, number, *guest.iovec(bytes(size)), 0)
    return bytes(guest.host.memory.read(4096, guest.number()))


def names(guest: Any, number: int) -> list[bytes]:
    files.fd_readdir(guest.host, number, 8192, 4096, 0, 0)
    data, found = guest.host.memory.read(8192, guest.number()), []
    while data:
        size = struct.unpack_from("<I", data, 16)[0]
        found.append(data[24 : 24 + size])
        data = data[24 + size :]
    return found


def stat_of(guest: Any, path: bytes, *, fd: int = OUT, follow: int = 1) -> dict[str, int]:
    paths.path_filestat_get(guest.host, fd, follow, *guest.put(path), 512)
    values = struct.unpack("<QQBxxxxxxxQQQQQ", guest.host.memory.read(512, 64))
    return dict(zip(("dev", "ino", "type", "links", "size", "atim", "mtim", "ctim"), values, strict=True))


# files ----------------------------------------------------------------------------------------------------------------


def test_write_seek_read_and_append(guest: Any) -> None:
    number = create(guest, b"f", b"hello")
    files.fd_seek(guest.host, number, 1, 0, 0)
    assert read(guest, number, 3) == b"ell"
    files.fd_tell(guest.host, number, 0)
    assert guest.number(0, 8) == 4
    files.fd_fdstat_set_flags(guest.host, number, 1)
    files.fd_seek(guest.host, number, 0, 0, 0)
    files.fd_write(guest.host, number, *guest.iovec(b"!"), 0)
    files.fd_pread(guest.host, number, *guest.iovec(bytes(10)), 0, 0)
    assert guest.host.memory.read(4096, guest.number()) == b"hello!"


def test_a_gap_is_filled_with_zeros_and_paid_for(guest: Any) -> None:
    number = create(guest, b"f")
    files.fd_pwrite(guest.host, number, *guest.iovec(b"x"), 1000, 0)
    assert stat_of(guest, b"f")["size"] == 1001
    assert guest.host.usage.bytes == 1001
    assert read(guest, number, 1001) == bytes(1000) + b"x"


def test_sizes_are_set_and_given_back(guest: Any) -> None:
    number = create(guest, b"f", b"hello")
    files.fd_filestat_set_size(guest.host, number, 2)
    assert read(guest, open_path(guest, b"f")) == b"he"
    files.fd_filestat_set_size(guest.host, number, 4)
    assert read(guest, open_path(guest, b"f")) == b"he\0\0"
    refused(Errno.INVAL, files.fd_filestat_set_size, guest.host, number, 1 << 63)
    files.fd_close(guest.host, number)
    refused(Errno.BADF, files.fd_filestat_set_size, guest.host, number, 0)
    refused(Errno.ISDIR, files.fd_filestat_set_size, guest.host, OUT, 0)


def test_what_is_kept_stays_within_the_limits(make_guest: Any) -> None:
    guest = make_guest(max_bytes=10, max_files=5)  # three of them are the roots and the preopens' own
    number = create(guest, b"f", b"0123456789")
    with pytest.raises(OverLimit, match="output_bytes"):
        files.fd_write(guest.host, number, *guest.iovec(b"x"), 0)
    with pytest.raises(OverLimit, match="output_bytes"):
        files.fd_filestat_set_size(guest.host, number, 1 << 62)
    with pytest.raises(OverLimit, match="output_bytes"):
        files.fd_pwrite(guest.host, number, *guest.iovec(b"x"), 1 << 40, 0)
    paths.path_unlink_file(guest.host, OUT, *guest.put(b"f"))
    assert guest.host.usage.bytes == 10  # an open file keeps its bytes
    files.fd_close(guest.host, number)
    assert guest.host.usage.bytes == 0
    create(guest, b"g", b"0123456789")
    paths.path_create_directory(guest.host, OUT, *guest.put(b"d"))
    create(guest, b"h")
    with pytest.raises(OverLimit, match="output_files"):
        create(guest, b"i")


def test_names_of_one_file_count_and_come_back(make_guest: Any) -> None:
    guest = make_guest(max_files=4)
    files.fd_close(guest.host, create(guest, b"f", b"x"))
    for _ in range(10):
        paths.path_link(guest.host, OUT, 0, *guest.put(b"f"), OUT, *guest.put(b"g", 3000))
        assert stat_of(guest, b"f")["links"] == 2
        paths.path_unlink_file(guest.host, OUT, *guest.put(b"g"))
    paths.path_unlink_file(guest.host, OUT, *guest.put(b"f"))
    assert (guest.host.usage.files, guest.host.usage.bytes) == (2, 0)


def test_inputs_are_read_only(guest: Any) -> None:
    assert read(guest, open_path(guest, b"in.txt", fd=IN)) == b"hello"
    put = guest.put
    with pytest.raises(WasiError, match="ROFS"):
        open_path(guest, b"in.txt", 0, BOTH, fd=IN)
    for oflags in (O_CREAT | O_TRUNC, O_TRUNC):
        with pytest.raises(WasiError, match="ROFS"):
            open_path(guest, b"in.txt", oflags, fd=IN)
    with pytest.raises(WasiError, match="ROFS"):
        open_path(guest, b"new", O_CREAT, fd=IN)
    refused(Errno.ROFS, paths.path_create_directory, guest.host, IN, *put(b"d"))
    refused(Errno.ROFS, paths.path_unlink_file, guest.host, IN, *put(b"in.txt"))
    refused(Errno.ROFS, paths.path_symlink, guest.host, *put(b"x"), IN, *put(b"l", 3000))
    refused(Errno.ROFS, paths.path_filestat_set_times, guest.host, IN, 0, *put(b"in.txt"), 1, 1, 5)
    refused(Errno.ROFS, paths.path_rename, guest.host, IN, *put(b"in.txt"), OUT, *put(b"x", 3000))
    refused(Errno.XDEV, paths.path_link, guest.host, IN, 0, *put(b"in.txt"), OUT, *put(b"x", 3000))
    assert guest.host.usage.bytes == 0


def test_descriptors_have_the_rights_they_were_opened_with(guest: Any) -> None:
    number = open_path(guest, b"f", O_CREAT, WRITE)
    refused(Errno.BADF, files.fd_read, guest.host, number, *guest.iovec(b"x"), 0)
    number = open_path(guest, b"f", 0, READ)
    refused(Errno.BADF, files.fd_write, guest.host, number, *guest.iovec(b"x"), 0)
    refused(Errno.BADF, files.fd_read, guest.host, 1, *guest.iovec(b"x"), 0)
    refused(Errno.BADF, files.fd_write, guest.host, 0, *guest.iovec(b"x"), 0)
    refused(Errno.ISDIR, files.fd_read, guest.host, OUT, *guest.iovec(b"x"), 0)


def test_rights_can_be_dropped_and_not_regained(guest: Any) -> None:
    number = create(guest, b"f")
    files.fd_fdstat_set_rights(guest.host, number, FILE_RIGHTS & ~WRITE & ~Right.FD_SEEK, 0)
    refused(Errno.BADF, files.fd_write, guest.host, number, *guest.iovec(b"x"), 0)
    refused(Errno.NOTCAPABLE, files.fd_seek, guest.host, number, 0, 0, 0)
    refused(Errno.NOTCAPABLE, files.fd_fdstat_set_rights, guest.host, number, FILE_RIGHTS, 0)
    files.fd_fdstat_set_rights(guest.host, OUT, DIRECTORY_RIGHTS & ~Right.PATH_FILESTAT_SET_SIZE, FILE_RIGHTS)
    with pytest.raises(WasiError, match="NOTCAPABLE"):
        open_path(guest, b"f", O_TRUNC)


def test_streams_have_no_position_and_no_tree(guest: Any) -> None:
    for number in (0, 1, 2):
        refused(Errno.SPIPE, files.fd_seek, guest.host, number, 0, 0, 0)
        refused(Errno.SPIPE, files.fd_tell, guest.host, number, 0)
        refused(Errno.NOTDIR, paths.path_create_directory, guest.host, number, *guest.put(b"d"))
        files.fd_fdstat_get(guest.host, number, 0)
        files.fd_filestat_get(guest.host, number, 0)
    assert read(guest, 0) == b""


def test_seeks_are_checked(guest: Any) -> None:
    number = create(guest, b"f", b"hello")
    files.fd_seek(guest.host, number, (1 << 64) - 2, 2, 0)  # two before the end
    assert guest.number(0, 8) == 3
    refused(Errno.INVAL, files.fd_seek, guest.host, number, (1 << 64) - 1, 0, 0)
    refused(Errno.INVAL, files.fd_seek, guest.host, number, 0, 3, 0)
    files.fd_seek(guest.host, number, (1 << 63) - 1, 0, 0)
    refused(Errno.INVAL, files.fd_seek, guest.host, number, 1, 1, 0)
    refused(Errno.FBIG, files.fd_write, guest.host, number, *guest.iovec(b"x"), 0)
    refused(Errno.BADF, files.fd_seek, guest.host, OUT, 0, 0, 0)


def test_descriptors_are_the_lowest_free_and_limited(guest: Any) -> None:
    first = create(guest, b"f")
    assert first == 6
    files.fd_close(guest.host, 0)
    assert open_path(guest, b"f") == 0
    files.fd_renumber(guest.host, first, 100)
    refused(Errno.BADF, files.fd_tell, guest.host, first, 0)
    files.fd_tell(guest.host, 100, 0)
    refused(Errno.BADF, files.fd_renumber, guest.host, 77, 1)
    refused(Errno.BADF, files.fd_renumber, guest.host, 100, 1 << 31)
    for _ in range(32 - 7):  # seven are open already
        open_path(guest, b"f")
    with pytest.raises(WasiError, match="MFILE"):
        open_path(guest, b"f")


def test_preopens_are_announced(guest: Any) -> None:
    for number, name in ((IN, b"/inputs"), (OUT, b"/outputs"), (TMP, b"/tmp")):
        files.fd_prestat_get(guest.host, number, 0)
        assert guest.number(4) == len(name)
        files.fd_prestat_dir_name(guest.host, number, 0, 100)
        assert guest.host.memory.read(0, len(name)) == name
    refused(Errno.NAMETOOLONG, files.fd_prestat_dir_name, guest.host, OUT, 0, 3)
    refused(Errno.BADF, files.fd_prestat_get, guest.host, 6, 0)
    refused(Errno.BADF, files.fd_prestat_get, guest.host, 1, 0)


def test_entries_come_sorted_whatever_their_age(guest: Any) -> None:
    for name in ("z", "é", "a", "Z", "b1", "b"):
        files.fd_close(guest.host, create(guest, name.encode()))
    assert names(guest, OUT) == [b".", b"..", b"Z", b"a", b"b", b"b1", b"z", "é".encode()]


def test_readdir_goes_on_from_a_cookie_in_a_small_buffer(guest: Any) -> None:
    for index in range(20):
        files.fd_close(guest.host, create(guest, b"file%02d" % index))
    found, cookie = [], 0
    while True:
        files.fd_readdir(guest.host, OUT, 8192, 70, cookie, 0)
        used, at = guest.number(), 0
        data = guest.host.memory.read(8192, used)
        while at + 24 <= used:
            next_cookie, _, size = struct.unpack_from("<QQI", data, at)
            if at + 24 + size > used:
                break
            found.append(data[at + 24 : at + 24 + size])
            cookie, at = next_cookie, at + 24 + size
        if used < 70:
            break
    assert found == [b".", b"..", *(b"file%02d" % index for index in range(20))]
    refused(Errno.NOTDIR, files.fd_readdir, guest.host, 1, 0, 10, 0, 0)
    files.fd_readdir(guest.host, OUT, 8192, 70, 1 << 63, 0)
    assert guest.number() == 0


def test_times_are_zero_until_set(guest: Any) -> None:
    number = create(guest, b"f", b"x")
    assert [stat_of(guest, b"f")[name] for name in ("atim", "mtim", "ctim")] == [0, 0, 0]
    files.fd_filestat_set_times(guest.host, number, 5, 7, 1 | 4)
    assert [stat_of(guest, b"f")[name] for name in ("atim", "mtim")] == [5, 7]
    paths.path_filestat_set_times(guest.host, OUT, 1, *guest.put(b"f"), 0, 0, 2 | 8)
    assert stat_of(guest, b"f")["mtim"] == EPOCH_NS
    for flags in (3, 12, 16):
        refused(Errno.INVAL, files.fd_filestat_set_times, guest.host, number, 0, 0, flags)


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
    refused(Errno.NOTSUP, files.fd_allocate, guest.host, create(guest, b"f"), 0, 1)


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
