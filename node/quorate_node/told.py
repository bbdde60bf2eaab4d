"""What collators said of late about who has a job's input: all bundles of a job ask for the same."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

REMEMBER_S = 60.0
MAX_JOBS = 1_000

_Key = tuple[str, bytes]


class Told:
    """Asks by `ask` (a collator's URL, a job id), each once at a time, and not again for REMEMBER_S seconds where
    something was told. `clock` gives monotonic seconds."""

    def __init__(
        self, ask: Callable[[str, bytes], Awaitable[list[str]]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask, self._clock = ask, clock
        self._known: OrderedDict[_Key, tuple[float, Sequence[str]]] = OrderedDict()
        self._asking: dict[_Key, asyncio.Future[list[str]]] = {}

    async def ask(self, url: str, job_id: bytes) -> Sequence[str]:
        """Gateways with the input of a job, by the word of a collator; none when it does not answer."""
        key = url, job_id
        until, told = self._known.get(key, (0.0, ()))
        if self._clock() < until:
            return told
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.ensure_future(self._ask(url, job_id))
            asking.add_done_callback(lambda done: self._end(key, done))
        return await asyncio.shield(asking)  # whoever gives up does not end it for the others

    def _end(self, key: _Key, asking: asyncio.Future[list[str]]) -> None:
        del self._asking[key]
        if asking.cancelled() or asking.exception() is not None or not asking.result():
            return
        self._known[key] = self._clock() + REMEMBER_S, asking.result()
        self._known.move_to_end(key)
        while len(self._known) > MAX_JOBS:
            self._known.popitem(last=False)
