"""Random actions of the contracts themselves on the registry: fines, earnings, slashes, pots, from their addresses.

What market, disputes and challenges do in the other actions is what their own rules allow; here the registry has to
stand by itself: eras with many faults, jails and rejoining, amounts beyond what an operator has.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from tests.differential.actors import OUTSIDER, OWNERS, PARAMS, REQUESTERS, UNIT_WEI
from tests.differential.backend import Backend
from tests.differential.driver import Model
from tests.differential.voting import Voting

from quorate.chain.abi import Contract
from quorate.protocol import events as ev
from quorate.protocol.classes import Earning
from quorate.protocol.params import Params
from quorate.protocol.types import FineKind, OperatorId


class Duties(Voting):
    """`loose` is what the pots hold of fines that were sent from here, and no bundle or dispute counts on."""

    def __init__(self, backend: Backend, params: Params = PARAMS) -> None:
        super().__init__(backend, params)
        self.loose = 0

    def _act_as(self, name: str, args: Sequence[Any], model: Model, value: int = 0) -> list[ev.Event] | None:
        """From the address of Challenges, which is the only one that must not have money of its own to count."""
        return self.act(self.backend.deployment.challenges, Contract.REGISTRY, name, args, model, value)

    def _take(self, events: list[ev.Event] | None) -> None:
        self.loose += sum(e.amount for e in events or () if isinstance(e, ev.OperatorFined | ev.TreasuryPaid))

    def duty(self, rng: Random) -> None:
        """One of them."""
        operators = sorted(self.world.registry.operators)
        match rng.randrange(8):
            case 0 | 1 | 2:
                self._fine_often(rng, rng.choice(operators))
            case 3 | 4:
                self._credit(rng, operators)
            case 5:
                self._move_pots(rng)
            case 6:
                whom = OperatorId(rng.randrange(1, 9))
                registry = self.world.registry
                self.act(OUTSIDER.address, Contract.REGISTRY, "judge", (whom,), lambda c: registry.apply_judge(c, whom))
            case _:
                self.rejoin(rng)

    def _fine_often(self, rng: Random, whom: OperatorId) -> None:
        """Enough fines for a faulty era, now and then; then its end, and the verdict."""
        registry = self.world.registry
        kind = rng.choice((*FineKind, FineKind.SILENT, FineKind.UNREVEALED))
        if kind is FineKind.UNREVEALED:
            self._unstake_some(rng, whom)
        for _ in range(rng.choice((1, 4, 5))):
            amount = rng.choice((0, 1, 1, UNIT_WEI // 10, 3 * UNIT_WEI))
            self._fine(whom, amount, kind)
        if rng.random() < 0.5:
            self.wait(1, registry.params.era_period)
            if rng.random() < 0.7:
                self.act(OUTSIDER.address, Contract.REGISTRY, "judge", (whom,), lambda c: registry.apply_judge(c, whom))

    def _unstake_some(self, rng: Random, whom: OperatorId) -> None:
        """So that what unbonds is there to be taken, too."""
        registry, operator = self.world.registry, self.world.registry.operators[whom]
        amount = (operator.stake - registry.allocated(whom)) // 2
        if amount > 0 and rng.random() < 0.5:
            self.act(
                operator.owner, Contract.REGISTRY, "unstake", (amount,), lambda c: registry.apply_unstake(c, amount)
            )

    def _fine(self, whom: OperatorId, amount: int, kind: FineKind) -> None:
        registry = self.world.registry
        self._take(self._act_as("fine", (whom, amount, kind), lambda c: registry.apply_fine(c, whom, amount, kind)))

    def _credit(self, rng: Random, operators: list[OperatorId]) -> None:
        """Earnings out of the pots, with seats; now and then not all that was said."""
        registry = self.world.registry
        chosen = sorted(rng.sample(operators, k=rng.randrange(1, len(operators) + 1)))
        share = rng.randrange(self.loose // len(chosen) + 1)
        entries = [Earning(whom, share, rng.choice((0, 1, 80, (1 << 23) - 1))) for whom in chosen]
        from_pot = share * len(chosen) + (rng.random() < 0.1)
        words = [entry.encode() for entry in entries]
        if self._act_as("credit", (words, from_pot), lambda c: registry.apply_credit(c, entries, from_pot)) is not None:
            self.loose -= from_pot

    def _move_pots(self, rng: Random) -> None:
        registry, amount = self.world.registry, rng.randrange(self.loose + 1)
        match rng.randrange(4):
            case 0:
                self._act_as("releasePot", (amount,), lambda c: registry.apply_release_pot(c, amount))
                self.loose -= amount
            case 1:
                asked = rng.choice((0, amount, 100 * UNIT_WEI))
                self._take(self._act_as("drawTreasury", (asked,), lambda c: registry.apply_draw_treasury(c, asked)))
            case 2:
                whom = rng.choice(REQUESTERS).address
                self._act_as("payOut", (whom, amount), lambda c: registry.apply_pay_out(c, whom, amount))
                self.loose -= amount
            case _:
                self._act_as("depositPot", (), registry.apply_deposit_pot, UNIT_WEI)
                self.loose += UNIT_WEI

    def slash(self, rng: Random) -> None:
        """From the address of Disputes, as after a class vote."""
        registry = self.world.registry
        whom, together = rng.choice(sorted(registry.operators)), rng.random() < 0.2
        self._unstake_some(rng, whom)
        found = self.act(
            self.backend.deployment.disputes, Contract.REGISTRY, "slash", (whom, together),
            lambda c: registry.apply_slash(c, whom, together),
        )  # fmt: skip
        self.loose += sum(e.amount for e in found or () if isinstance(e, ev.OperatorSlashed))

    def rejoin(self, rng: Random) -> None:
        """Who is in jail asks to be drawn again, mostly once it may."""
        registry = self.world.registry
        jailed = [o for o in registry.operators.values() if o.jailed_until]
        chosen = rng.choice(jailed) if jailed and rng.random() < 0.9 else None
        if chosen and self.now < chosen.jailed_until and rng.random() < 0.5:
            self.wait(1, chosen.jailed_until - self.backend.timestamp)
        owner = chosen.owner if chosen else rng.choice(OWNERS).address
        self.act(owner, Contract.REGISTRY, "rejoin", (), registry.apply_rejoin)
