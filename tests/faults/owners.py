"""Which process owns the other end of a loopback connection, and so which node it is that connects (Linux).

The kernel names a socket's inode by the connection's two ports (its socket diagnostics, or else the table in /proc);
the process is the one with a descriptor for that inode. A process gives new sockets the few lowest numbers that are
free, so those that it used last are looked at first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from collections import OrderedDict
from pathlib import Path

ANYBODY = "*"
PROCESSES_S = 1.0
"""The list of processes is not read again before so many seconds."""
MOST_RECENT = 512
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, NLMSG_ERROR = 4, 20, 1, 2
HEADER, REQUEST = struct.Struct("=IHHII"), struct.Struct("=BBBBI")
CODE, INODE = struct.Struct("=i"), struct.Struct("=I")
ENDS = struct.Struct("!HH4s12x4s12x")  # ports and addresses, the asked one's first
ANY_INTERFACE_OR_COOKIE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
ALL_STATES = 0xFFFFFFFF
ENDS_AT, INODE_AT = HEADER.size + 4, HEADER.size + 4 + ENDS.size + 12 + 16
LOOPBACK = socket.inet_aton("127.0.0.1")
_Descriptor = tuple[int, str]  # process, and its number there


class Owners:
    """Names of who connects, by process group."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._members: list[int] = []  # processes of those groups
        self._strangers: list[int] = []
        self._read_at = 0.0
        self._recent: OrderedDict[_Descriptor, None] = OrderedDict()
        self._diagnostics: socket.socket | None = open_diagnostics()

    def know(self, name: str, group: int) -> None:
        """Processes of this group, and of no other, are `name`."""
        self._names = {each: known for each, known in self._names.items() if known != name}
        self._names[group] = name
        self._read()

    def find(self, port: int, own_port: int) -> str:
        """Name of the process with the loopback connection from `port` to `own_port`; ANYBODY for a stranger."""
        inode = self._find_inode(port, own_port) if self._names else None
        if inode is None:
            return ANYBODY
        pid = self._find_owner(f"socket:[{inode}]")
        with contextlib.suppress(OSError):
            return ANYBODY if pid is None else self._names.get(os.getpgid(pid), ANYBODY)
        return ANYBODY  # it has ended meanwhile

    def _find_inode(self, port: int, own_port: int) -> int | None:
        if self._diagnostics is not None:
            try:
                return ask_inode(self._diagnostics, port, own_port)
            except OSError:
                self.distrust_diagnostics()
        return read_inode(port, own_port)

    def distrust_diagnostics(self) -> None:
        """From now on by the table alone."""
        if self._diagnostics is not None:
            self._diagnostics.close()
            self._diagnostics = None

    def _find_owner(self, wanted: str) -> int | None:
        for recent in reversed(self._recent):
            if _is_link(*recent, wanted):
                self._recent.move_to_end(recent)
                return recent[0]
        found = self._search(self._members, wanted)
        if found is None and time.monotonic() >= self._read_at + PROCESSES_S:
            self._read()
            found = self._search([*self._members, *self._strangers], wanted)
        return found

    def _search(self, pids: list[int], wanted: str) -> int | None:
        for pid in pids:
            with contextlib.suppress(OSError):
                for number in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - many times a second
                    if _is_link(pid, number, wanted):
                        self._recent[pid, number] = None
                        while len(self._recent) > MOST_RECENT:
                            self._recent.popitem(last=False)
                        return pid
        return None

    def _read(self) -> None:
        """Look which processes there are."""
        self._members, self._strangers, self._read_at = [], [], time.monotonic()
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with contextlib.suppress(OSError):
                    pid = int(folder.name)
                    (self._members if os.getpgid(pid) in self._names else self._strangers).append(pid)
        alive = {*self._members, *self._strangers}
        for descriptor in [each for each in self._recent if each[0] not in alive]:
            del self._recent[descriptor]


def _is_link(pid: int, number: str, wanted: str) -> bool:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/fd/{number}") == wanted  # noqa: PTH115 - many times a second
    return False


def open_diagnostics() -> socket.socket | None:
    """A socket for `ask_inode`; None where the kernel does not answer rightly about a connection of our own."""
    with contextlib.suppress(OSError):
        diagnostics = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
        diagnostics.settimeout(1.0)
        if _is_right(diagnostics):
            return diagnostics
        diagnostics.close()
    return None


def _is_right(diagnostics: socket.socket) -> bool:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as near:
        ports = near.getsockname()[1], near.getpeername()[1]
        with contextlib.suppress(OSError):
            return ask_inode(diagnostics, *ports) == os.fstat(near.fileno()).st_ino
    return False


def ask_inode(diagnostics: socket.socket, port: int, own_port: int) -> int | None:
    """Inode of the socket at `port` that is connected to `own_port`; None when it is closed.

    Raises OSError where the kernel does not tell.
    """
    wanted = ENDS.pack(port, own_port, LOOPBACK, LOOPBACK)
    question = REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, ALL_STATES) + wanted + ANY_INTERFACE_OR_COOKIE
    diagnostics.send(HEADER.pack(HEADER.size + len(question), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0) + question)
    answer = diagnostics.recv(4096)
    if HEADER.unpack_from(answer)[1] == NLMSG_ERROR:
        (code,) = CODE.unpack_from(answer, HEADER.size)
        if code == -errno.ENOENT:
            return None
        raise OSError(-code, os.strerror(-code))
    if answer[ENDS_AT : ENDS_AT + ENDS.size] != wanted:
        return None  # a listener at that port
    return int(INODE.unpack_from(answer, INODE_AT)[0]) or None


def read_inode(port: int, own_port: int) -> int | None:
    """As `ask_inode`, from the table of all connections: slow, but always there."""
    ends = f"0100007F:{port:04X}", f"0100007F:{own_port:04X}"
    with Path("/proc/net/tcp").open() as table:
        for line in table:
            cells = line.split()
            if (cells[1], cells[2]) == ends:
                return int(cells[9]) or None
    return None
