"""Ends a devnet's processes when its owner is gone, however it died. Run as a script; imports only what starts fast.

Its standard input is a pipe that the owner holds: each line is `PID START`, a process that leads its own group. The
pipe ends when the owner does, even by SIGKILL; what is registered then gets SIGTERM and, after a grace, SIGKILL. The
owner says `done` when it has ended them itself. Works where there is no PR_SET_PDEATHSIG, and does not depend on the
life of the thread that started a process.
"""

import contextlib
import os
import signal
import sys
import time

GRACE_S = 3.0
POLL_S = 0.02


def read_start(pid: int) -> str:
    """When a process started: with the pid that names a process for good; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs more than this script
            fields = file.read().rsplit(b")", 1)[1].split()
    except FileNotFoundError:
        return "" if os.path.isdir("/proc/self") else _ask_ps(pid)  # noqa: PTH112
    except (OSError, IndexError):
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def _ask_ps(pid: int) -> str:
    import subprocess

    found = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, start = found.stdout.strip().partition(" ")
    return "" if not state or state.startswith("Z") else "_".join(start.split())


def is_alive(pid: int, start: str) -> bool:
    """Whether this very process still runs, and not another one that got its number."""
    return bool(start) and read_start(pid) == start


def stop_groups(processes: list[tuple[int, str]], grace_s: float = GRACE_S) -> None:
    """SIGTERM to the groups that these processes lead, then SIGKILL to those that are left after `grace_s`."""
    alive = [(pid, start) for pid, start in processes if is_alive(pid, start)]
    for pid, _ in alive:
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    led = list(alive)
    while alive and time.monotonic() < deadline:
        time.sleep(POLL_S)
        alive = [(pid, start) for pid, start in alive if is_alive(pid, start)]
    # A leader may be gone and have left children: while one of them lives, the group's number is not given away.
    for pid, _ in led:
        _signal(pid, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def main() -> None:
    """Read until the pipe ends; then stop what was registered and not done."""
    processes: list[tuple[int, str]] = []
    for line in sys.stdin:
        if line.strip() == "done":
            processes.clear()
            continue
        pid, start = line.split()
        processes.append((int(pid), start))
    stop_groups(processes)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    main()
