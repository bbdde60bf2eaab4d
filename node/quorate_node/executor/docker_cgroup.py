"""What the kernel itself tells of a container that ran out of memory.

A daemon hears of it by an event, which it loses now and then when the container ends at once afterwards; then a
program whose child was killed passes for one that ended by itself. So a task gets a cgroup of our own around the
container's, which stays until it has been read:

- cgroup v2 counts there whatever of it was killed for want of memory.
- v1 counts that in the container's own cgroup alone, which is gone by then. So there the limit is that of our cgroup,
  which signals an eventfd when it is reached and nothing can be reclaimed. What the host kills because all of its
  memory is used up signals nothing; but the host counts such deaths, and how often it was short of memory.
- Where we cannot make cgroups, or the daemon leaves them to systemd, only the host's counts are left: if anything died
  meanwhile, nobody can tell whether it was ours.

None of this asks a daemon, and a cgroup also ends what a daemon that hangs does not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

from quorate.protocol.errors import ConfigurationError

VMSTAT = Path("/proc/vmstat")
MOUNTS = Path("/proc/self/mounts")
MARGIN_BYTES = 4 << 20  # by which a container's own limit is above that of a cgroup around it that has one
EMPTY_S = 2.0  # what killed processes may take to be gone


class MemoryEnd(StrEnum):
    """How a task's memory ended."""

    ENOUGH = "ENOUGH"
    EXHAUSTED = "EXHAUSTED"  # something of it was killed
    UNSURE = "UNSURE"  # something on this host was killed, and that may have been it


@dataclass(frozen=True, slots=True)
class HostCounters:
    """Deaths for want of memory on this host since it runs, and how often the whole of it was short of memory."""

    kills: int
    stalls: int

    @classmethod
    def parse(cls, text: str) -> HostCounters:
        """Of /proc/vmstat. Raises ConfigurationError where the kernel does not count them."""
        rows = dict(line.split() for line in text.splitlines())
        if "oom_kill" not in rows:
            raise ConfigurationError("this kernel does not count who ran out of memory (oom_kill in /proc/vmstat)")
        stalls = sum(int(value) for name, value in rows.items() if name.startswith("allocstall"))
        return cls(int(rows["oom_kill"]), stalls)

    @classmethod
    def read(cls) -> HostCounters:
        """Those of now. Raises ConfigurationError."""
        try:
            return cls.parse(VMSTAT.read_text())
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"what this host tells of its memory cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Where cgroups are mounted: those that account for memory and count tasks, and all.

    `is_unified` says that memory's is of v2.
    """

    memory: Path | None
    pids: Path | None
    is_unified: bool
    places: tuple[Path, ...]

    @classmethod
    def parse(cls, mounts: str) -> Hierarchies:
        """Of /proc/mounts."""
        rows = [line.split() for line in mounts.splitlines()]
        first = [(row[1], row[3].split(",")) for row in rows if row[2] == "cgroup"]
        second = [Path(row[1]) for row in rows if row[2] == "cgroup2"]
        memory, pids = (
            [Path(place) for place, options in first if name in options] for name in ("memory", "pids")
        )  # fmt: skip
        places = (*(Path(place) for place, _ in first), *second)
        return cls(next(iter(memory or second), None), next(iter(pids or second), None), not memory, places)

    @classmethod
    def find(cls) -> Hierarchies:
        """Those of this host."""
        return cls.parse(MOUNTS.read_text())


def make_prefix(owner: str) -> str:
    """What the names of all cgroups of a node begin with; `owner` is the label of its containers."""
    return f"quorate-{hashlib.sha256(owner.encode()).hexdigest()[:16]}-"


@dataclass(frozen=True, slots=True)
class MemoryWatch:
    """One task's cgroup, and the host's counters when it began. `name` is None where the host is all there is.

    `signal` is the eventfd of a cgroup of v1, whose limit is the task's own.
    """

    name: str | None
    before: HostCounters
    hierarchies: Hierarchies
    signal: int | None = None

    @property
    def folder(self) -> Path | None:
        """The cgroup that accounts for the task's memory."""
        return self.hierarchies.memory / self.name if self.hierarchies.memory and self.name else None

    @property
    def margin_bytes(self) -> int:
        """What a container's own limit must be above the task's."""
        return 0 if self.signal is None else MARGIN_BYTES

    def judge(self) -> MemoryEnd:
        """To be asked when the container has ended and the cgroup is still there. Raises ConfigurationError."""
        after = HostCounters.read()
        was_used = self.folder is not None and bool(read_usage(self.folder, self.hierarchies.is_unified))
        if self.folder is not None and was_used and self.hierarchies.is_unified:
            return MemoryEnd.EXHAUSTED if count_kills(self.folder) else MemoryEnd.ENOUGH
        if self.signal is not None and is_signalled(self.signal):
            return MemoryEnd.EXHAUSTED
        if after.kills == self.before.kills or (was_used and after.stalls == self.before.stalls):
            return MemoryEnd.ENOUGH
        return MemoryEnd.UNSURE

    def find_most_tasks(self) -> int | None:
        """The most processes and threads that the host had for this task at once; None where it does not count them."""
        if self.name is None or self.hierarchies.pids is None:
            return None
        try:
            return int((self.hierarchies.pids / self.name / "pids.peak").read_text())
        except OSError:  # a kernel before 6.1
            return None

    def kill(self) -> None:
        """End whatever runs there, without a daemon."""
        if self.folder is not None:
            _kill(self.folder)

    def remove(self) -> None:
        """Kill what is left, and leave no cgroup."""
        if self.signal is not None:
            os.close(self.signal)
        if self.name is not None:
            _remove(self.hierarchies, self.name)


def is_signalled(descriptor: int) -> bool:
    """Whether an eventfd was written to since it was last asked."""
    try:
        return os.eventfd_read(descriptor) > 0
    except BlockingIOError:
        return False


def read_usage(folder: Path, is_unified: bool) -> int:
    """Something that is 0 for a cgroup in which nothing ran; of v1 the most bytes that it had."""
    if not is_unified:
        return int((folder / "memory.max_usage_in_bytes").read_text())
    rows = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
    return int(rows["usage_usec"])


def count_kills(folder: Path) -> int:
    """Of v2: how often something below was killed for want of memory, or was to be."""
    rows = dict(line.split() for line in (folder / "memory.events").read_text().splitlines())
    return int(rows["oom_kill"]) + int(rows["oom"])


@contextmanager
def watching(owner: str, limit: int, driver: str) -> Iterator[MemoryWatch]:
    """A watch over one task of at most `limit` bytes; `driver` is what the daemon makes cgroups with.

    Raises ConfigurationError where this host tells nothing.
    """
    hierarchies = Hierarchies.find()
    name = f"{make_prefix(owner)}{uuid4().hex}" if driver == "cgroupfs" and hierarchies.memory else None
    watch = MemoryWatch(name, HostCounters.read(), hierarchies)
    try:
        if watch.folder is not None:
            watch.folder.mkdir()
            if not hierarchies.is_unified:
                watch = replace(watch, signal=_limit(watch.folder, limit))
    except OSError:  # not ours to make; `doctor` tells
        watch.remove()
        watch = replace(watch, name=None)
    try:
        yield watch
    finally:
        watch.remove()


def _limit(folder: Path, limit: int) -> int:
    """The eventfd that a cgroup of v1 signals when its processes need more than `limit` bytes."""
    for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        if (folder / name).exists():
            (folder / name).write_text(str(limit))
    descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        with (folder / "memory.oom_control").open() as control:
            (folder / "cgroup.event_control").write_text(f"{descriptor} {control.fileno()}")
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def describe_watch(driver: str) -> str:
    """What a node goes by here, for whoever set it up."""
    with watching("doctor", MARGIN_BYTES, driver) as watch:
        if watch.name is None:
            why = "the daemon leaves cgroups to systemd" if driver != "cgroupfs" else "no cgroup can be made here"
            return f"the host's counters ({why}): a task during which anything here runs out of memory is tried again"
        return f"a cgroup of its own for each task (v{2 if watch.hierarchies.is_unified else 1})"


def remove_cgroups(owner: str) -> None:
    """Those that a node of this label left when it died, with what runs in them."""
    hierarchies = Hierarchies.find()
    pattern = f"{make_prefix(owner)}*"
    for name in {path.name for place in hierarchies.places for path in place.glob(pattern)}:
        _remove(hierarchies, name)


def _kill(folder: Path) -> None:
    for place, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            for pid in Path(place, "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)


def _remove(hierarchies: Hierarchies, name: str) -> None:
    deadline = time.monotonic() + EMPTY_S
    for place in hierarchies.places:
        while (folder := place / name).is_dir():
            _kill(folder)
            for each, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):
                    Path(each).rmdir()
            if time.monotonic() > deadline:
                break
            if folder.is_dir():
                time.sleep(0.01)
