"""What processes use, as the kernel counts it: memory at its most since it was last asked, and processor time."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
MIB_KB = 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process: memory now and at its most in KiB, seconds of processor time with that of ended children."""

    rss_kb: int
    peak_kb: int
    cpu_s: float


def read_usage(pid: int) -> Usage:
    """Raises OSError where the process is gone."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = {name: int(value) for name, value in re.findall(r"(VmHWM|VmRSS):\s+(\d+)", status)}
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Usage(found["VmRSS"], found["VmHWM"], sum(map(int, fields[11:15])) / TICKS)


def read_pss_kb(pid: int) -> int:
    """Memory of a process in KiB, what it shares with others divided among them. Raises OSError where it is gone."""
    [found] = re.findall(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found)


def list_family(pid: int) -> list[int]:
    """A process and all below it that live."""
    found, pending = list[int](), [pid]
    while pending:
        found.append(pending.pop())
        with suppress(OSError):
            for path in Path(f"/proc/{found[-1]}/task").glob("*/children"):
                pending += map(int, path.read_text().split())
    return found


class Watched:
    """Processes by name, with all below them, and this one alone, from now on."""

    def __init__(self, roots: dict[str, int], own: str) -> None:
        self._pids = {os.getpid(): own}
        for name, root in roots.items():
            for number, pid in enumerate(list_family(root)):
                self._pids[pid] = name if pid == root else f"{name} child {number}"
        self._before = {}
        for pid in self._pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
            self._before[pid] = read_usage(pid)

    def rows(self) -> list[dict[str, float | str]]:
        """What each has used since."""
        rows: list[dict[str, float | str]] = []
        for pid, name in self._pids.items():
            before, now = self._before[pid], read_usage(pid)
            growth = (now.peak_kb - before.rss_kb) / MIB_KB
            row = {"process": name, "cpu_s": now.cpu_s - before.cpu_s, "peak_mb": now.peak_kb / MIB_KB}
            rows.append({**row, "growth_mb": growth})
        return rows
