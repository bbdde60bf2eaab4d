"""Kubo, a daemon of IPFS: the work behind `scripts/setup --kubo`. Standard library only.

One on PATH is taken if it is new enough; else Go builds it, from modules whose hashes stand in scripts/lock/kubo. Go
keeps what it fetched in its own caches, so a build that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import steps

OLDEST = (0, 40)
PACKAGE = "github.com/ipfs/kubo/cmd/ipfs"
LOCK = steps.LOCK / "kubo"
BINARY = steps.TOOLS / "kubo" / "ipfs"
LINK = steps.TOOLS / "bin" / "ipfs"
# Neither a workspace around this folder nor a C compiler decides what is built.
BUILD = ("env", "GOWORK=off", "CGO_ENABLED=0")


def install_kubo(say: Callable[[str], None]) -> bool:
    """Put an `ipfs` into .tools/bin; says why not, which is no failure: only the tests of that store need it."""
    step = make_step(say)
    if step.is_done():
        return True
    with steps.exclusive():
        if step.is_done():
            return True
        try:
            step.run()
        except steps.SetupError as error:
            why = str(error).replace("\n", " ")
            say(f"SKIPPED Kubo: {why} The tests of content in Kubo are skipped without it, all else works.")
            return False
        step.write_stamp()
    return True


def make_step(say: Callable[[str], None]) -> steps.Step:
    inputs = tuple((LOCK / name).read_bytes() for name in ("go.mod", "go.sum"))
    stamps = steps.TOOLS / "stamps"
    return steps.Step(
        "kubo", "Kubo", stamps, (*inputs, steps.get_platform().encode()), (LINK,), lambda: find_or_build(say)
    )


def find_or_build(say: Callable[[str], None]) -> None:
    found = shutil.which("ipfs", path=get_path())
    if found is not None and (version := read_version(Path(found))) is not None and version >= OLDEST:
        say(f"Kubo {'.'.join(map(str, version))} is on PATH: using {found}")
        steps.link(LINK, Path(found).absolute())
        return
    oldest = ".".join(map(str, OLDEST))
    go = shutil.which("go")
    if go is None:
        raise steps.SetupError(
            f"there is no ipfs {oldest} or newer on PATH, and no Go to build one with.\n"
            "Install either (https://docs.ipfs.tech/install, https://go.dev/dl), then run scripts/setup --kubo again."
        )
    say(f"Kubo {read_wanted()}, built by {go}: a few minutes, once")
    build(go, say)
    if read_version(BINARY) is None:
        raise steps.SetupError(f"what Go built does not run here.\nInstall Kubo {oldest} or newer and put it on PATH.")
    steps.link(LINK, BINARY)


def build(go: str, say: Callable[[str], None]) -> None:
    BINARY.parent.mkdir(parents=True, exist_ok=True)
    partial = BINARY.with_suffix(".partial")
    fetched = compiled = 0

    def show(line: str) -> None:
        nonlocal fetched, compiled
        if line.startswith("go: downloading "):
            fetched += 1
            if fetched % 50 == 0:
                say(f"  {fetched} modules fetched")
        elif "/" in line and " " not in line:  # with -v: the name of a package that is compiled
            compiled += 1
            if compiled % 200 == 0:
                say(f"  {compiled} packages compiled")

    flags = ["-mod=readonly", "-buildvcs=false", "-trimpath", "-v"]
    steps.run([*BUILD, go, "build", "-C", str(LOCK), *flags, "-o", str(partial), PACKAGE], show)
    partial.replace(BINARY)


def get_path() -> str:
    """PATH without the folder that we fill ourselves."""
    own = (steps.TOOLS / "bin").resolve()
    return os.pathsep.join(part for part in os.get_exec_path() if Path(part).resolve() != own)


def read_version(binary: Path) -> tuple[int, ...] | None:
    """Like (0, 43, 0); None when this is no ipfs that runs."""
    try:
        shown = subprocess.run(
            [binary, "version", "--number"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", shown)
    return tuple(map(int, numbers.groups())) if numbers else None


def read_wanted() -> str:
    found = re.search(r"github\.com/ipfs/kubo v(\S+)", (LOCK / "go.mod").read_text())
    assert found is not None
    return found[1]
