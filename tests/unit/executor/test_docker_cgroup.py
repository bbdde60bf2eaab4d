"""What the kernel's own files say of memory, in both versions of cgroups."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from quorate.protocol.errors import ConfigurationError
from quorate_node.executor import docker_cgroup
from quorate_node.executor.docker_cgroup import Hierarchies, HostCounters, MemoryEnd, MemoryWatch

VMSTAT = "nr_free_pages 5\nallocstall_dma 1\nallocstall_normal 2\noom_kill {kills}\n"
LEGACY = (
    "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /a/cpu cgroup rw,cpu 0 0\n"
    "cgroup /a/memory cgroup rw,memory 0 0\ncgroup /a/pids cgroup rw,pids 0 0\n"
)
UNIFIED = "cgroup2 /a/unified cgroup2 rw,nsdelegate 0 0\n"


def make_watch(folder: Path, files: dict[str, str], *, is_unified: bool, stalls: int = 3) -> MemoryWatch:
    (folder / "task").mkdir()
    for name, text in files.items():
        (folder / "task" / name).write_text(text)
    return MemoryWatch("task", HostCounters(7, stalls), Hierarchies(folder, folder, is_unified, (folder,)))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Counters of a host on which one process has died since a watch began."""
    monkeypatch.setattr(docker_cgroup, "VMSTAT", tmp_path / "vmstat")
    (tmp_path / "vmstat").write_text(VMSTAT.format(kills=8))
    return tmp_path / "vmstat"


def test_counters_are_those_of_the_whole_host() -> None:
    assert HostCounters.parse(VMSTAT.format(kills=435)) == HostCounters(435, 3)
    with pytest.raises(ConfigurationError, match="oom_kill"):
        HostCounters.parse("nr_free_pages 5\n")


def test_hierarchies_are_found_where_they_are_mounted() -> None:
    both = Hierarchies.parse(LEGACY + UNIFIED)
    cpu, memory, pids, unified = map(Path, ("/a/cpu", "/a/memory", "/a/pids", "/a/unified"))
    assert both == Hierarchies(memory, pids, False, (cpu, memory, pids, unified))
    assert Hierarchies.parse(UNIFIED) == Hierarchies(unified, unified, True, (unified,))
    assert Hierarchies.parse("proc /proc proc rw 0 0\n").memory is None


@pytest.mark.parametrize(
    ("kills", "oom", "spent", "end"),
    [(0, 0, 9, MemoryEnd.ENOUGH), (1, 1, 9, MemoryEnd.EXHAUSTED), (1, 0, 9, MemoryEnd.EXHAUSTED),
     (0, 1, 9, MemoryEnd.EXHAUSTED), (0, 0, 0, MemoryEnd.UNSURE)],
)  # fmt: skip
def test_the_second_version_counts_the_deaths_below(
    tmp_path: Path, host: Path, kills: int, oom: int, spent: int, end: MemoryEnd
) -> None:
    events = f"low 0\nhigh 0\nmax 3\noom {oom}\noom_kill {kills}\noom_group_kill 0\n"
    files = {"memory.events": events, "cpu.stat": f"usage_usec {spent}\nuser_usec 0\n"}
    assert make_watch(tmp_path, files, is_unified=True).judge() is end


@pytest.mark.parametrize(
    ("signals", "used", "stalls", "end"),
    [(1, 5, 3, MemoryEnd.EXHAUSTED), (0, 5, 3, MemoryEnd.ENOUGH), (0, 5, 2, MemoryEnd.UNSURE),
     (0, 0, 3, MemoryEnd.UNSURE)],
)  # fmt: skip
def test_the_first_version_signals_what_is_ours_and_the_host_counts_the_rest(
    tmp_path: Path, host: Path, signals: int, used: int, stalls: int, end: MemoryEnd
) -> None:
    descriptor = os.eventfd(signals, os.EFD_NONBLOCK)
    watch = make_watch(tmp_path, {"memory.max_usage_in_bytes": f"{used}\n"}, is_unified=False, stalls=stalls)
    assert replace(watch, signal=descriptor).judge() is end
    host.write_text(VMSTAT.format(kills=7))
    assert replace(watch, signal=descriptor).judge() is MemoryEnd.ENOUGH, "nothing has died"
    os.close(descriptor)


def test_without_a_cgroup_any_death_may_have_been_ours(tmp_path: Path, host: Path) -> None:
    watch = replace(make_watch(tmp_path, {}, is_unified=False), name=None)
    assert watch.judge() is MemoryEnd.UNSURE
    host.write_text(VMSTAT.format(kills=7))
    assert watch.judge() is MemoryEnd.ENOUGH


def test_tasks_are_counted_where_the_kernel_does(tmp_path: Path) -> None:
    watch = make_watch(tmp_path, {}, is_unified=False)
    assert watch.find_most_tasks() is None
    (tmp_path / "task" / "pids.peak").write_text("57\n")
    assert watch.find_most_tasks() == 57
    assert replace(watch, name=None).find_most_tasks() is None
