"""One task from spec to result, in this process: module and input out of the store, run, outputs back into it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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


@dataclass(frozen=True, slots=True)
class Echo:
    """Who is told of each chunk that a program writes to standard output and error, at once."""

    stdout: Callable[[memoryview], object]
    stderr: Callable[[memoryview], object]


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

    def run(self, task: ExecutionTask, timeout_s: float) -> Executed | LocalFailure:
        """Run a task for at most `timeout_s` seconds, compilation and storing aside."""
        started = time.perf_counter()
        try:
            return self._run(task, timeout_s, started)
        except (ContentUnavailable, DataError, Busy) as error:
            return LocalFailure(FailureReason.DATA_UNAVAILABLE, str(error))
        except _NotStored as error:
            return LocalFailure(FailureReason.HOST_DISK, f"this host cannot keep the result: {error}")
        except MemoryError:
            return LocalFailure(FailureReason.HOST_MEMORY, "this host ran out of memory around the run")

    def _run(self, task: ExecutionTask, timeout_s: float, started: float) -> Executed | LocalFailure:
        spec, limits, digest = task.spec, task.spec.limits, task.spec.digest
        cid = Cid.parse(spec.module)
        engine = self._runtime.engine_for(limits)
        program = self._cache.get(
            spec.module, lambda: read_bounded(self._store, cid, limits.module_bytes), limits, engine
        )
        if program.module is None:
            ending = Ending(TaskStatus.FAILED, EXIT_REFUSED, 0, program.refusal)
            return self._finish(task, digest, ending, (b"", b""), None, started)
        mounted = self._world.mount(spec, self._store)
        host: Host | None = None

        def make_host(spend: Callable[[int], None]) -> Host:
            nonlocal host
            host = build_host(spec, compute_task_id(digest, task.task_index), mounted, spend, self._echo)
            return host

        outcome = self._runtime.run(program.module, limits, make_host, timeout_s=timeout_s)
        if isinstance(outcome, LocalFailure):
            return outcome
        assert host is not None
        streams = bytes(host.stdout.data), bytes(host.stderr.data)
        return self._finish(task, digest, outcome, streams, mounted, started)

    def _finish(
        self,
        task: ExecutionTask,
        digest: bytes,
        ending: Ending,
        streams: tuple[bytes, bytes],
        mounted: Mounted | None,
        started: float,
    ) -> Executed:
        """Store what the task left and describe it; the result itself becomes a block, too.

        It becomes durable when the caller syncs the store: to wait for the disk would cost more than a small task does.
        """
        stdout, stderr = streams
        with _storing(), self._store.adding(is_durable=False) as additions:
            ending, outputs = self._keep_outputs(ending, mounted, additions)
            result = TaskResult(
                spec=compute_raw_cid(digest),
                task_index=task.task_index,
                status=ending.status,
                exit_code=ending.exit_code,
                stdout_cid=str(additions.add_bytes(stdout)),
                outputs_cid=outputs or store_outputs(additions, {}),
            )
            additions.put_raw(result.to_bytes())  # the node keeps and holds it with all others of its bundle
            additions.hold((Cid.parse(result.stdout_cid), Cid.parse(result.outputs_cid)))
        return Executed(result, ending.fuel_used, time.perf_counter() - started, stderr, ending.detail)

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
