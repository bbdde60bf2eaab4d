"""The executor port: one task in, an agreed result or a local failure out.

The line between the two is the heart of the protocol (execution.md). An `Executed` is something that every honest host
reaches from the same spec, so it may be voted on, whatever its status. A `LocalFailure` may differ from host to host
and is never a vote: the seat abstains with its reason. `quorate.protocol.result` lists the agreed endings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

from quorate.protocol.container import AnySpec, ContainerSpec
from quorate.protocol.errors import DataError, UnrecoverableError
from quorate.protocol.result import TaskResult
from quorate.protocol.spec import GIB, JobSpec, Partition


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
    PROCESS_LIMIT = "PROCESS_LIMIT"  # of a container under a runtime with processes of its own, which count, too
    INPUT_REFUSED = "INPUT_REFUSED"  # written out it is more than its order says
    IMAGE_REFUSED = "IMAGE_REFUSED"  # the image is not what its spec says, or not one that is run
    CANNOT_START = "CANNOT_START"  # the container's program is not there or is for another machine
    NO_DAEMON = "NO_DAEMON"  # no container daemon answers
    DAEMON_LOST = "DAEMON_LOST"  # it died in mid-task, or stopped answering
    NOT_ALLOWED = "NOT_ALLOWED"  # this operator's settings do not take the task
    UNSUPPORTED = "UNSUPPORTED"  # this node has no executor for the spec's profile
    INTERNAL = "INTERNAL"  # a bug of ours; the detail says where


# Compiling is limited in processor time, of which a busy machine gives less in a second; this times the limit it may
# take in all.
COMPILE_WALL_FACTOR = 5


@dataclass(frozen=True, slots=True)
class ExecutionTask:
    """Task `task_index` of the job `spec`. `input` is the CID of the directory that it sees of a partitioned input, or
    of what an input that is a piece stands for."""

    spec: JobSpec
    task_index: int = 0
    input: str | None = None

    @property
    def visible(self) -> JobSpec:
        """The spec with the task's own input in place of the job's."""
        return _make_visible(self.spec, self.input)


@dataclass(frozen=True, slots=True)
class ContainerTask:
    """Task `task_index` of the container job `spec`; `input` as in `ExecutionTask`. Of it at most `max_input_bytes` are
    written out for the container."""

    spec: ContainerSpec
    task_index: int = 0
    input: str | None = None
    max_input_bytes: int = 4 * GIB

    @property
    def visible(self) -> ContainerSpec:
        """The spec with the task's own input in place of the job's."""
        return _make_visible(self.spec, self.input)


_SpecT = TypeVar("_SpecT", JobSpec, ContainerSpec)


def _make_visible(spec: _SpecT, own: str | None) -> _SpecT:
    if spec.partition.pattern is None and own is None:
        return spec
    if own is None:
        raise DataError("a task of a partitioned job was not told which files are its own")
    return replace(spec, input=own, partition=Partition())


AnyTask = ExecutionTask | ContainerTask
TaskT_contra = TypeVar("TaskT_contra", contravariant=True)


def make_task(spec: AnySpec, task_index: int, own: str | None, max_input_bytes: int) -> AnyTask:
    """The task of a spec of whatever profile; `own` is the directory that it sees of a partitioned input, of which the
    order grants so many bytes."""
    if isinstance(spec, ContainerSpec):
        return ContainerTask(spec, task_index, own, max_input_bytes)
    return ExecutionTask(spec, task_index, own)


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
