"""The pool of worker processes: the node's executor of the WASM profile.

Workers are started afresh (never forked from this threaded process), kept, and given a task at a time, or several of
one job where these take so little that asking for each would take as long. One that dies or hangs takes down its own
task and is replaced.
"""

from __future__ import annotations

import asyncio
import resource
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Self

from quorate.protocol.errors import Busy, ConfigurationError, DataError
from quorate_node.executor.base import (
    COMPILE_WALL_FACTOR,
    Executed,
    ExecutionTask,
    FailureReason,
    LocalFailure,
    WorkerCrashed,
)
from quorate_node.executor.cache import load_secret
from quorate_node.executor.messages import decode_outcome, encode_tasks
from quorate_node.executor.worker_process import MAX_COMPILE_SECONDS, Worker, WorkerConfig, judge_death

GRACE_SECONDS = 10.0  # past the time-out, for storing outputs; then the worker is killed
BATCH_SECONDS = 0.1  # what tasks that are asked for together should take
MAX_BATCH = 32
MAX_PACES = 64
_Outcome = Executed | LocalFailure


@dataclass(slots=True, eq=False)
class _Request:
    """A task that somebody waits for. One that was together with others when their worker died goes on alone."""

    task: ExecutionTask
    timeout_s: float
    outcome: asyncio.Future[_Outcome]
    is_alone: bool = False

    def settle(self, outcome: _Outcome | BaseException) -> None:
        """Tell who waits, if somebody still does."""
        if self.outcome.done():
            return
        if isinstance(outcome, BaseException):
            self.outcome.set_exception(outcome)
        else:
            self.outcome.set_result(outcome)

    def may_follow(self, first: _Request) -> bool:
        """Whether both may be asked for together."""
        is_like = self.task.spec is first.task.spec and self.timeout_s == first.timeout_s
        return is_like and not self.is_alone and not first.is_alone


class Paces:
    """What a task of each job takes, as far as some have run here; of the jobs used last."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[bytes, float] = OrderedDict()

    def note(self, job: bytes, outcomes: Sequence[Executed | LocalFailure]) -> None:
        """Some more tasks of the job have run."""
        seconds = [outcome.seconds for outcome in outcomes if isinstance(outcome, Executed)]
        if not seconds:
            return
        mean = sum(seconds) / len(seconds)
        self._seconds[job] = min(mean, (self._seconds.get(job, mean) + mean) / 2)  # the first compiled the module
        self._seconds.move_to_end(job)
        while len(self._seconds) > MAX_PACES:
            self._seconds.popitem(last=False)

    def count_together(self, job: bytes, waiting: int, workers: int) -> int:
        """How many of `waiting` tasks a worker should be given at once: no more than its share of them."""
        seconds = self._seconds.get(job)
        if seconds is None:
            return 1
        few = int(BATCH_SECONDS / max(seconds, BATCH_SECONDS / MAX_BATCH))
        return max(1, min(few, ceil(waiting / workers)))


def find_host_fault() -> str | None:
    """Why memory that a job's limits allow may be refused on this host alone: that would be a wrong vote."""
    most, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if most != resource.RLIM_INFINITY:
        return f"ulimit -d allows {most} bytes of data, so that jobs could end otherwise here: set it to unlimited"
    try:
        is_strict = Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2"
    except OSError:  # another system
        return None
    return "vm.overcommit_memory is 2, so that jobs could end otherwise here: set it to 0 or 1" if is_strict else None


class WorkerPool:
    """An `Executor` over `count` worker processes. Use as an async context manager.

    `secret` authenticates cached machine code; by default it is kept beside the cache, which guards against a spoilt
    file. Pass one from the node's own keystore to guard against whoever may write to the cache, too.
    """

    def __init__(
        self,
        count: int,
        store_dir: Path,
        cache_dir: Path,
        *,
        secret: bytes | None = None,
        compile_s: float = MAX_COMPILE_SECONDS,
    ) -> None:
        secret = load_secret(cache_dir / "secret") if secret is None else secret
        self._config = WorkerConfig(store_dir, cache_dir, secret, compile_s)
        self._count = count
        self._requests: deque[_Request] = deque()
        self._arrived = asyncio.Event()
        self._paces = Paces()
        self._busy: set[Worker] = set()
        self._serving: list[asyncio.Task[None]] = []
        self._is_closed = False
        self.restarts = 0

    async def start(self) -> None:
        """Start the workers; WorkerCrashed if one cannot be, ConfigurationError where results could differ here."""
        if (fault := find_host_fault()) is not None:
            raise ConfigurationError(fault)
        starting = [self._launch() for _ in range(self._count)]
        self._serving = [asyncio.create_task(self._serve(each)) for each in starting]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            await self.close()
            raise

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def execute(self, task: ExecutionTask, *, timeout_s: float) -> Executed | LocalFailure:
        """Run a task on the next free worker.

        Raises WorkerCrashed if workers cannot be started any more, Busy once the pool is closing.
        """
        if self._is_closed:
            raise _closing()
        request = _Request(task, timeout_s, asyncio.get_running_loop().create_future())
        self._requests.append(request)
        self._arrived.set()
        return await request.outcome

    def _launch(self) -> asyncio.Task[Worker]:
        return asyncio.create_task(Worker.start(self._config))

    async def _serve(self, starting: asyncio.Task[Worker]) -> None:
        """Let one worker after the other take what waits, until the pool is closed."""
        while True:
            try:
                worker = await starting
            except WorkerCrashed as error:
                for request in await self._take():
                    request.settle(error)
            else:
                while worker.is_fit and (requests := await self._take()):
                    await self._run(worker, requests)
                await worker.close()
            if self._is_closed:
                return
            self.restarts += 1
            starting = self._launch()

    async def _take(self) -> list[_Request]:
        """The request that has waited longest, with others like it where tasks are small; none once all is closed."""
        while not self._is_closed:
            while self._requests and self._requests[0].outcome.done():
                self._requests.popleft()  # nobody waits for it any more
            if self._requests:
                break
            self._arrived.clear()
            await self._arrived.wait()
        else:
            return []
        first = self._requests.popleft()
        taken = [first]
        most = self._paces.count_together(first.task.spec.digest, len(self._requests) + 1, self._count)
        while len(taken) < most and self._requests and self._requests[0].may_follow(first):
            taken.append(self._requests.popleft())
        return taken

    async def _run(self, worker: Worker, requests: list[_Request]) -> None:
        asking = asyncio.create_task(self._ask(worker, requests))

        def look(_: object) -> None:
            if all(request.outcome.cancelled() for request in requests):
                asking.cancel()  # the worker is in the middle of what nobody wants any more

        for request in requests:
            request.outcome.add_done_callback(look)
        self._busy.add(worker)
        try:
            await asyncio.wait([asking])
        finally:
            self._busy.discard(worker)
            if asking.cancel() or asking.cancelled():
                await worker.kill()
        if asking.cancelled():
            return
        if (error := asking.exception()) is not None:
            await worker.kill()
            outcomes: Sequence[_Outcome | BaseException] = [error] * len(requests)
        else:
            outcomes = asking.result()
        for request, outcome in zip(requests, outcomes, strict=False):  # fewer where some wait again
            request.settle(outcome)

    async def _ask(self, worker: Worker, requests: list[_Request]) -> list[_Outcome]:
        """Outcomes for the requests; none where they wait again, because the worker died of one of several."""
        first = requests[0]
        compile_s = min(first.task.spec.limits.compile_seconds, self._config.compile_s)
        limit = len(requests) * first.timeout_s + compile_s * COMPILE_WALL_FACTOR + GRACE_SECONDS
        try:
            async with asyncio.timeout(limit):
                message = encode_tasks([request.task for request in requests], first.timeout_s)
                outcomes = list(map(decode_outcome, await worker.ask_for(len(requests), message)))
        except (OSError, EOFError, DataError) as error:
            status = await (worker.reap() if isinstance(error, EOFError) else worker.kill())
            if len(requests) > 1:
                self._part(requests)
                return []
            return [_judge(error, status, limit, compile_s)]
        if any(isinstance(each, LocalFailure) and each.reason is FailureReason.INTERNAL for each in outcomes):
            await worker.kill()
        self._paces.note(first.task.spec.digest, outcomes)
        return outcomes

    def _part(self, requests: list[_Request]) -> None:
        """Let each wait again, to be run by itself: only so is it seen which of them it was."""
        for request in reversed(requests):
            request.is_alone = True
            if self._is_closed:
                request.settle(_closing())
            else:
                self._requests.appendleft(request)
        self._arrived.set()

    async def close(self) -> None:
        """End all workers; tasks that still run fail."""
        self._is_closed = True
        for request in self._requests:
            request.settle(_closing())
        self._arrived.set()
        for worker in list(self._busy):
            await worker.kill()
        await asyncio.gather(*self._serving)


def _closing() -> Busy:
    return Busy("the executor is closing; run the task after the node has started again")


def _judge(error: Exception, status: int, limit: float, compile_s: float) -> LocalFailure:
    """Why a task has no result whose worker did not answer as it should."""
    if isinstance(error, TimeoutError):
        return LocalFailure(FailureReason.TIMEOUT, f"the worker did not answer in {limit:.0f} s and was killed")
    if isinstance(error, DataError):
        return LocalFailure(FailureReason.WORKER_DIED, str(error))
    return judge_death(status, compile_s)
