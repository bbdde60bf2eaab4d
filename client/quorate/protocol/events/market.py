"""Events of ComputeMarket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quorate.protocol.events.base import MarketEvent
from quorate.protocol.types import Address


@dataclass(frozen=True, slots=True)
class Deposited(MarketEvent):
    """Free deposit grew."""

    name: ClassVar[str] = "Deposited"
    account: Address
    amount: int


@dataclass(frozen=True, slots=True)
class Withdrawn(MarketEvent):
    """Free deposit was paid out."""

    name: ClassVar[str] = "Withdrawn"
    account: Address
    amount: int


@dataclass(frozen=True, slots=True)
class BatchOpened(MarketEvent):
    """A collator's bond is locked."""

    name: ClassVar[str] = "BatchOpened"
    batch_id: int
    collator: Address
    class_id: int
    table: int
    seats: int
    rounds: int
    commit_period: int
    fee_wei: int


@dataclass(frozen=True, slots=True)
class PagePosted(MarketEvent):
    """Orders as posted; `skips` is (order index u16, reason u8) of each order left out."""

    name: ClassVar[str] = "PagePosted"
    batch_id: int
    first_bundle: int
    page: bytes
    skips: bytes


@dataclass(frozen=True, slots=True)
class BatchClosed(MarketEvent):
    """No page more; the header of `beacon_block` decides the committees."""

    name: ClassVar[str] = "BatchClosed"
    batch_id: int
    bundles: int
    beacon_block: int


@dataclass(frozen=True, slots=True)
class RoundStarted(MarketEvent):
    """Committees are known, the windows run."""

    name: ClassVar[str] = "RoundStarted"
    batch_id: int
    round: int
    beacon: bytes


@dataclass(frozen=True, slots=True)
class CommitPage(MarketEvent):
    """Lists as sent; `skips` is (list index u16, reason u8) of each list left out."""

    name: ClassVar[str] = "CommitPage"
    batch_id: int
    round: int
    lists: bytes
    skips: bytes


@dataclass(frozen=True, slots=True)
class BundlesSettled(MarketEvent):
    """`outcomes` has a row for each bundle: encoding.decode_outcomes."""

    name: ClassVar[str] = "BundlesSettled"
    batch_id: int
    round: int
    outcomes: bytes


@dataclass(frozen=True, slots=True)
class OpeningsRevealed(MarketEvent):
    """Openings that a later settle call must not leave out."""

    name: ClassVar[str] = "OpeningsRevealed"
    batch_id: int
    round: int
    votes: bytes
    openings: bytes


@dataclass(frozen=True, slots=True)
class BundlesCarried(MarketEvent):
    """A carry page."""

    name: ClassVar[str] = "BundlesCarried"
    batch_id: int
    round: int
    page: bytes


@dataclass(frozen=True, slots=True)
class RoundAwaited(MarketEvent):
    """A fresh round, decided by the header of `beacon_block`."""

    name: ClassVar[str] = "RoundAwaited"
    batch_id: int
    round: int
    beacon_block: int


@dataclass(frozen=True, slots=True)
class BatchExtended(MarketEvent):
    """A settled batch has fresh rounds, up to `rounds`, under another collator."""

    name: ClassVar[str] = "BatchExtended"
    batch_id: int
    collator: Address
    rounds: int


@dataclass(frozen=True, slots=True)
class AuditDrawn(MarketEvent):
    """Which accepted bundles are audited by whom is known."""

    name: ClassVar[str] = "AuditDrawn"
    batch_id: int
    beacon: bytes


@dataclass(frozen=True, slots=True)
class BatchVoided(MarketEvent):
    """Its bundles can only be settled void."""

    name: ClassVar[str] = "BatchVoided"
    batch_id: int


@dataclass(frozen=True, slots=True)
class BatchSettled(MarketEvent):
    """Nothing is pending any more."""

    name: ClassVar[str] = "BatchSettled"
    batch_id: int
    final_at: int
