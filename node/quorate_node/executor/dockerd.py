"""A Docker daemon of our own, apart from the host's: `python -m quorate_node.executor.dockerd FOLDER`.

It prints its address when it answers and lives until its standard input ends, so it goes with whoever started it,
however that ends. It has no network and no part in the host's firewall. Needs root, and Debian's docker.io and tini.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from quorate.protocol.errors import ConfigurationError, QuorateError

NAME = "quorate-docker-"
USAGE = (
    "Usage: python -m quorate_node.executor.dockerd FOLDER: run a Docker daemon of one's own over FOLDER, print its "
    "address and its process id, and end it when standard input ends. Needs root."
)
START_S = 30.0
STOP_S = 10.0
RUNSC_ARGUMENTS = ("--network=none", "--platform=ptrace")
CGROUPS = Path("/sys/fs/cgroup")
SEARCHED = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"))


def why_not() -> str | None:
    """Why no daemon can be started here, or None."""
    for program, package in (("dockerd", "docker.io"), ("docker-init", "docker.io and tini")):
        if shutil.which(program, path=SEARCHED) is None:
            return f"{program} is not installed: `scripts/setup --docker` installs Debian's {package}"
    return None if os.geteuid() == 0 else "only root can start a Docker daemon"


def _command(data: Path, run: Path) -> list[str]:
    # Not the host's. Debian's gVisor takes no network to be one that it must set up, unless it is told.
    runsc = shutil.which("runsc", path=SEARCHED)
    runtimes = {"runsc": {"path": runsc, "runtimeArgs": list(RUNSC_ARGUMENTS)}} if runsc else {}
    (run / "config.json").write_text(json.dumps({"runtimes": runtimes}))
    return [
        str(shutil.which("dockerd", path=SEARCHED)), f"--config-file={run}/config.json", f"--data-root={data}",
        f"--exec-root={run}/exec", f"--pidfile={run}/pid", f"--host=unix://{run}/sock", "--bridge=none",
        f"--cgroup-parent=/{run.name}", "--iptables=false", "--ip6tables=false", "--shutdown-timeout=1",
        "--log-level=warn", "--exec-opt=native.cgroupdriver=cgroupfs",
    ]  # fmt: skip


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)


def _answers(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect(str(path))
        connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b"200 OK" in connection.recv(100)
    return False


def serve(data: Path) -> None:
    """Run a daemon until standard input ends. Raises ConfigurationError where that is not possible."""
    if (reason := why_not()) is not None:
        raise ConfigurationError(reason)
    _remove_cgroups([each for each in CGROUPS.glob(f"*/{NAME}*/") if not Path("/run", each.name).exists()], 0.0)
    run = Path(tempfile.mkdtemp(prefix=NAME, dir="/run"))  # addresses of sockets must be short
    daemon = None
    try:
        with (run / "log").open("wb") as log:
            daemon = subprocess.Popen(
                _command(data, run), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 (this process has one thread)
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while not _answers(run / "sock"):
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise ConfigurationError(f"dockerd did not start: {(run / 'log').read_text()[-600:]}")
            time.sleep(0.01)
        print(f"unix://{run}/sock", daemon.pid, flush=True)
        sys.stdin.buffer.read()
    finally:
        if daemon is not None:
            daemon.terminate()
            try:
                daemon.wait(STOP_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        _kill_rest(run, data)
        _unmount(run, data)
        shutil.rmtree(run, ignore_errors=True)


def _kill_rest(run: Path, data: Path) -> None:
    """What a daemon that was killed left: containers, by cgroups of their names, and what looked after them."""
    names = {run.name, *(path.name for path in (data / "containers").glob("*"))}
    folders = [Path(place) for place, _, _ in os.walk(CGROUPS) if Path(place).name in names]
    left: set[int] = set()
    for place in (Path(place) for folder in folders for place, _, _ in os.walk(folder)):
        with contextlib.suppress(OSError):
            left |= {int(pid) for pid in (place / "cgroup.procs").read_text().split()}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(process.name) != os.getpid() and f"{run}/".encode() in (process / "cmdline").read_bytes():
                left.add(int(process.name))
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _remove_cgroups(folders)


def _remove_cgroups(folders: list[Path], patience_s: float = STOP_S) -> None:
    """Those that are empty by now, or soon."""
    deadline, left = time.monotonic() + patience_s, folders
    while left:
        for folder in left:
            for each, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):
                    Path(each).rmdir()
        left = [folder for folder in left if folder.is_dir() and time.monotonic() < deadline]
        time.sleep(0.01 if left else 0)


def _unmount(*folders: Path) -> None:
    libc = ctypes.CDLL(None)
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        place = line.split()[1]
        if any(f"{place}/".startswith(f"{folder}/") for folder in folders):
            libc.umount2(place.encode(), 2)


def main() -> int:
    """Entry point."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us closes our input
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    words = sys.argv[1:]
    if words in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    try:
        if len(words) != 1 or words[0].startswith("-"):
            raise ConfigurationError(f"give one folder, for the daemon's images and containers. {USAGE}")
        serve(Path(words[0]).absolute())
    except QuorateError as error:
        print(f"dockerd: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
