"""Numbers and record layouts of WASI preview 1 (snapshot_preview1.witx); little-endian throughout."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag

MODULE = "wasi_snapshot_preview1"
EPOCH_NS = 1_577_836_800 * 10**9  # 2020-01-01T00:00:00Z: where real time starts, and every time that nobody has set


class Errno(IntEnum):
    """The error codes that Quorate returns."""

    SUCCESS = 0
    BADF = 8
    EXIST = 20
    FBIG = 22
    ILSEQ = 25
    INVAL = 28
    ISDIR = 31
    LOOP = 32
    MFILE = 33
    NAMETOOLONG = 37
    NOENT = 44
    NOSYS = 52
    NOTDIR = 54
    NOTEMPTY = 55
    NOTSOCK = 57
    NOTSUP = 58
    OVERFLOW = 61
    PERM = 63
    ROFS = 69
    SPIPE = 70
    XDEV = 75
    NOTCAPABLE = 76


class WasiError(Exception):
    """A host call fails with an errno that the program sees."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno.name)
        self.errno = errno


class Filetype(IntEnum):
    """Kinds of nodes."""

    UNKNOWN = 0
    DIRECTORY = 3
    REGULAR_FILE = 4
    SYMBOLIC_LINK = 7


class Right(IntFlag):
    """What may be done with a descriptor."""

    FD_DATASYNC = 1 << 0
    FD_READ = 1 << 1
    FD_SEEK = 1 << 2
    FD_FDSTAT_SET_FLAGS = 1 << 3
    FD_SYNC = 1 << 4
    FD_TELL = 1 << 5
    FD_WRITE = 1 << 6
    FD_ADVISE = 1 << 7
    FD_ALLOCATE = 1 << 8
    PATH_CREATE_DIRECTORY = 1 << 9
    PATH_CREATE_FILE = 1 << 10
    PATH_LINK_SOURCE = 1 << 11
    PATH_LINK_TARGET = 1 << 12
    PATH_OPEN = 1 << 13
    FD_READDIR = 1 << 14
    PATH_READLINK = 1 << 15
    PATH_RENAME_SOURCE = 1 << 16
    PATH_RENAME_TARGET = 1 << 17
    PATH_FILESTAT_GET = 1 << 18
    PATH_FILESTAT_SET_SIZE = 1 << 19
    PATH_FILESTAT_SET_TIMES = 1 << 20
    FD_FILESTAT_GET = 1 << 21
    FD_FILESTAT_SET_SIZE = 1 << 22
    FD_FILESTAT_SET_TIMES = 1 << 23
    PATH_SYMLINK = 1 << 24
    PATH_REMOVE_DIRECTORY = 1 << 25
    PATH_UNLINK_FILE = 1 << 26
    POLL_FD_READWRITE = 1 << 27
    SOCK_SHUTDOWN = 1 << 28
    SOCK_ACCEPT = 1 << 29


FILE_RIGHTS = int(
    Right.FD_DATASYNC | Right.FD_READ | Right.FD_SEEK | Right.FD_FDSTAT_SET_FLAGS | Right.FD_SYNC | Right.FD_TELL
    | Right.FD_WRITE | Right.FD_ADVISE | Right.FD_ALLOCATE | Right.FD_FILESTAT_GET | Right.FD_FILESTAT_SET_SIZE
    | Right.FD_FILESTAT_SET_TIMES | Right.POLL_FD_READWRITE
)  # fmt: skip
DIRECTORY_RIGHTS = int(
    Right.FD_DATASYNC | Right.FD_FDSTAT_SET_FLAGS | Right.FD_SYNC | Right.FD_ADVISE
    | Right.PATH_CREATE_DIRECTORY | Right.PATH_CREATE_FILE
    | Right.PATH_LINK_SOURCE | Right.PATH_LINK_TARGET | Right.PATH_OPEN | Right.FD_READDIR | Right.PATH_READLINK
    | Right.PATH_RENAME_SOURCE | Right.PATH_RENAME_TARGET | Right.PATH_FILESTAT_GET | Right.PATH_FILESTAT_SET_SIZE
    | Right.PATH_FILESTAT_SET_TIMES | Right.FD_FILESTAT_GET | Right.FD_FILESTAT_SET_TIMES | Right.PATH_SYMLINK
    | Right.PATH_REMOVE_DIRECTORY | Right.PATH_UNLINK_FILE | Right.POLL_FD_READWRITE
)  # fmt: skip
STREAM_RIGHTS = int(Right.FD_FDSTAT_SET_FLAGS | Right.FD_FILESTAT_GET | Right.POLL_FD_READWRITE)

FD_APPEND = 1
FD_FLAGS = 0b11111  # append, dsync, nonblock, rsync, sync
O_CREAT, O_DIRECTORY, O_EXCL, O_TRUNC = 1, 2, 4, 8
O_FLAGS = 0b1111
SYMLINK_FOLLOW = 1
SET_ATIM, SET_ATIM_NOW, SET_MTIM, SET_MTIM_NOW = 1, 2, 4, 8
WHENCE_SET, WHENCE_CUR, WHENCE_END = 0, 1, 2
CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS, CLOCK_THREAD = 0, 1, 2, 3
EVENT_CLOCK, EVENT_FD_READ, EVENT_FD_WRITE = 0, 1, 2
CLOCK_ABSTIME = 1

U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")
PAIR = struct.Struct("<II")  # an iovec (buffer, length); a prestat (tag, length of the name)
FDSTAT = struct.Struct("<BxHxxxxQQ")  # type, flags, rights, inheriting rights
FILESTAT = struct.Struct("<QQBxxxxxxxQQQQQ")  # device, inode, type, links, size, atim, mtim, ctim
DIRENT = struct.Struct("<QQIBxxx")  # next cookie, inode, length of the name, type
SUBSCRIPTION = struct.Struct("<QBxxxxxxxIxxxxQQHxxxxxx")  # userdata, tag, clock id or fd, timeout, precision, flags
EVENT = struct.Struct("<QHBxxxxxQHxxxxxx")  # userdata, errno, type, bytes, flags
