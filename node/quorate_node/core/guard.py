"""When a node had better do nothing: its own executions fail in a row, or its endpoint shows an old chain.

A seat then abstains at once, so that a fresh committee steps in, instead of when its time is nearly over.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """`max_failures` of this host in a row are followed by `pause_s` seconds without work, then by one try.

    A chain whose newest block is older than `max_head_age_s` seconds is not believed. 0 switches either off.
    """

    max_failures: int = 0
    pause_s: float = 60.0
    max_head_age_s: int = 0


@dataclass(slots=True)
class Guard:
    """What it has seen; times in seconds of the agent's clock."""

    settings: GuardSettings
    failures: int = 0
    closed_until: float = 0.0

    def note_success(self) -> None:
        """An execution ended on this host: with a result, whatever it says."""
        self.failures, self.closed_until = 0, 0.0

    def note_failure(self, now: float) -> None:
        """An execution had no result for a reason that lies with this host."""
        self.failures += 1
        if 0 < self.settings.max_failures <= self.failures:
            self.closed_until = now + self.settings.pause_s

    def find_objection(self, now: float, unix: float, head_time: int) -> str | None:
        """Why no execution is begun now; `unix` and `head_time`, the head's, in unix seconds (0: not known)."""
        if now < self.closed_until:
            pause = f"no work for {self.settings.pause_s:g} s, then one try"
            return f"{self.settings.max_failures} executions or more failed on this host in a row: {pause}"
        most = self.settings.max_head_age_s
        if most and unix and head_time and unix - head_time > most:
            return f"the newest block that the RPC endpoint shows is older than {most} s (max_head_age_s)"
        return None
