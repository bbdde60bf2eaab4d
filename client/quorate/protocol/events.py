"""What the contracts tell: one dataclass for each Solidity event, fields in its order in snake_case.

`contract` and `name` are those of the ABI: two contracts have a `Withdrawn`, which are two classes here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from quorate.protocol.types import Address

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


# StakeRegistry ------------------------------------------------------------------------------------------------------


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


# ComputeMarket ------------------------------------------------------------------------------------------------------


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


# Disputes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DisputeOpened(DisputesEvent):
    """A conflict, a challenge or a dissenting audit goes to the class."""

    name: ClassVar[str] = "DisputeOpened"
    dispute_id: int
    batch_id: int
    bundle: int
    record: bytes


@dataclass(frozen=True, slots=True)
class LeavesPublished(DisputesEvent):
    """The leaves of one root, 32 bytes a task."""

    name: ClassVar[str] = "LeavesPublished"
    dispute_id: int
    root: bytes
    leaves: bytes


@dataclass(frozen=True, slots=True)
class QuestionAsked(DisputesEvent):
    """The first window starts."""

    name: ClassVar[str] = "QuestionAsked"
    dispute_id: int
    question: bytes


@dataclass(frozen=True, slots=True)
class VotesCommitted(DisputesEvent):
    """Class votes as sent, with what was skipped."""

    name: ClassVar[str] = "VotesCommitted"
    dispute_id: int
    window: int
    lists: bytes
    skips: bytes


@dataclass(frozen=True, slots=True)
class VotesRevealed(DisputesEvent):
    """Openings that a later `settleVotes` must not leave out."""

    name: ClassVar[str] = "VotesRevealed"
    dispute_id: int
    window: int
    votes: bytes
    openings: bytes


@dataclass(frozen=True, slots=True)
class VoteWindowOpened(DisputesEvent):
    """No majority yet: another window, with the votes that stand."""

    name: ClassVar[str] = "VoteWindowOpened"
    dispute_id: int
    window: int
    cast: bytes


@dataclass(frozen=True, slots=True)
class DisputeDecided(DisputesEvent):
    """Verdict 1 accepted with `root`, 4 void; `answer` won, or is 0; `tally` has a byte for each row of the table."""

    name: ClassVar[str] = "DisputeDecided"
    dispute_id: int
    batch_id: int
    bundle: int
    verdict: int
    root: bytes
    answer: bytes
    tally: bytes


@dataclass(frozen=True, slots=True)
class RowsPunished(DisputesEvent):
    """The tally was gone through up to `row`; `taken` is the sum of all fines and slashes of the dispute, in wei."""

    name: ClassVar[str] = "RowsPunished"
    dispute_id: int
    row: int
    taken: int


@dataclass(frozen=True, slots=True)
class DisputeSettled(DisputesEvent):
    """Everybody is punished and paid."""

    name: ClassVar[str] = "DisputeSettled"
    dispute_id: int
    batch_id: int
    bundle: int


# Challenges ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ResultChallenged(ChallengesEvent):
    """Somebody says that a task of an accepted bundle has another leaf."""

    name: ClassVar[str] = "ResultChallenged"
    batch_id: int
    bundle: int
    task: int
    challenger: Address
    dispute_id: int


@dataclass(frozen=True, slots=True)
class BundleAudited(ChallengesEvent):
    """An auditor's vote; `dispute_id` is 0 where it is the accepted one."""

    name: ClassVar[str] = "BundleAudited"
    batch_id: int
    bundle: int
    operator_id: int
    vote: bytes
    dispute_id: int
