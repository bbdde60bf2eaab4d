"""The executor port: one task in, an agreed result or a local failure out.

The line between the two is the heart of the protocol (execution.md). An `Executed` is something that every honest host
reaches from the same spec, so it may be voted on, whatever its status. A `LocalFailure` may differ from host to host
and is never a vote: the seat abstains with its reason. `quorate.protocol.result` lists the agreed endings.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

from quorate.protocol.container import AnySpec, ContainerSpec
from quorate.protocol.errors import UnrecoverableError
from quorate.protocol.result import TaskResult
from quorate.protocol.spec import JobSpec


class FailureReason(StrEnum):
    """Why this host has nothing to vote for."""

    TIMEOUT = "TIMEOUT"  # the wall clock ran out before the fuel
    HOST_MEMORY = "HOST_MEMORY"  # this host could not give memory that the spec allows
    STACK_OVERFLOW = "STACK_OVERFLOW"  # depth differs from engine to engine
    HOST_DISK = "HOST_DISK"  # this host could not store what the task left
    DATA_UNAVAILABLE = "DATA_UNAVAILABLE"  # spec, module or input is not (all) in this node's store
    COMPILE_TIMEOUT = "COMPILE_TIMEOUT"  # it took more processor time than `compile_seconds`, here
    WORKER_DIED = "WORKER_DIED"  # killed, or crashed
    MEMORY_LIMIT = "MEMORY_LIMIT"  # a container needs more than its spec allows: where exactly differs between kernels
    IMAGE_REFUSED = "IMAGE_REFUSED"  # the image is not what its spec says, or not one that is run
    CANNOT_START = "CANNOT_START"  # the container's program is not there or is for another machine
    NO_DAEMON = "NO_DAEMON"  # no container daemon answers, or it died in mid-task
    NOT_ALLOWED = "NOT_ALLOWED"  # this operator's settings do not take the task
    UNSUPPORTED = "UNSUPPORTED"  # this node has no executor for the spec's profile
    INTERNAL = "INTERNAL"  # a bug of ours; the detail says where


# Compiling is limited in processor time, of which a busy machine gives less in a second; this times the limit it may
# take in all.
COMPILE_WALL_FACTOR = 5


@dataclass(frozen=True, slots=True)
class ExecutionTask:
    """Task `task_index` of the job `spec`."""

    spec: JobSpec
    task_index: int = 0


@dataclass(frozen=True, slots=True)
class ContainerTask:
    """Task `task_index` of the container job `spec`."""

    spec: ContainerSpec
    task_index: int = 0


AnyTask = ExecutionTask | ContainerTask
TaskT_contra = TypeVar("TaskT_contra", contravariant=True)


def make_task(spec: AnySpec, task_index: int) -> AnyTask:
    """The task of a spec of whatever profile."""
    return ContainerTask(spec, task_index) if isinstance(spec, ContainerSpec) else ExecutionTask(spec, task_index)


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """An operator's settings: the daemon's address, where tasks lie meanwhile (a folder of this node's alone), tasks at
    once, another OCI runtime, registries that may be pulled from."""

    host: str
    scratch: Path
    workers: int = 1
    runtime: str | None = None
    registries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Executed:
    """An agreed result. Only `result` is voted on; the rest is this host's observation.

    `fuel_used` is deterministic too (of a container it stands for seconds); `seconds` are wall time in the worker;
    `stderr` is at most `stderr_bytes`; `detail` says in words why a task did not end well.
    """

    result: TaskResult
    fuel_used: int
    seconds: float
    stderr: bytes = b""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LocalFailure:
    """No result on this host, and why."""

    reason: FailureReason
    detail: str


class Executor(Protocol[TaskT_contra]):
    """Runs tasks of one profile. Cancelling `execute` abandons the task."""

    async def execute(self, task: TaskT_contra, *, timeout_s: float) -> Executed | LocalFailure:
        """Run a task for at most `timeout_s` seconds of wall time, compilation aside."""

    async def close(self) -> None:
        """Abandon what runs, and let processes and connections go."""


class WorkerCrashed(UnrecoverableError):
    """Workers cannot be started at all: the installation is broken."""
