"""One run of a container outside any job: `quorate-node docker exec`, by the code that runs tasks, without chain."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from quorate.protocol.container import ContainerLimits, ContainerSpec
from quorate.protocol.errors import ConfigurationError
from quorate.protocol.result import EXIT_OVER_LIMIT, TaskResult
from quorate.spec import prepare_container
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate_node.executor.base import ContainerTask, DockerSettings, Executed, FailureReason, LocalFailure
from quorate_node.executor.docker_client import DAEMON_ERRORS, DockerClient
from quorate_node.executor.docker_executor import DockerExecutor
from quorate_node.executor.folders import check_out, write_back
from quorate_node.executor.runner import Echo
from quorate_node.executor.trial import CODE_NO_RESULT, CODE_OVER_LIMIT, CODE_REFUSED, CODE_TIMEOUT

CODES = {
    FailureReason.TIMEOUT: CODE_TIMEOUT,
    FailureReason.IMAGE_REFUSED: CODE_REFUSED,
    FailureReason.CANNOT_START: CODE_REFUSED,
}
HINTS = {
    FailureReason.TIMEOUT: "--seconds N gives it more",
    FailureReason.MEMORY_LIMIT: "--memory MIB gives it more",
    FailureReason.NO_DAEMON: "start Docker, or name its socket in DOCKER_HOST; `quorate-node doctor` tells what works",
}
MAX_TRIALS = 64  # at once, of one user


@dataclass(frozen=True, slots=True)
class ContainerTrial:
    """What to run: `image` as `prepare_container` takes it, `source` as a job's input, /outputs written to `out`.

    `scratch` is a folder for such trials, of this user alone; what one that was killed left there, the next removes.
    """

    image: str
    settings: DockerSettings
    scratch: Path
    source: Path | None = None
    entrypoint: str | None = None
    args: Sequence[str] = ()
    env: Sequence[str] = ()
    limits: ContainerLimits = ContainerLimits()
    out: Path | None = None
    timeout_s: float = 600.0


@dataclass(frozen=True, slots=True)
class ContainerOutcome:
    """How it went. `code` is what a command line ends with; `result` is missing where a node would not vote either."""

    code: int
    status: str
    detail: str
    result: TaskResult | None = None
    seconds: float | None = None

    def to_dict(self) -> dict[str, object]:
        """For printing; `digest` is what nodes would agree on."""
        result = self.result
        return {
            "status": self.status,
            "exit_code": result and result.exit_code,
            "digest": result and f"0x{result.leaf.hex()}",
            "seconds": None if self.seconds is None else round(self.seconds, 6),
            "detail": self.detail,
            "spec": result and result.spec,
            "stdout": result and result.stdout_cid,
            "outputs": result and result.outputs_cid,
        }


def run_container_trial(trial: ContainerTrial, echo: Echo | None = None) -> ContainerOutcome:
    """Run a container as a node would, and write back what it left. Raises DataError, ConfigurationError, …

    The image is gone from the daemon afterwards, unless something else uses it.
    """
    if trial.source is not None and not trial.source.exists():
        raise ConfigurationError(f"{trial.source} does not exist: give a file or a folder to --input")
    if trial.out is not None:
        check_out(trial.out)
    with (
        tempfile.TemporaryDirectory(prefix="quorate-trial-") as name,
        closing(EmbeddedStore(Path(name))) as store,
        _take_place(trial.scratch) as place,
    ):
        source = str(trial.source) if trial.source else None
        prepared = prepare_container(
            store, trial.image, source, entrypoint=trial.entrypoint, args=trial.args, env=trial.env, limits=trial.limits
        )
        spec = prepared.spec
        assert isinstance(spec, ContainerSpec)
        registries = trial.settings.registries  # whoever types a name means it
        registries += (spec.image.reference.split("/", 1)[0],) if spec.image.reference else ()
        settings = replace(trial.settings, scratch=place, workers=1, registries=registries)
        executor = DockerExecutor(settings, store, partial(_connect_echoing, echo) if echo else DockerClient)
        task = ContainerTask(spec, max_input_bytes=sys.maxsize)  # it is the user's own
        try:
            outcome = asyncio.run(executor.execute(task, timeout_s=trial.timeout_s))
        finally:
            with contextlib.suppress(*DAEMON_ERRORS):
                executor.forget_images()
        if isinstance(outcome, Executed) and outcome.result.exit_code >= 0 and trial.out is not None:
            assert outcome.result.outputs_cid is not None
            write_back(store, Cid.parse(outcome.result.outputs_cid), trial.out)
    return _judge(outcome)


def _judge(outcome: Executed | LocalFailure) -> ContainerOutcome:
    if isinstance(outcome, LocalFailure):
        hint = HINTS.get(outcome.reason)
        detail = f"{outcome.detail}: {hint}" if hint else outcome.detail
        return ContainerOutcome(CODES.get(outcome.reason, CODE_NO_RESULT), outcome.reason.value, detail)
    result = outcome.result
    code = CODE_OVER_LIMIT if result.exit_code == EXIT_OVER_LIMIT else result.exit_code
    return ContainerOutcome(code, result.status.value, outcome.detail, result, outcome.seconds)


@contextlib.contextmanager
def _take_place(scratch: Path) -> Iterator[Path]:
    """A folder for one trial at a time. The next one there removes what a killed one left, its container too."""
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(MAX_TRIALS):
        descriptor = os.open(scratch / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            yield scratch / str(number)
        finally:
            os.close(descriptor)
        return
    raise ConfigurationError(f"{MAX_TRIALS} trials run in {scratch} already: wait for one to end")


def _connect_echoing(echo: Echo, **options: Any) -> DockerClient:
    """A client that also passes on at once what a container writes."""
    api = DockerClient(**options)
    attach = api.attach
    api.attach = lambda *words, **more: _Echoed(attach(*words, **more), echo)
    return api


class _Echoed:
    """A container's streams, with somebody who listens."""

    def __init__(self, stream: Any, echo: Echo) -> None:
        self._stream, self._echo = stream, echo

    def __iter__(self) -> Iterator[tuple[bytes | None, bytes | None]]:
        tellers: tuple[Callable[[memoryview], object], ...] = (self._echo.stdout, self._echo.stderr)
        for chunks in self._stream:
            for chunk, tell in zip(chunks, tellers, strict=True):
                if chunk:
                    tell(memoryview(chunk))
            yield chunks

    def close(self) -> None:
        """End it."""
        self._stream.close()
