"""Debian's Docker for container jobs: the work behind `scripts/setup --docker`. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

NEEDED = {"dockerd": "docker.io", "docker-init": "tini"}
SEARCHED = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"))
APT_SECONDS = 600
IMPATIENT = ("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20")


def find_missing() -> list[str]:
    """Packages whose programs are not there."""
    return [package for program, package in NEEDED.items() if shutil.which(program, path=SEARCHED) is None]


def install_docker(say: Callable[[str], None]) -> bool:
    """Install what is missing, if this is root on a Debian; whether containers can be run here. Says why not."""
    missing = find_missing()
    if missing:
        why = install(missing, say)
        if why is None and (missing := find_missing()):
            why = f"{', '.join(missing)} did not bring its program"
        if why is not None:
            say(f"SKIPPED Docker ({', '.join(missing)}): {why}. Container jobs need it, all else does not.")
            return False
    if shutil.which("runsc") is None and install(["runsc"], say) is not None:
        say("without gVisor (the package runsc), which is optional")
    return True


def install(packages: list[str], say: Callable[[str], None]) -> str | None:
    """By apt-get; the reason where that is not possible."""
    if os.geteuid() != 0:
        return "only root may install packages (sudo apt-get install docker.io tini)"
    apt = shutil.which("apt-get", path=SEARCHED)
    if apt is None:
        return "there is no apt-get here: install Docker as your system does, with its docker-init"
    say(f"{' and '.join(packages)} by apt-get")
    command = [apt, *IMPATIENT, "install", "--yes", "--no-install-recommends", *packages]
    why = run(command)
    if why is not None and run([apt, *IMPATIENT, "update"]) is None:  # the lists may be old, or there were none
        why = run(command)
    return why


def run(command: list[str]) -> str | None:
    """The end of what a command said, where it failed."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=APT_SECONDS,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return f"apt-get: {error}"
    lines = (done.stderr or done.stdout).strip().splitlines()
    return None if done.returncode == 0 else f"apt-get: {lines[-1] if lines else f'exit code {done.returncode}'}"
