"""Bounds on the data that one direction of a node's traffic carries: bytes a second, which is paced, and bytes a day.

What is counted is content, as it comes and goes: messages between nodes and the chain's answers are small beside it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from quorate.protocol.errors import Busy

DAY_S = 86_400
BURST_S = 1.0
"""So much of a second's bytes may go at once, after a pause."""
PIECES_S = 8
"""Into so many pieces a second's bytes are cut, so that whoever waits for them sees that they come."""
LEAST_PIECE = 4096


class VolumeReached(Busy):
    """The day's bytes are used up; says until when, and which setting bounds them."""


@dataclass(frozen=True, slots=True)
class TrafficLimits:
    """`bytes_s` a second and `bytes_day` in a day of UTC; 0: as much as there is."""

    bytes_s: int = 0
    bytes_day: int = 0


@dataclass(frozen=True, slots=True)
class TrafficFigures:
    """`day_bytes` since the beginning of `day` (days of unix time, UTC), `total_bytes` and `refusals` of this run."""

    day: int
    day_bytes: int
    total_bytes: int
    refusals: int


class Meter:
    """Counts one direction, `name` ("serve" or "fetch"); for all threads. `clock` is monotonic, `unix` the host's."""

    def __init__(
        self,
        name: str,
        limits: TrafficLimits = TrafficLimits(),
        *,
        clock: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self.name, self.limits = name, limits
        self._clock, self._unix = clock, unix
        self._lock = threading.Lock()
        self._free_at = float("-inf")
        self._day, self._day_bytes, self._total, self._refusals = self._today(), 0, 0, 0

    def resume(self, day: int, day_bytes: int) -> None:
        """What an earlier run counted, if it was today."""
        with self._lock:
            if day == self._today():
                self._day, self._day_bytes = day, self._day_bytes + day_bytes

    @property
    def figures(self) -> TrafficFigures:
        """As they are now."""
        with self._lock:
            self._turn()
            return TrafficFigures(self._day, self._day_bytes, self._total, self._refusals)

    def check(self, expected: int = 0) -> None:
        """Raise VolumeReached where the day's bytes are used up, or `expected` more would be over them."""
        with self._lock:
            self._turn()
            self._check(expected)

    def take(self, count: int) -> float:
        """So many bytes go or have come; seconds to wait before the next. Raises VolumeReached before they count."""
        with self._lock:
            self._turn()
            self._check(0)
            self._day_bytes += count
            self._total += count
            if not self.limits.bytes_s:
                return 0.0
            now = self._clock()
            self._free_at = max(self._free_at, now - BURST_S) + count / self.limits.bytes_s
            return max(0.0, self._free_at - now)

    @property
    def piece_bytes(self) -> int | None:
        """How much to send at once, None where nothing is paced."""
        return max(LEAST_PIECE, self.limits.bytes_s // PIECES_S) if self.limits.bytes_s else None

    @property
    def seconds_left(self) -> int:
        """Until the next day of UTC."""
        return DAY_S - int(self._unix()) % DAY_S

    def _today(self) -> int:
        return int(self._unix()) // DAY_S

    def _turn(self) -> None:
        if (today := self._today()) != self._day:
            self._day, self._day_bytes = today, 0

    def _check(self, expected: int) -> None:
        most = self.limits.bytes_day
        if not most or (self._day_bytes < most and self._day_bytes + expected <= most):
            return
        self._refusals += 1
        more = f", and {expected} more are needed" if expected else ""
        raise VolumeReached(
            f"{self._day_bytes} of {most} bytes a day are used{more} ({self.name}_bytes_day): it begins anew in "
            f"{self.seconds_left} s, or raise the limit"
        )
