"""The three contracts of one deployment as one pure model, and the invariants of its money."""

from __future__ import annotations

from collections import Counter

from quorate.protocol.challenges import Challenges
from quorate.protocol.context import AskWallet, Recover, no_wallets
from quorate.protocol.disputes import Disputes
from quorate.protocol.errors import UnrecoverableError
from quorate.protocol.job import BatchStatus
from quorate.protocol.market import Market
from quorate.protocol.params import Params
from quorate.protocol.registry import Registry
from quorate.protocol.types import Address, DisputeKind


class World:
    """Registry, market and disputes of one deployment.

    Methods of the parts are called directly: `world.registry.apply_join(call, …)`, `apply_post(world.market, …)`.
    """

    def __init__(
        self,
        params: Params,
        chain_id: int,
        registry: Address,
        market: Address,
        disputes: Address,
        challenges: Address,
        recover: Recover,
        ask_wallet: AskWallet = no_wallets,
    ) -> None:
        self.params, self.chain_id, self.registry_address = params, chain_id, registry
        self.registry = Registry(params, market, disputes, challenges)
        self.market = Market(params, chain_id, market, self.registry, recover, ask_wallet)
        self.disputes = Disputes(params, disputes, self.market, challenges)
        self.challenges = Challenges(params, challenges, self.market)
        self.market.bind(self.disputes)
        self.registry.bind(self.market.apply_deposit)

    def check_invariants(self) -> None:
        """Raise UnrecoverableError where a statement of the specification about money or status does not hold."""
        _check_registry(self.registry)
        _check_market(self.market)
        _check_pots(self)


def _expect(condition: bool, statement: str) -> None:
    if not condition:
        raise UnrecoverableError(f"invariant broken: {statement}")


def _check_registry(registry: Registry) -> None:
    stake = sum(o.stake for o in registry.operators.values())
    unbonding = sum(o.unbonding for o in registry.operators.values())
    ledgers = (registry.pots, registry.class_deposits, registry.treasury)
    _expect(registry.balance == stake + unbonding + sum(ledgers), "registry's balance = Σ of its ledgers")
    _expect(min(ledgers) >= 0, "no ledger of the registry is negative")
    for operator_id, operator in registry.operators.items():
        _expect(min(operator.stake, operator.unbonding) >= 0, f"operator {operator_id} owes nothing")
        _expect(registry.allocated(operator_id) <= operator.stake, f"operator {operator_id} has what it allocates")
        _expect(not (operator.ejected and operator.classes), f"ejected operator {operator_id} is in no class")
        listed = {c for c, state in registry.classes.items() if operator_id in state.members}
        _expect(listed == set(operator.classes), f"operator {operator_id} and its classes agree")
    for class_id, state in registry.classes.items():
        _expect(sorted(state.order) == sorted(state.members), f"class {class_id} lists each member once")


def _check_market(market: Market) -> None:
    ledgers = sum(market.free.values()) + sum(market.escrow.values()) + market.bonds
    _expect(market.balance == ledgers, "market's balance = Σ free + Σ escrow + bonds")
    lowest = min((*market.free.values(), *market.escrow.values(), market.bonds))
    _expect(lowest >= 0, "no ledger of the market is negative")
    _expect(market.bonds == sum(batch.bond for batch in market.slots), "bonds are those of the batches")
    for batch in market.slots:
        open_ = batch.status in (BatchStatus.AWAITING, BatchStatus.ASSIGNED, BatchStatus.VOIDED)
        _expect(bool(batch.pending) == open_, f"batch {batch.batch_id} is open while bundles are pending")
        _expect(not batch.pending & batch.carried, f"batch {batch.batch_id} has each bundle in one place")


def _check_pots(world: World) -> None:
    open_ = world.disputes.open.values()
    records = world.disputes.records.values()
    disputed = sum(record.pot for record in records) + sum(dispute.taken for dispute in open_)
    _expect(disputed <= world.registry.pots, "pots hold what open disputes count on")
    locked = sum(record.escrow for record in records if record.kind is DisputeKind.CONFLICT)
    _expect(locked <= sum(world.market.escrow.values()), "escrow holds what open disputes count on")
    waiting = Counter(record.batch_id for record in records)
    for batch in world.market.slots:
        _expect(batch.open_disputes == waiting.pop(batch.batch_id, 0), f"batch {batch.batch_id} counts its disputes")
    _expect(not waiting, "every open dispute has its batch")
