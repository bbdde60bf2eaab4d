"""Free ports for processes that are about to start, which no other devnet that starts meanwhile is given as well."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from quorate.protocol.errors import Busy, ConfigurationError

# Below those that systems hand out themselves, to connections and to whoever listens on port 0.
CANDIDATES = range(20_000, 32_768)
KEPT_S = 60.0
"""For so long a port is nobody else's, whether its process listens yet or not."""


def pick_ports(count: int) -> list[int]:
    """Free ports on loopback, all different; for a minute no other process of this user gets the same.

    Raises Busy when there are not so many, ConfigurationError when there is no place to remember them.
    """
    with _picked_lately() as lately:
        found: list[int] = []
        for port in random.Random().sample(CANDIDATES, len(CANDIDATES)):
            if len(found) == count:
                break
            if port not in lately and is_port_free(port):
                found.append(port)
        if len(found) < count:
            raise Busy(f"of the ports {CANDIDATES[0]} to {CANDIDATES[-1]} fewer than {count} are free")
        lately.update(dict.fromkeys(found, time.time()))
    return found


def is_port_free(port: int) -> bool:
    """Whether somebody could listen on a loopback port now."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _picked_lately() -> Iterator[dict[int, float]]:
    """Port → when it was picked, by any process of this user; what is added is kept. One process at a time."""
    path = Path(tempfile.gettempdir(), f"quorate-ports-{os.getuid()}")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}: remove it, or let TMPDIR name another folder") from error
    with os.fdopen(descriptor, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lately = dict(_read_picks(file.read()))
        yield lately
        file.seek(0)
        file.truncate()
        file.writelines(f"{port} {moment:.3f}\n" for port, moment in lately.items())


def _read_picks(text: str) -> Iterator[tuple[int, float]]:
    now = time.time()
    for line in text.splitlines():
        with contextlib.suppress(ValueError):  # whatever is no pick is dropped: at worst a port is given twice
            port, moment = line.split()
            if abs(now - float(moment)) < KEPT_S:
                yield int(port), float(moment)
