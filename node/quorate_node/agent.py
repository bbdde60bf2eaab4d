"""The node's only loop: it feeds stimuli to the core and has its instructions performed.

A bad event never ends it: what can be tried again is (the core asks again), a broken event is logged and passed over.
An UnrecoverableError stops the process: to go on would risk stake.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from quorate.protocol.errors import ChainUnavailable, QuorateError, UnrecoverableError
from quorate_node.core.core import Core
from quorate_node.core.instructions import Execute, Instruction, JournalCommit
from quorate_node.core.stimuli import ChainReorganised, GroupJournaled, Stimulus, Tick
from quorate_node.logs import get_logger
from quorate_node.performer import Performer
from quorate_node.watcher import ChainWatcher

POLL_S = 0.1
IDLE_POLL_S = 0.2
LEAST_TICK_S = 0.04
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
MAX_TASKS = 512


class Agent:
    """Runs one core until `stop` or an UnrecoverableError."""

    def __init__(self, core: Core, watcher: ChainWatcher, on_chain: Callable[[], None]) -> None:
        self.core, self._watcher, self._on_chain = core, watcher, on_chain
        self.performer: Performer | None = None
        self._log = get_logger()
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._failure: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_synced = False

    def feed(self, stimulus: Stimulus) -> None:
        """Give a fact to the core; decisions follow within a few milliseconds."""
        try:
            self.core.handle(stimulus)
        except UnrecoverableError as error:
            self._fail(error)
        except Exception as error:  # a bad event must not end the node
            self._log.error("stimulus failed", stimulus=type(stimulus).__name__, error=repr(error), exc_info=True)
        self._wake.set()

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()
        self._wake.set()

    async def run(self) -> None:
        """Until stopped. Raises the UnrecoverableError that stopped it."""
        poller = asyncio.create_task(self._poll_for_ever())
        try:
            while not self._stopped.is_set():
                self._wake.clear()
                self._decide()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._wake.wait()
                await asyncio.sleep(LEAST_TICK_S)
        finally:
            poller.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(poller, *self._tasks, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    def _decide(self) -> None:
        if not self.is_synced:
            return
        try:
            instructions = self.core.handle(Tick(asyncio.get_running_loop().time()))
        except UnrecoverableError as error:
            self._fail(error)
            return
        except Exception as error:  # as above
            self._log.error("decision failed", error=repr(error), exc_info=True)
            return
        for instruction in instructions:
            self._start(instruction)

    def _start(self, instruction: Instruction) -> None:
        # Work and the journal are never dropped; what the core repeats by itself may be.
        if len(self._tasks) >= MAX_TASKS and not isinstance(instruction, Execute | JournalCommit):
            key = getattr(instruction, "key", None)
            self.core.state.under_way.discard(key)
            return
        task = asyncio.create_task(self._perform(instruction))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _perform(self, instruction: Instruction) -> None:
        assert self.performer is not None
        try:
            await self.performer.perform(instruction)
        except UnrecoverableError as error:
            self._fail(error)
        except Exception as error:  # a bug in one instruction must not end the others
            name = type(instruction).__name__
            self._log.error("instruction failed", instruction=name, error=repr(error), exc_info=True)

    def _fail(self, error: BaseException) -> None:
        self._log.critical("stopping", error=str(error))
        self._failure = self._failure or error
        self.stop()

    async def _poll_for_ever(self) -> None:
        failures = 0
        while True:
            try:
                await self._poll()
                failures = 0
            except UnrecoverableError as error:
                self._fail(error)
                return
            except QuorateError as error:
                if failures in (0, 10) or failures % 100 == 0:
                    self._log.warning("chain not read", error=str(error), failures=failures)
                failures += 1
            except Exception as error:  # as above
                self._log.error("poll failed", error=repr(error), exc_info=True)
                failures += 1
            is_idle = not (self.core.state.chain.batches or self.core.state.mail.queue)
            pause = IDLE_POLL_S if is_idle else POLL_S
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] if failures else pause)

    async def _poll(self) -> None:
        for stimulus in await asyncio.to_thread(self._watcher.poll):
            if isinstance(stimulus, ChainReorganised):
                self._log.warning("reorganised")
            self.feed(stimulus)
        self.is_synced = True
        self._on_chain()

    async def sync(self) -> None:
        """Read the chain up to now, before anything is decided. Raises ChainUnavailable when it does not answer."""
        for pause in (*BACKOFF_S[:4], None):
            try:
                await self._poll()
                return
            except ChainUnavailable:
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    def restore(self, groups: list[GroupJournaled]) -> None:
        """What the journal held."""
        for stimulus in groups:
            self.feed(stimulus)
