"""A Docker daemon for tests, and what they put on it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from quorate.images.build import ImageRecipe, build_image
from quorate.protocol.container import ContainerLimits, ContainerSpec, Image
from quorate.protocol.errors import ConfigurationError
from quorate.protocol.spec import MIB
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate_node.executor import dockerd
from quorate_node.executor.base import ContainerTask, DockerSettings, Executed, FailureReason, LocalFailure
from quorate_node.executor.docker_executor import DockerExecutor

PROGRAMS = Path(__file__).parent / "programs"
LIMITS = ContainerLimits(memory_bytes=16 * MIB, output_bytes=MIB, output_files=100, tmp_bytes=MIB, stdout_bytes=100_000)


def find_missing_right() -> str | None:
    """Why this process, root or not, cannot make containers at all; None where it can."""
    command = ["unshare", "--mount", "--pid", "--net", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"cannot tell whether root may make containers: {error}"
    return (made.stderr.strip() or f"unshare: exit code {made.returncode}") if made.returncode else None


WHY_NOT = dockerd.why_not() or find_missing_right()
needs_docker = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # the first C program of a machine builds its library
    pytest.mark.skipif(WHY_NOT is not None, reason=f"no containers here: {WHY_NOT}"),
]


class Daemon:
    """A private daemon, and its processes.

    Where this host lets none run, the test is skipped with what the daemon said; any other failure of it is one.
    """

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "quorate_node.executor.dockerd", str(folder)]
        with tempfile.TemporaryFile("w+") as said:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
            )  # fmt: skip
            assert self.process.stdout is not None
            address = self.process.stdout.readline()
            if not address and self.process.wait(60) == ConfigurationError.exit_code:
                said.seek(0)
                pytest.skip(f"no containers here: {' '.join(said.read().split())}")
        self.host, pid = address.split()
        self.pid = int(pid)

    def stop(self) -> None:
        """As when whoever started it ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0


def build_program(name: str, folder: Path) -> Path:
    """A C program of tests/integration/programs, linked statically."""
    target = f"{os.uname().machine}-linux-musl"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-O1", "-s", "-static"]
    subprocess.run([*command, str(PROGRAMS / f"{name}.c"), "-o", str(folder / name)], check=True)
    return folder / name


@dataclass(slots=True)
class Bench:
    """A daemon, a store with one image in it, and an executor over both."""

    daemon: Daemon
    folder: Path
    store: EmbeddedStore
    image: Image

    def make(self, name: str = "scratch", **changes: Any) -> DockerExecutor:
        settings = DockerSettings(self.daemon.host, self.folder / name)
        return DockerExecutor(replace(settings, **changes), self.store)

    def spec(self, *args: str, **fields: Any) -> ContainerSpec:
        return ContainerSpec(**({"image": self.image, "args": args, "limits": LIMITS} | fields))

    def run(self, *args: str, timeout_s: float = 60, executor: DockerExecutor | None = None, **fields: Any) -> Any:
        task = ContainerTask(self.spec(*args, **fields))
        return asyncio.run((executor or self.make()).execute(task, timeout_s=timeout_s))

    def read(self, outcome: Any) -> str:
        """Standard output of a task that ended."""
        assert isinstance(outcome, Executed), outcome
        return self.store.read(Cid.parse(outcome.result.stdout_cid)).decode()


@contextmanager
def bench_of(program: str, folder: Path) -> Iterator[Bench]:
    """A bench whose image is one program."""
    config = build_image(ImageRecipe(binary=build_program(program, folder)), folder / "image.tar")
    store = EmbeddedStore(folder / "store")
    image = Image(str(store.add_path(folder / "image.tar").to_v1()), config.id)
    daemon = Daemon(folder / "data")
    try:
        yield Bench(daemon, folder, store, image)
    finally:
        daemon.stop()
        store.close()


def expect(outcome: Any, reason: FailureReason, text: str) -> None:
    """That a task ended without a vote, and why."""
    assert isinstance(outcome, LocalFailure), outcome
    assert outcome.reason is reason, outcome
    assert text in outcome.detail
