"""What all events have in common, and those of each contract."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

REGISTRY, MARKET, DISPUTES, CHALLENGES = "StakeRegistry", "ComputeMarket", "Disputes", "Challenges"


@dataclass(frozen=True, slots=True)
class Event:
    """Root of all events."""

    contract: ClassVar[str] = ""
    name: ClassVar[str] = ""

    def as_tuple(self) -> tuple[object, ...]:
        """Values in the order of the Solidity event."""
        return tuple(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True)
class RegistryEvent(Event):
    """An event of StakeRegistry."""

    contract: ClassVar[str] = REGISTRY


@dataclass(frozen=True, slots=True)
class MarketEvent(Event):
    """An event of ComputeMarket."""

    contract: ClassVar[str] = MARKET


@dataclass(frozen=True, slots=True)
class DisputesEvent(Event):
    """An event of Disputes."""

    contract: ClassVar[str] = DISPUTES


@dataclass(frozen=True, slots=True)
class ChallengesEvent(Event):
    """An event of Challenges."""

    contract: ClassVar[str] = CHALLENGES
