"""The node's only loop: it feeds stimuli to the cores of its operators and has their instructions performed.

A bad event never ends it: what can be tried again is (a core asks again), a broken event is logged and passed over.
An UnrecoverableError stops the process: to go on would risk stake.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from quorate.protocol.errors import ChainUnavailable, QuorateError, UnrecoverableError
from quorate_node.core import instructions as ins
from quorate_node.core.core import Core
from quorate_node.core.farm import Farm, SharedStimulus
from quorate_node.core.instructions import Execute, Instruction, JournalCommit, Transaction
from quorate_node.core.stimuli import CallEnded, ChainReorganised, GroupJournaled, Stimulus, Tick
from quorate_node.logs import get_logger
from quorate_node.performer import Performer
from quorate_node.watcher import ChainWatcher

POLL_S = 0.1
IDLE_POLL_S = 0.2
MOST_POLL_S = 1.0
LOOKS_A_BLOCK = 4
"""As often a new block is looked for while one is mined, but no more often than every POLL_S, no less than MOST_POLL_S:
many nodes may ask one endpoint, and each look costs both."""
IDLE_TICK_S = 1.0
LEAST_TICK_S = 0.04
BACKOFF_S = (0.2, 0.5, 1.0, 2.0)
MAX_TASKS = 512
COMMON = (
    ins.ProveBeacon, ins.Settle, ins.Expire, ins.AdvanceEra, ins.Judge, ins.ProveAudit,
    ins.Publish, ins.Ask, ins.CommitVotes, ins.SettleVotes, ins.Punish,
)  # fmt: skip
"""Calls that do the same whoever sends them. While one operator's is under way the others of its farm leave it alone:
each would first have the chain estimate it, and where that is slow, all of them together make it slower still."""
READS = (ins.ReadHeader, ins.ReadAuditHeader, ins.AskLeaves)
"""What a core asks for again while it waits. One of a kind is under way: where nobody answers they would take up all
threads, and keep them when somebody does again."""


class Agent:
    """Runs the cores of a farm until `stop` or an UnrecoverableError. `performers` are by core."""

    def __init__(self, farm: Farm, watcher: ChainWatcher) -> None:
        self.farm, self._watcher = farm, watcher
        self.performers: Mapping[Core, Performer] = {}
        # A thread of its own: the chain must be seen while all others wait for something.
        self._eye = ThreadPoolExecutor(1, "chain")
        self._log = get_logger()
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._failure: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._common: set[tuple[object, ...]] = set()  # keys of common calls that are under way
        self._reading: set[tuple[Core, Instruction]] = set()
        self.is_synced = False

    def feed(self, core: Core, stimulus: Stimulus) -> None:
        """Give a fact to a core; decisions follow within a few milliseconds."""
        self._take(core, stimulus)

    def _take(self, receiver: Core | Farm, stimulus: Any) -> None:
        try:
            receiver.handle(stimulus)
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
                    async with asyncio.timeout(IDLE_TICK_S if self._is_idle() else self._find_pause(POLL_S)):
                        await self._wake.wait()
                await asyncio.sleep(LEAST_TICK_S)
        finally:
            poller.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(poller, *self._tasks, return_exceptions=True)
            self._eye.shutdown(wait=False)
        if self._failure is not None:
            raise self._failure

    def _decide(self) -> None:
        if not self.is_synced:
            return
        now, unix = asyncio.get_running_loop().time(), time.time()
        for core in self.farm.cores:
            try:
                instructions = core.handle(Tick(now, unix))
            except UnrecoverableError as error:
                self._fail(error)
                return
            except Exception as error:  # as above: one core's trouble must not stop the others
                self._log.error("decision failed", error=repr(error), exc_info=True)
                continue
            for instruction in instructions:
                self._start(core, instruction)

    def _is_idle(self) -> bool:
        return not (self._tasks or self.farm.first.state.mail.queue) and self.farm.chain.is_quiet

    def _start(self, core: Core, instruction: Instruction) -> None:
        # Work and the journal are never dropped; what a core repeats by itself may be.
        if len(self._tasks) >= MAX_TASKS and not isinstance(instruction, Execute | JournalCommit):
            if isinstance(instruction, Transaction):
                core.state.under_way.discard(instruction.key)
            return
        if isinstance(instruction, READS):
            if (core, instruction) in self._reading:
                return
            self._reading.add((core, instruction))
        if isinstance(instruction, COMMON):
            if instruction.key in self._common:
                self._take(core, CallEnded(instruction.key, "another operator of this node is at it"))
                return
            self._common.add(instruction.key)
        task = asyncio.create_task(self._perform(core, instruction))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _perform(self, core: Core, instruction: Instruction) -> None:
        try:
            await self.performers[core].perform(instruction)
        except UnrecoverableError as error:
            self._fail(error)
        except Exception as error:  # a bug in one instruction must not end the others
            name = type(instruction).__name__
            self._log.error("instruction failed", instruction=name, error=repr(error), exc_info=True)
        finally:
            if isinstance(instruction, COMMON):
                self._common.discard(instruction.key)
            if isinstance(instruction, READS):
                self._reading.discard((core, instruction))

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
            pause = self._find_pause(IDLE_POLL_S if self._is_idle() else POLL_S)
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] if failures else pause)

    def _find_pause(self, least_s: float) -> float:
        return max(least_s, min(MOST_POLL_S, self._watcher.spacing_s / LOOKS_A_BLOCK))

    async def _poll(self) -> None:
        for stimulus in await asyncio.get_running_loop().run_in_executor(self._eye, self._watcher.poll):
            if isinstance(stimulus, ChainReorganised):
                self._log.warning("reorganised")
            self.hear(stimulus)
        self.is_synced = True

    def hear(self, stimulus: SharedStimulus) -> None:
        """Tell all cores what concerns them all."""
        self._take(self.farm, stimulus)

    async def sync(self) -> None:
        """Read the chain up to now, before anything is decided. Raises ChainUnavailable when it does not answer."""
        for pause in (*BACKOFF_S, None):
            try:
                await self._poll()
                return
            except ChainUnavailable:
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    def restore(self, core: Core, groups: list[GroupJournaled]) -> None:
        """What the journal of a core's operator held."""
        for stimulus in groups:
            self.feed(core, stimulus)
