"""Corners of WASI preview 1 where programs expect what POSIX systems do: rights, links, slashes, times, allocation."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.executor.wasi_calls import BOTH, IN, OUT, READ, WRITE, create, open_path, read, refused, stat_of

from quorate_node.executor.wasi import files, paths
from quorate_node.executor.wasi.abi import (
    EPOCH_NS,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_TRUNC,
    Errno,
    Right,
    WasiError,
)
from quorate_node.executor.wasi.tree import OverLimit

ALLOCATE, SET_SIZE = int(Right.FD_ALLOCATE), int(Right.FD_FILESTAT_SET_SIZE)


def link(guest: Any, target: bytes, name: bytes) -> None:
    paths.path_symlink(guest.host, *guest.put(target), OUT, *guest.put(name, 3000))


def mkdir(guest: Any, name: bytes) -> None:
    paths.path_create_directory(guest.host, OUT, *guest.put(name))


def rights_of(guest: Any, number: int) -> tuple[int, int]:
    files.fd_fdstat_get(guest.host, number, 512)
    return guest.number(520, 8), guest.number(528, 8)


def test_allocating_extends_and_never_cuts(guest: Any) -> None:
    number = open_path(guest, b"f", O_CREAT, BOTH | ALLOCATE)
    for offset, length, size in ((0, 100, 100), (10, 10, 100), (90, 20, 110)):
        files.fd_allocate(guest.host, number, offset, length)
        assert stat_of(guest, b"f")["size"] == size
    assert read(guest, number, 200) == bytes(110)
    assert guest.host.usage.bytes == 110


def test_allocating_is_refused_where_it_makes_no_sense(guest: Any) -> None:
    number = open_path(guest, b"f", O_CREAT, BOTH | ALLOCATE)
    refused(Errno.INVAL, files.fd_allocate, guest.host, number, 0, 0)
    refused(Errno.INVAL, files.fd_allocate, guest.host, number, 1 << 63, 1)
    refused(Errno.FBIG, files.fd_allocate, guest.host, number, (1 << 63) - 1, 1)
    refused(Errno.BADF, files.fd_allocate, guest.host, OUT, 0, 1)
    refused(Errno.SPIPE, files.fd_allocate, guest.host, 1, 0, 1)
    refused(Errno.BADF, files.fd_allocate, guest.host, 77, 0, 1)
    refused(Errno.NOTCAPABLE, files.fd_allocate, guest.host, open_path(guest, b"f"), 0, 1)
    with pytest.raises(OverLimit, match="output_bytes"):
        files.fd_allocate(guest.host, number, 1 << 40, 1)
    inputs = open_path(guest, b"in.txt", 0, READ | ALLOCATE | SET_SIZE, fd=IN)
    refused(Errno.ROFS, files.fd_allocate, guest.host, inputs, 0, 100)
    refused(Errno.ROFS, files.fd_filestat_set_size, guest.host, inputs, 0)


def test_a_file_opened_for_reading_cannot_be_cut(guest: Any) -> None:
    create(guest, b"f", b"hello")
    refused(Errno.NOTCAPABLE, files.fd_filestat_set_size, guest.host, open_path(guest, b"f"), 0)
    files.fd_filestat_set_size(guest.host, open_path(guest, b"f", 0, WRITE | SET_SIZE), 2)
    assert stat_of(guest, b"f")["size"] == 2


def test_rights_are_handed_down(guest: Any) -> None:
    """A descriptor opened through a directory has no right that the directory does not hand down."""
    mkdir(guest, b"d")
    base, inheriting = rights_of(guest, OUT)
    sub = open_path(guest, b"d", O_DIRECTORY, base)
    assert rights_of(guest, sub) == (base, inheriting)
    files.fd_fdstat_set_rights(guest.host, sub, base, inheriting & ~READ)
    below = open_path(guest, b"f", O_CREAT, BOTH, fd=sub)
    assert rights_of(guest, below)[0] & BOTH == WRITE
    refused(Errno.BADF, files.fd_read, guest.host, below, *guest.iovec(b"x"), 0)
    assert not rights_of(guest, open_path(guest, b"d", 0, int(Right.FD_SEEK)))[0] & Right.FD_SEEK
    files.fd_fdstat_set_rights(guest.host, sub, 0, 0)
    for call in (
        lambda: open_path(guest, b"f", fd=sub),
        lambda: files.fd_readdir(guest.host, sub, 0, 10, 0, 0),
        lambda: stat_of(guest, b"f", fd=sub),
        lambda: paths.path_unlink_file(guest.host, sub, *guest.put(b"f")),
        lambda: paths.path_create_directory(guest.host, sub, *guest.put(b"x")),
        lambda: paths.path_rename(guest.host, OUT, *guest.put(b"d"), sub, *guest.put(b"x", 3000)),
        lambda: paths.path_link(guest.host, sub, 0, *guest.put(b"f"), OUT, *guest.put(b"x", 3000)),
        lambda: files.fd_sync(guest.host, sub),
        lambda: files.fd_filestat_get(guest.host, sub, 0),
    ):
        with pytest.raises(WasiError, match="NOTCAPABLE"):
            call()


def test_creating_or_cutting_what_is_a_directory(guest: Any) -> None:
    mkdir(guest, b"d")
    for oflags in (O_CREAT, O_TRUNC):
        with pytest.raises(WasiError, match="ISDIR"):
            open_path(guest, b"d", oflags)
    for oflags in (O_CREAT, O_TRUNC):
        with pytest.raises(WasiError, match="INVAL"):
            open_path(guest, b"d", oflags | O_DIRECTORY)


def test_creating_through_links(guest: Any) -> None:
    link(guest, b"target", b"dangling")
    for oflags, errno in ((0, "LOOP"), (O_CREAT, "LOOP"), (O_DIRECTORY, "LOOP"), (O_CREAT | O_EXCL, "EXIST")):
        with pytest.raises(WasiError, match=errno):
            open_path(guest, b"dangling", oflags, follow=0)
    with pytest.raises(WasiError, match="EXIST"):
        open_path(guest, b"dangling", O_CREAT | O_EXCL)
    open_path(guest, b"dangling", O_CREAT, BOTH)
    assert stat_of(guest, b"target")["type"] == 4


def test_names_that_are_taken(guest: Any) -> None:
    mkdir(guest, b"d")
    create(guest, b"f")
    for name, errno in ((b"f", Errno.EXIST), (b"d", Errno.EXIST), (b"d/", Errno.EXIST), (b"f/", Errno.NOTDIR)):
        refused(errno, link, guest, b"x", name)
        refused(errno, paths.path_link, guest.host, OUT, 0, *guest.put(b"f"), OUT, *guest.put(name, 3000))
    refused(Errno.NOENT, link, guest, b"x", b"new/")
    refused(Errno.NOENT, link, guest, b"", b"new")
    refused(Errno.PERM, link, guest, b"/etc", b"new")
    refused(Errno.INVAL, link, guest, b"a\0b", b"new")


def test_a_slash_after_a_link_does_not_reach_through_it_for_changes(guest: Any) -> None:
    mkdir(guest, b"d")
    link(guest, b"d", b"l")
    link(guest, b"gone", b"dangling")
    put, host = guest.put, guest.host
    refused(Errno.NOTDIR, paths.path_remove_directory, host, OUT, *put(b"l/"))
    refused(Errno.NOTDIR, paths.path_remove_directory, host, OUT, *put(b"l"))
    refused(Errno.NOTDIR, paths.path_unlink_file, host, OUT, *put(b"l/"))
    refused(Errno.NOTDIR, paths.path_rename, host, OUT, *put(b"l/"), OUT, *put(b"m", 3000))
    refused(Errno.EXIST, mkdir, guest, b"dangling/")
    assert stat_of(guest, b"l/", follow=0)["type"] == 3  # looking does follow it
    paths.path_rename(host, OUT, *put(b"l"), OUT, *put(b"m", 3000))
    assert stat_of(guest, b"m", follow=0)["type"] == 7
    paths.path_unlink_file(host, OUT, *put(b"m"))
    assert stat_of(guest, b"d")["type"] == 3


def test_links_can_be_linked_and_are_looked_through_when_asked(guest: Any) -> None:
    put, host = guest.put, guest.host
    link(guest, b"loop", b"loop")
    paths.path_link(host, OUT, 0, *put(b"loop"), OUT, *put(b"second", 3000))
    assert stat_of(guest, b"second", follow=0)["ino"] == stat_of(guest, b"loop", follow=0)["ino"]
    refused(Errno.LOOP, paths.path_link, host, OUT, 1, *put(b"loop"), OUT, *put(b"third", 3000))
    link(guest, b"nothing", b"dangling")
    refused(Errno.NOENT, paths.path_link, host, OUT, 1, *put(b"dangling"), OUT, *put(b"third", 3000))
    create(guest, b"f")
    link(guest, b"f", b"l")
    paths.path_link(host, OUT, 1, *put(b"l"), OUT, *put(b"fourth", 3000))
    assert stat_of(guest, b"fourth", follow=0)["type"] == 4


def test_a_link_has_times_of_its_own(guest: Any) -> None:
    create(guest, b"f")
    link(guest, b"f", b"l")
    paths.path_filestat_set_times(guest.host, OUT, 0, *guest.put(b"l"), 0, EPOCH_NS - 200, 4)
    assert stat_of(guest, b"l", follow=0)["mtim"] == EPOCH_NS - 200
    assert stat_of(guest, b"f")["mtim"] == EPOCH_NS
    paths.path_filestat_set_times(guest.host, OUT, 1, *guest.put(b"l"), 3, 0, 1)
    assert [stat_of(guest, b"f")[name] for name in ("atim", "mtim")] == [3, EPOCH_NS]
    refused(Errno.INVAL, paths.path_filestat_set_times, guest.host, OUT, 0, *guest.put(b"f"), 0, 0, 12)
    refused(Errno.NOENT, paths.path_filestat_set_times, guest.host, OUT, 0, *guest.put(b"no"), 0, 0, 4)
    assert stat_of(guest, b"f")["mtim"] == EPOCH_NS


def test_writing_at_an_offset_in_append_mode_leaves_the_position(guest: Any) -> None:
    number = open_path(guest, b"f", O_CREAT, BOTH, flags=1)
    for _ in range(2):
        files.fd_seek(guest.host, number, 0, 0, 0)
        files.fd_write(guest.host, number, *guest.iovec(b"ab"), 0)
    files.fd_pwrite(guest.host, number, *guest.iovec(b"xyz"), 0, 0)
    files.fd_tell(guest.host, number, 0)
    assert guest.number(0, 8) == 4
    assert stat_of(guest, b"f")["size"] == 4
    files.fd_pread(guest.host, number, *guest.iovec(bytes(10)), 0, 0)
    assert guest.host.memory.read(4096, guest.number()) == b"xyzb"


def test_standard_streams_can_be_replaced(guest: Any) -> None:
    number = create(guest, b"f")
    files.fd_renumber(guest.host, number, 1)
    files.fd_write(guest.host, 1, *guest.iovec(b"printed"), 0)
    assert read(guest, open_path(guest, b"f")) == b"printed"
    assert bytes(guest.host.stdout.data) == b""
    files.fd_renumber(guest.host, 2, 1)
    refused(Errno.BADF, files.fd_fdstat_get, guest.host, 2, 0)


def test_a_directory_that_was_closed_over_stays_removable(guest: Any) -> None:
    mkdir(guest, b"d")
    number = open_path(guest, b"d", O_DIRECTORY)
    files.fd_renumber(guest.host, number, IN)  # over a preopened one
    refused(Errno.BADF, files.fd_prestat_get, guest.host, IN, 0)
    paths.path_remove_directory(guest.host, OUT, *guest.put(b"d"))
    files.fd_readdir(guest.host, IN, 8192, 100, 0, 0)
    files.fd_close(guest.host, IN)
    refused(Errno.BADF, files.fd_readdir, guest.host, IN, 8192, 100, 0, 0)
