"""One executor out of several: each task goes to the one of its spec's profile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from quorate_node.executor.base import AnyTask, Executed, Executor, FailureReason, LocalFailure

Starter = Callable[[], Awaitable[Executor[Any]]]


class Dispatcher:
    """Executors by the name of their profile; each is started when it is first needed, once."""

    def __init__(self, starters: Mapping[str, Starter]) -> None:
        self._starters = dict(starters)
        self._started: dict[str, Executor[Any]] = {}
        self._locks = {profile: asyncio.Lock() for profile in starters}

    async def find(self, profile: str) -> Executor[Any] | None:
        """The executor of a profile, started by now; None if there is none. Raises what its start raises."""
        if profile not in self._starters:
            return None
        async with self._locks[profile]:
            if profile not in self._started:
                self._started[profile] = await self._starters[profile]()
        return self._started[profile]

    async def execute(self, task: AnyTask, *, timeout_s: float) -> Executed | LocalFailure:
        """Run a task where its profile says; see Executor."""
        profile = task.spec.profile
        executor = await self.find(profile)
        if executor is None:
            return LocalFailure(FailureReason.UNSUPPORTED, f"nothing here executes {profile}: leave its classes")
        return await executor.execute(task, timeout_s=timeout_s)

    async def close(self) -> None:
        """End all that were started; may be called again."""
        while self._started:
            _, executor = self._started.popitem()
            await executor.close()
