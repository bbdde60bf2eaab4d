"""Install Quorate's tools into `.venv` and `.tools`; the work behind scripts/setup.

Runs before anything is installed, so it uses the standard library only. The work is a list of steps (steps.py), which
go on where a run was killed. pip alone can leave half a package behind that looks whole: while it works a marker lies
in the environment, and an environment found with the marker is built anew.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

from foundry import npm_step
from steps import LOCK, LOG, PYTHON, ROOT, VENV, SetupError, Step, exclusive, run, say

DIRTY = VENV / ".pip-at-work"
LACKS_DAEMON = 3  # exit code: the rest is set up, but a daemon or libp2p, asked for, cannot be had here


# ------------------------------------------------------------------------------------------------------------- steps


def plan_steps(*, dev: bool, p2p: bool) -> list[Step]:
    """Every step of the wanted set-up, in order."""

    def venv_step(name: str, what: str, run: Callable[[], None], *inputs: bytes, covers: tuple[Step, ...] = ()) -> Step:
        version = repr(sys.version_info[:2]).encode()  # the system's Python may have moved on beneath .venv
        return Step(name, what, VENV / ".stamps", (version, *inputs), (PYTHON,), run, covers)

    def lock(name: str) -> bytes:
        return (LOCK / name).read_bytes()

    environment = venv_step("environment", "a Python environment in .venv", create_environment, lock("build.txt"))
    user = venv_step("packages", "Python packages", lambda: install_lock("requirements.txt"), lock("requirements.txt"))
    packages = user
    if dev:
        packages = venv_step(
            "packages-dev",
            "Python packages, and those for development",
            lambda: install_lock("dev.txt"),
            lock("requirements.txt") + lock("dev.txt"),
            covers=(user,),
        )
    project = venv_step("project", "quorate itself, editable", install_project, (ROOT / "pyproject.toml").read_bytes())
    steps = [environment, packages, project, npm_step("anvil", ("anvil",))]
    if dev:
        steps.append(npm_step("solidity", ("forge",), needs_node=True))
    if p2p:
        steps.insert(2, venv_step("packages-p2p", "libp2p", lambda: install_lock("p2p.txt"), lock("p2p.txt")))
    return steps


# ------------------------------------------------------------------------------------------------------------ Python


def remove_environment() -> None:
    if VENV.is_symlink():  # another checkout's, which is not ours to empty
        VENV.unlink()
        return
    shutil.rmtree(VENV / ".stamps", ignore_errors=True)  # first: what is half removed must not look done
    if VENV.exists():
        shutil.rmtree(VENV)


def create_environment() -> None:
    remove_environment()
    named = shutil.which(os.environ.get("QUORATE_PYTHON", ""))
    # Not sys.executable: the running Python may be that of .venv.
    base = str(Path(named).absolute()) if named else getattr(sys, "_base_executable", sys.executable)
    try:
        run([base, "-m", "venv", str(VENV)])
    except SetupError as error:
        remove_environment()
        raise SetupError(
            f"{base} could not create an environment (its output is above).\n"
            "Where ensurepip is missing, install it (Debian, Ubuntu: apt install python3-venv), "
            "or name another Python with QUORATE_PYTHON."
        ) from error
    install_lock("build.txt")


def install_lock(name: str) -> None:
    """Install a lock file, every byte checked against its hashes."""
    lock = LOCK / name
    total = sum("==" in line for line in lock.read_text().splitlines())
    pip_install("--no-build-isolation", "--require-hashes", "--requirement", str(lock), total=total)


def install_project() -> None:
    pip_install("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    # Where Python is told to write no bytecode each process would compile all of it, for a quarter of a second.
    run([str(PYTHON), "-m", "compileall", "-q", *(str(ROOT / name) for name in ("client", "node"))])


def pip_install(*arguments: str, total: int = 0) -> None:
    DIRTY.touch()
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    seen = 0

    def show(line: str) -> None:
        nonlocal seen
        if line.startswith("Collecting "):
            seen += 1
            if seen % 20 == 0:
                say(f"  {seen} of at most {total} packages fetched")
        elif line.startswith("Installing collected packages") and seen >= 20:
            say(f"  {seen} packages fetched, unpacking them")

    run([*command, "install", "--progress-bar", "off", *arguments], show)
    DIRTY.unlink()


# ----------------------------------------------------------------------------------------------------------- running


def set_up(*, dev: bool, p2p: bool) -> None:
    # An environment whose packages are in doubt has lost its stamps with it: that is decided under the lock only.
    if not DIRTY.exists() and all(step.is_done() for step in plan_steps(dev=dev, p2p=p2p)):
        return
    started = time.monotonic()
    with exclusive():
        if DIRTY.exists():
            say("the last set-up was interrupted while it installed packages; building .venv anew")
            remove_environment()
        LOG.write_text("")
        todo = False
        for step in plan_steps(dev=dev, p2p=p2p):
            # An environment built anew is empty: the stamps of the steps behind it went with it.
            if step.is_done():
                continue
            todo = True
            say(step.what)
            step.run()
            step.write_stamp()
    if todo:
        say(f"done in {time.monotonic() - started:.0f} s")


def add_daemons(*, docker: bool, kubo: bool) -> bool:
    """Install the daemons that are asked for, beside all else; whether they are there."""
    complete = True
    if docker:
        import debian

        complete &= debian.install_docker(say)
    if kubo:
        import kubo as ipfs

        complete &= ipfs.install_kubo(say)
    return complete


def lacks_for_p2p() -> str | None:
    """What libp2p's dependencies, which are built here, would miss on this machine; None when nothing is."""
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        return "a C compiler (Debian, Ubuntu: apt install gcc)"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers (Debian, Ubuntu: apt install python3-dev)"
    command = [compiler, "-E", "-x", "c", "-"]
    found = subprocess.run(command, input=b"#include <gmp.h>\n", capture_output=True, timeout=60, check=False)
    return None if found.returncode == 0 else "GMP's headers (Debian, Ubuntu: apt install libgmp-dev)"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/setup", description="Install into .venv and .tools of this folder.")
    parser.add_argument("--dev", action="store_true", help="also what scripts/check and scripts/test need")
    parser.add_argument("--p2p", action="store_true", help="also libp2p, which is built on this machine")
    parser.add_argument("--docker", action="store_true", help="also Debian's Docker, for container jobs (root only)")
    parser.add_argument("--kubo", action="store_true", help="also a daemon of IPFS, which Go builds if PATH has none")
    parser.add_argument("--relock", action="store_true", help="resolve the lock files anew instead of installing")
    parser.add_argument("--upgrade", action="store_true", help="with --relock: to the newest versions")
    arguments = parser.parse_args()
    try:
        if arguments.relock:
            import relock

            relock.relock(upgrade=arguments.upgrade)
        else:
            lacking = lacks_for_p2p() if arguments.p2p else None
            set_up(dev=arguments.dev, p2p=arguments.p2p and lacking is None)
            if lacking is not None:
                say(f"libp2p is not installed, for it wants {lacking}.\n       Everything else works, over HTTP.")
            if not add_daemons(docker=arguments.docker, kubo=arguments.kubo) or lacking is not None:
                return LACKS_DAEMON
    except SetupError as error:
        say(str(error).replace("\n", "\n       "))
        return 1
    except KeyboardInterrupt:
        say("interrupted; run it again and it goes on where it stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
