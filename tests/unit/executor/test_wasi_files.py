"""WASI functions on files, on a host without a module: what they do, each errno, what they cannot be made to do."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from tests.unit.executor.wasi_calls import (
    BOTH,
    IN,
    OUT,
    READ,
    TMP,
    WRITE,
    create,
    names,
    open_path,
    read,
    refused,
    stat_of,
)

from quorate_node.executor.wasi import files, paths
from quorate_node.executor.wasi.abi import (
    DIRECTORY_RIGHTS,
    EPOCH_NS,
    FILE_RIGHTS,
    O_CREAT,
    O_TRUNC,
    Errno,
    Right,
    WasiError,
)
from quorate_node.executor.wasi.tree import OverLimit


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
        assert guest.host.memory.read(32, 32) == bytes(32)  # neither size nor times
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
    files.fd_renumber(guest.host, first, 1)
    refused(Errno.BADF, files.fd_tell, guest.host, first, 0)
    files.fd_tell(guest.host, 1, 0)
    refused(Errno.BADF, files.fd_renumber, guest.host, 77, 1)
    refused(Errno.BADF, files.fd_renumber, guest.host, 1, first)  # nothing is open there any more
    refused(Errno.BADF, files.fd_renumber, guest.host, 1, 1 << 31)
    for _ in range(32 - 6):  # six are open already
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


def test_times_are_the_epoch_until_set(guest: Any) -> None:
    number = create(guest, b"f", b"x")
    guest.host.elapsed_ns = 10**9
    files.fd_write(guest.host, number, *guest.iovec(b"y"), 0)
    assert [stat_of(guest, b"f")[name] for name in ("atim", "mtim", "ctim")] == [EPOCH_NS] * 3
    files.fd_filestat_set_times(guest.host, number, 5, 7, 1 | 4)
    files.fd_write(guest.host, number, *guest.iovec(b"z"), 0)
    assert [stat_of(guest, b"f")[name] for name in ("atim", "mtim", "ctim")] == [5, 7, EPOCH_NS]
    paths.path_filestat_set_times(guest.host, OUT, 1, *guest.put(b"f"), 0, 0, 2 | 8)
    assert stat_of(guest, b"f")["mtim"] == EPOCH_NS + 10**9
    for flags in (3, 12, 16):
        refused(Errno.INVAL, files.fd_filestat_set_times, guest.host, number, 0, 0, flags)
