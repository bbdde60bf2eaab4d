"""What is remembered of providers: who lied is not asked for a while, who was slow is asked last."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

BAN_S = 3600.0
SLOW_S = 30.0
LONGEST_SLOW_S = 1800.0
MAX_KNOWN = 10_000


@dataclass(slots=True)
class _Record:
    banned_until: float = 0.0
    slow_until: float = 0.0
    failures: int = 0


class ProviderBook:
    """Used from any thread. Times are monotonic seconds; `clock` is for tests. `received_bytes` came from them all."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.received_bytes = 0
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._lock = threading.Lock()

    def order(self, providers: Sequence[str]) -> tuple[list[str], list[str]]:
        """Those to ask, each once, the slow ones last; and those that are left out, for they lied."""
        with self._lock:
            now = self._clock()
            good, slow, banned = list[str](), list[str](), list[str]()
            for name, provider in {each.rstrip("/"): each for each in reversed(providers)}.items():
                record = self._records.get(name, _Record())
                (banned if record.banned_until > now else slow if record.slow_until > now else good).append(provider)
            return [*reversed(good), *reversed(slow)], banned[::-1]

    def note_lie(self, provider: str) -> None:
        """It sent what it was not asked for: it is left out for BAN_S."""
        with self._lock:
            self._record(provider).banned_until = self._clock() + BAN_S

    def note_failure(self, provider: str) -> None:
        """It was away, slow or full: it comes last, for longer each time."""
        with self._lock:
            record = self._record(provider)
            record.failures += 1
            record.slow_until = self._clock() + min(SLOW_S * 2 ** (record.failures - 1), LONGEST_SLOW_S)

    def note_success(self, provider: str) -> None:
        """It is as good as any."""
        with self._lock:
            if (record := self._records.get(provider.rstrip("/"))) is not None:
                record.failures, record.slow_until = 0, 0.0

    def note_bytes(self, count: int) -> None:
        """So many more have come."""
        with self._lock:
            self.received_bytes += count

    def _record(self, provider: str) -> _Record:
        record = self._records.setdefault(provider.rstrip("/"), _Record())
        self._records.move_to_end(provider.rstrip("/"))
        if len(self._records) > MAX_KNOWN:
            self._records.popitem(last=False)
        return record
