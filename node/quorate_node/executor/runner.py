"""One task from spec to result, in this process: module and input out of the store, run, outputs back into it."""

from __future__ import annotations

import time
from collections.abc import Callable

from quorate.protocol.errors import Busy, ContentUnavailable, DataError
from quorate.protocol.result import EXIT_OVER_LIMIT, EXIT_REFUSED, TaskResult, TaskStatus, compute_task_id
from quorate.protocol.spec import JobSpec, compute_raw_cid
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate_node.executor.base import Executed, ExecutionTask, FailureReason, LocalFailure
from quorate_node.executor.cache import ModuleCache
from quorate_node.executor.content import collect_outputs, mount_input, read_bounded, store_outputs
from quorate_node.executor.wasi.descriptors import Stream
from quorate_node.executor.wasi.host import Host, Preopen, RandomStream
from quorate_node.executor.wasi.tree import Directory, OverLimit, Usage
from quorate_node.executor.wasm import Ending, Runtime

PROGRAM_NAME = b"main.wasm"


class TaskRunner:
    """Runs tasks one after the other. The runtime's `tick` must be called from elsewhere."""

    def __init__(self, store: BlobStore, cache: ModuleCache, runtime: Runtime) -> None:
        self._store, self._cache, self._runtime = store, cache, runtime

    def run(self, task: ExecutionTask, timeout_s: float) -> Executed | LocalFailure:
        """Run a task for at most `timeout_s` seconds, compilation and storing aside."""
        started = time.perf_counter()
        try:
            return self._run(task, timeout_s, started)
        except (ContentUnavailable, DataError, Busy) as error:
            return LocalFailure(FailureReason.DATA_UNAVAILABLE, str(error))
        except MemoryError:
            return LocalFailure(FailureReason.HOST_MEMORY, "this host ran out of memory around the run")

    def _run(self, task: ExecutionTask, timeout_s: float, started: float) -> Executed | LocalFailure:
        spec, limits, digest = task.spec, task.spec.limits, task.spec.digest
        cid = Cid.parse(spec.module)
        program = self._cache.get(
            spec.module, lambda: read_bounded(self._store, cid, limits.module_bytes), limits.module_bytes
        )
        if program.module is None:
            ending = Ending(TaskStatus.FAILED, EXIT_REFUSED, 0, program.refusal)
            return self._finish(task, digest, ending, b"", {}, started)
        host: Host | None = None

        def make_host(spend: Callable[[int], None]) -> Host:
            nonlocal host
            host = build_host(spec, compute_task_id(digest, task.task_index), self._store, spend)
            return host

        outcome = self._runtime.run(program.module, limits, make_host, timeout_s=timeout_s)
        if isinstance(outcome, LocalFailure):
            return outcome
        assert host is not None
        outcome, files = _judge_outputs(outcome, host)
        executed = self._finish(task, digest, outcome, bytes(host.stdout.data), files, started)
        return Executed(executed.result, executed.fuel_used, executed.seconds, bytes(host.stderr.data), executed.detail)

    def _finish(
        self,
        task: ExecutionTask,
        digest: bytes,
        ending: Ending,
        stdout: bytes,
        files: dict[str, bytes | None],
        started: float,
    ) -> Executed:
        """Store what the task left and describe it; the result itself becomes a block, too."""
        result = TaskResult(
            spec=compute_raw_cid(digest),
            task_index=task.task_index,
            status=ending.status,
            exit_code=ending.exit_code,
            stdout_cid=str(self._store.add_bytes(stdout)),
            outputs_cid=store_outputs(self._store, files),
        )
        self._store.put_raw(result.to_bytes())
        return Executed(result, ending.fuel_used, time.perf_counter() - started, detail=ending.detail)


def build_host(spec: JobSpec, task_id: bytes, store: BlobStore, spend: Callable[[int], None]) -> Host:
    """The profile's world for a task: /inputs, empty /outputs and /tmp, in this order from descriptor 3 on."""
    limits = spec.limits
    # The three directories are there before the program and not part of its allowance.
    usage = Usage(limits.output_bytes, limits.output_files + 2)
    return Host(
        args=[PROGRAM_NAME, *(arg.encode() for arg in spec.args)],
        env=environment(spec),
        preopens=[
            Preopen(b"/inputs", mount_input(store, spec, usage)),
            Preopen(b"/outputs", Directory(usage)),
            Preopen(b"/tmp", Directory(usage)),
        ],
        usage=usage,
        random=RandomStream(task_id),
        stdout=Stream(limits.stdout_bytes, is_strict=True),
        max_open=limits.open_files,
        spend=spend,
    )


def environment(spec: JobSpec) -> list[bytes]:
    """`NAME=value` in bytewise order of names."""
    return [name + b"=" + value for name, value in sorted((n.encode(), v.encode()) for n, v in spec.env.items())]


def _judge_outputs(ending: Ending, host: Host) -> tuple[Ending, dict[str, bytes | None]]:
    """The outputs of a program that ended by itself; over a limit they turn its ending into a failure."""
    if ending.exit_code < 0:
        return ending, {}
    try:
        return ending, collect_outputs(host.preopens[1].directory, host.usage)
    except OverLimit as error:
        return Ending(TaskStatus.FAILED, EXIT_OVER_LIMIT, ending.fuel_used, str(error)), {}
