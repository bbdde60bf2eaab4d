"""WASI calls as a program makes them, and what they gave."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from quorate_node.executor.wasi import files, paths
from quorate_node.executor.wasi.abi import (
    O_CREAT,
    Errno,
    Right,
    WasiError,
)

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
