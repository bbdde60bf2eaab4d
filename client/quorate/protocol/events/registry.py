"""Events of StakeRegistry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quorate.protocol.events.base import RegistryEvent
from quorate.protocol.types import Address


@dataclass(frozen=True, slots=True)
class OperatorRegistered(RegistryEvent):
    """An owner has an operator from now on."""

    name: ClassVar[str] = "OperatorRegistered"
    operator_id: int
    owner: Address
    signing_key: Address


@dataclass(frozen=True, slots=True)
class Staked(RegistryEvent):
    """Stake grew from outside."""

    name: ClassVar[str] = "Staked"
    operator_id: int
    amount: int


@dataclass(frozen=True, slots=True)
class SigningKeyChanged(RegistryEvent):
    """Acts in each class from its next table on."""

    name: ClassVar[str] = "SigningKeyChanged"
    operator_id: int
    signing_key: Address


@dataclass(frozen=True, slots=True)
class EndpointAnnounced(RegistryEvent):
    """Where the operator's node answers."""

    name: ClassVar[str] = "EndpointAnnounced"
    operator_id: int
    url: str


@dataclass(frozen=True, slots=True)
class ClassCreated(RegistryEvent):
    """A class without members stands."""

    name: ClassVar[str] = "ClassCreated"
    class_id: int
    profile: bytes
    unit_wei: int
    price: int
    judged: bool


@dataclass(frozen=True, slots=True)
class ClassJoined(RegistryEvent):
    """Drawn from the next table on."""

    name: ClassVar[str] = "ClassJoined"
    class_id: int
    operator_id: int
    units: int
    ask: int
    capacity: int


@dataclass(frozen=True, slots=True)
class ClassLeft(RegistryEvent):
    """By will, slash or ejection; drawn until the next table."""

    name: ClassVar[str] = "ClassLeft"
    class_id: int
    operator_id: int


@dataclass(frozen=True, slots=True)
class AskChanged(RegistryEvent):
    """Wei for a FUEL_UNIT."""

    name: ClassVar[str] = "AskChanged"
    class_id: int
    operator_id: int
    ask: int


@dataclass(frozen=True, slots=True)
class Unstaked(RegistryEvent):
    """Part of the stake unbonds until `release_at`."""

    name: ClassVar[str] = "Unstaked"
    operator_id: int
    amount: int
    release_at: int


@dataclass(frozen=True, slots=True)
class StakeWithdrawn(RegistryEvent):
    """Solidity's `Withdrawn` of the registry: unbonded stake was paid to the owner."""

    name: ClassVar[str] = "Withdrawn"
    operator_id: int
    amount: int


@dataclass(frozen=True, slots=True)
class EraAdvanced(RegistryEvent):
    """New price and, when members changed, a new table."""

    name: ClassVar[str] = "EraAdvanced"
    class_id: int
    era: int
    table: int
    price: int
    era_end: int


@dataclass(frozen=True, slots=True)
class Credited(RegistryEvent):
    """Earnings: (operator id << 128 | seats << 96 | wei) each."""

    name: ClassVar[str] = "Credited"
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OperatorFined(RegistryEvent):
    """A fine, as far as there was stake; `kind` is a FineKind."""

    name: ClassVar[str] = "OperatorFined"
    operator_id: int
    amount: int
    kind: int


@dataclass(frozen=True, slots=True)
class OperatorSlashed(RegistryEvent):
    """A wrong vote's price."""

    name: ClassVar[str] = "OperatorSlashed"
    operator_id: int
    amount: int
    ejected: bool


@dataclass(frozen=True, slots=True)
class OperatorJailed(RegistryEvent):
    """In no new table until its owner asks, at `until` at the earliest."""

    name: ClassVar[str] = "OperatorJailed"
    operator_id: int
    until: int


@dataclass(frozen=True, slots=True)
class OperatorReleased(RegistryEvent):
    """Drawn again from the next tables on."""

    name: ClassVar[str] = "OperatorReleased"
    operator_id: int


@dataclass(frozen=True, slots=True)
class TreasuryGrew(RegistryEvent):
    """Wei."""

    name: ClassVar[str] = "TreasuryGrew"
    amount: int


@dataclass(frozen=True, slots=True)
class TreasuryPaid(RegistryEvent):
    """Wei went from the treasury into the pots."""

    name: ClassVar[str] = "TreasuryPaid"
    amount: int
