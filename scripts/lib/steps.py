"""Steps of a set-up, each done once: stamps, the log, and the one lock. Standard library only.

A step is done when its stamp holds the digest of what went into it; the stamp is written last and atomically, so a run
that was killed at any point is taken up again at the step it was in.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
TOOLS = ROOT / ".tools"
LOCK = ROOT / "scripts" / "lock"
PYTHON = VENV / "bin" / "python"
LOG = TOOLS / "setup.log"


class SetupError(Exception):
    """Something that the person at the keyboard has to act upon; the message says how."""


def say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Step:
    """One resumable piece of work.

    `inputs` are the bytes that decide the outcome, `results` the files that must exist for the stamp to count, and
    `covers` the names of smaller steps that are done as well when this one is.
    """

    name: str
    what: str
    stamps: Path
    inputs: tuple[bytes, ...]
    results: tuple[Path, ...]
    run: Callable[[], None]
    covers: tuple[Step, ...] = ()

    @property
    def stamp(self) -> Path:
        return self.stamps / self.name

    def compute_digest(self) -> str:
        digest = hashlib.sha256(str(ROOT).encode())  # neither folder survives being moved
        for part in self.inputs:
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()

    def is_done(self) -> bool:
        try:
            stamped = self.stamp.read_text()
        except OSError:
            return False
        return stamped == self.compute_digest() and all(path.exists() for path in self.results)

    def write_stamp(self) -> None:
        for step in (*self.covers, self):
            step.stamp.parent.mkdir(parents=True, exist_ok=True)
            partial = step.stamp.with_suffix(".partial")
            with partial.open("w") as file:
                file.write(step.compute_digest())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(step.stamp)


def run(command: Sequence[str], show: Callable[[str], None] = lambda line: None) -> None:
    """Run a command with its output in the log; `show` sees each line. A failure prints the end of the output."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.pop("PYTHONPATH", None)
    lines: list[str] = []
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        # The child inherits the set-up lock (close_fds=False): an orphan of a killed run keeps the next one waiting.
        process = subprocess.Popen(
            command,
            cwd=TOOLS,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            close_fds=False,
        )
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            lines.append(line)
            show(line)
        code = process.wait()
    if code:
        sys.stderr.writelines(f"  | {line}" for line in lines[-15:])
        raise SetupError(
            f"`{Path(command[0]).name} {' '.join(command[1:4])} …` ended with {code}.\n"
            f"All of its output is in {LOG.relative_to(ROOT)}. Without network, or with a broken download, "
            "run scripts/setup again later: it goes on where it stopped."
        )


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """One set-up of this folder at a time."""
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "setup.lock").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up of this folder is at work; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def get_platform() -> str:
    """This machine in the words of Foundry's packages, like `linux-amd64`."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(machine, machine) }"


def link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.partial")
    partial.unlink(missing_ok=True)
    inside = TOOLS in target.parents
    partial.symlink_to(os.path.relpath(target, place.parent) if inside else target)
    partial.replace(place)
