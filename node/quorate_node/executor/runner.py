"""One task from spec to result, in this process: module and input out of the store, run, outputs back into it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from quorate.protocol.errors import Busy, ContentUnavailable, DataError, UnrecoverableError
from quorate.protocol.result import EXIT_OVER_LIMIT, EXIT_REFUSED, TaskResult, TaskStatus, compute_task_id
from quorate.protocol.spec import JobSpec, compute_raw_cid
from quorate.storage.base import Additions, BlobStore
from quorate.storage.cid import Cid
from quorate_node.executor.base import Executed, ExecutionTask, FailureReason, LocalFailure
from quorate_node.executor.cache import ModuleCache
from quorate_node.executor.content import read_bounded, store_outputs
from quorate_node.executor.wasi.descriptors import Stream
from quorate_node.executor.wasi.host import Host, RandomStream
from quorate_node.executor.wasi.tree import OverLimit
from quorate_node.executor.wasm import Ending, Runtime
from quorate_node.executor.world import JobWorld, Mounted, World

PROGRAM_NAME = b"main.wasm"
JOB_WORLD = JobWorld()
# What tasks that run one after the other leave is stored when this much time has passed, or this much waits in memory.
STORE_SECONDS = 0.25
STORE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Echo:
    """Who is told at once of each chunk that a program writes to stdout and stderr; a chunk lasts for the call only."""

    stdout: Callable[[memoryview], object]
    stderr: Callable[[memoryview], object]


@dataclass(frozen=True, slots=True)
class _Ended:
    """A task that has run, the bytes of its stdout and stderr, and the files that it leaves until they are kept."""

    task: ExecutionTask
    digest: bytes
    ending: Ending
    streams: tuple[bytes, bytes]
    mounted: Mounted | None
    seconds: float

    @property
    def weight(self) -> int:
        """Bytes that it holds in memory."""
        return sum(map(len, self.streams)) + (self.mounted.usage.bytes if self.mounted is not None else 0)


class _NotStored(Exception):
    """The store refused what was to be kept."""


@contextmanager
def _storing() -> Iterator[None]:
    """Tell what goes wrong in writing from what is wrong with data that was read: the disk is full, or broken."""
    try:
        yield
    except (Busy, DataError, UnrecoverableError, OSError) as error:
        raise _NotStored(str(error)) from error


class TaskRunner:
    """Runs tasks one after the other. The runtime's `tick` must be called from elsewhere."""

    def __init__(
        self,
        store: BlobStore,
        cache: ModuleCache,
        runtime: Runtime,
        *,
        world: World = JOB_WORLD,
        echo: Echo | None = None,
    ) -> None:
        self._store, self._cache, self._runtime = store, cache, runtime
        self._world, self._echo = world, echo
        self._last: tuple[JobSpec, bytes] | None = None

    def run(self, task: ExecutionTask, timeout_s: float) -> Executed | LocalFailure:
        """Run a task for at most `timeout_s` seconds, compilation and storing aside."""
        [outcome] = self.run_all([task], timeout_s)
        return outcome

    def run_all(self, tasks: Sequence[ExecutionTask], timeout_s: float) -> list[Executed | LocalFailure]:
        """Run tasks one after the other, each for at most `timeout_s` seconds; an outcome for each, in order.

        What they leave is stored together: to write to the store's index costs a part of what a small task does.
        """
        outcomes: list[Executed | LocalFailure] = []
        waiting: list[_Ended] = []
        began = time.perf_counter()
        for task in tasks:
            ended = self._try(task, timeout_s)
            if isinstance(ended, _Ended):
                waiting.append(ended)
            is_late = time.perf_counter() - began > STORE_SECONDS
            if isinstance(ended, LocalFailure) or is_late or sum(each.weight for each in waiting) > STORE_BYTES:
                outcomes += self._keep(waiting)
                waiting, began = [], time.perf_counter()
            if isinstance(ended, LocalFailure):
                outcomes.append(ended)
        return [*outcomes, *self._keep(waiting)]

    def _try(self, task: ExecutionTask, timeout_s: float) -> _Ended | LocalFailure:
        try:
            return self._run(task, timeout_s)
        except (ContentUnavailable, DataError, Busy) as error:
            return LocalFailure(FailureReason.DATA_UNAVAILABLE, str(error))
        except MemoryError:
            return LocalFailure(FailureReason.HOST_MEMORY, "this host ran out of memory around the run")

    def _run(self, task: ExecutionTask, timeout_s: float) -> _Ended | LocalFailure:
        spec, limits, digest = task.spec, task.spec.limits, self._digest_of(task.spec)
        cid, began = Cid.parse(spec.module), time.perf_counter()
        engine = self._runtime.engine_for(limits)
        program = self._cache.get(
            spec.module, lambda: read_bounded(self._store, cid, limits.module_bytes), limits, engine
        )
        if program.module is None:
            ending = Ending(TaskStatus.FAILED, EXIT_REFUSED, 0, program.refusal)
            return _Ended(task, digest, ending, (b"", b""), None, time.perf_counter() - began)
        mounted = self._world.mount(task.visible, self._store)
        host: Host | None = None

        def make_host(spend: Callable[[int], None]) -> Host:
            nonlocal host
            host = build_host(spec, compute_task_id(digest, task.task_index), mounted, spend, self._echo)
            return host

        outcome = self._runtime.run(program.module, limits, make_host, timeout_s=timeout_s, tables=program.tables)
        if isinstance(outcome, LocalFailure):
            return outcome
        assert host is not None
        streams = bytes(host.stdout.data), bytes(host.stderr.data)
        return _Ended(task, digest, outcome, streams, mounted, time.perf_counter() - began)

    def _digest_of(self, spec: JobSpec) -> bytes:
        """A spec's digest; hundreds of tasks share it, and to compute it takes as long as several host calls."""
        if self._last is None or self._last[0] is not spec:
            self._last = spec, spec.digest
        return self._last[1]

    def _keep(self, ended: Sequence[_Ended]) -> Sequence[Executed | LocalFailure]:
        """Store what tasks left and describe it; the results themselves become blocks, too.

        It becomes durable when the caller syncs the store: to wait for the disk would cost more than a small task does.
        """
        if not ended:
            return ()
        try:
            with _storing(), self._store.adding(is_durable=False) as additions:
                return [self._keep_one(each, additions) for each in ended]
        except _NotStored as error:  # of none of them is it known what is there
            failure = LocalFailure(FailureReason.HOST_DISK, f"this host cannot keep the result: {error}")
        except MemoryError:
            failure = LocalFailure(FailureReason.HOST_MEMORY, "this host ran out of memory around the run")
        return [failure] * len(ended)

    def _keep_one(self, ended: _Ended, additions: Additions) -> Executed:
        began = time.perf_counter()
        ending, outputs = self._keep_outputs(ended.ending, ended.mounted, additions)
        stdout, stderr = ended.streams
        result = TaskResult(
            spec=compute_raw_cid(ended.digest),
            task_index=ended.task.task_index,
            status=ending.status,
            exit_code=ending.exit_code,
            stdout_cid=str(additions.add_bytes(stdout)),
            outputs_cid=outputs or store_outputs(additions, {}),
        )
        additions.put_raw(result.to_bytes())  # the node keeps and holds it with all others of its bundle
        additions.hold((Cid.parse(result.stdout_cid), Cid.parse(result.outputs_cid)))
        seconds = ended.seconds + time.perf_counter() - began
        return Executed(result, ending.fuel_used, seconds, stderr, ending.detail)

    def _keep_outputs(self, ending: Ending, mounted: Mounted | None, additions: Additions) -> tuple[Ending, str | None]:
        """Outputs of a program that ended by itself; over a limit they turn its ending into a failure."""
        if ending.exit_code < 0 or mounted is None:
            return ending, None
        try:
            return ending, self._world.keep(mounted, additions)
        except OverLimit as error:
            return Ending(TaskStatus.FAILED, EXIT_OVER_LIMIT, ending.fuel_used, str(error)), None


def build_host(
    spec: JobSpec, task_id: bytes, mounted: Mounted, spend: Callable[[int], None], echo: Echo | None = None
) -> Host:
    """One task's side of the host calls."""
    limits = spec.limits
    return Host(
        args=[PROGRAM_NAME, *(arg.encode() for arg in spec.args)],
        env=environment(spec),
        preopens=mounted.preopens,
        usage=mounted.usage,
        random=RandomStream(task_id),
        stdout=Stream(limits.stdout_bytes, is_strict=True, echo=echo.stdout if echo else None),
        stderr=Stream(limits.stderr_bytes, is_strict=False, echo=echo.stderr if echo else None),
        max_open=limits.open_files,
        spend=spend,
    )


def environment(spec: JobSpec) -> list[bytes]:
    """`NAME=value` in bytewise order of names."""
    return [name + b"=" + value for name, value in sorted((n.encode(), v.encode()) for n, v in spec.env.items())]
