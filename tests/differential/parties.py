"""Random actions on stake, classes and deposits, and the mix of all actions of a run."""

from __future__ import annotations

from random import Random

from tests.differential.actors import (
    COLLATORS,
    OUTSIDER,
    OWNERS,
    PARAMS,
    PRICE,
    REQUESTERS,
    SIGNERS,
    UNIT_WEI,
)
from tests.differential.doubts import Doubts
from tests.differential.driver import CAPACITY, CLASS

from quorate.chain.abi import Contract
from quorate.protocol.context import ZERO_ADDRESS
from quorate.protocol.params import ETHER
from quorate.protocol.types import FineKind, OperatorId


class Parties(Doubts):
    """Everybody: what owners, requesters and outsiders do besides the rounds."""

    def registry(self, rng: Random) -> None:
        """One action of an owner, often a refused one."""
        registry, owner = self.world.registry, rng.choice(OWNERS).address
        class_id = rng.choice((CLASS, CLASS, CLASS, 2, 7))
        match rng.randrange(14):
            case 0:
                key = rng.choice(SIGNERS).address if rng.random() < 0.9 else ZERO_ADDRESS
                self.register(owner, key, UNIT_WEI)
            case 1:
                whom = OperatorId(rng.randrange(9))
                self.act(
                    owner, Contract.REGISTRY, "stake", (whom,),
                    lambda c: registry.apply_stake(c, whom), rng.randrange(20 * UNIT_WEI),
                )  # fmt: skip
            case 2:
                key = rng.choice(SIGNERS).address if rng.random() < 0.9 else ZERO_ADDRESS
                self.act(
                    owner, Contract.REGISTRY, "setSigningKey", (key,), lambda c: registry.apply_set_signing_key(c, key)
                )
            case 3:
                url = "http://node:1" * rng.choice((1, 1, 30))
                self.act(
                    owner, Contract.REGISTRY, "announceEndpoint", (url,),
                    lambda c: registry.apply_announce_endpoint(c, url),
                )  # fmt: skip
            case 4:
                self.join(
                    owner, class_id, rng.choice((0, 1, 5, 10, 12_001)), PRICE + rng.randrange(10**9),
                    rng.choice((0, CAPACITY, CAPACITY, (1 << 64) - 1)),
                )  # fmt: skip
            case 5:
                if rng.random() < 0.5:
                    self.act(
                        owner, Contract.REGISTRY, "leave", (class_id,), lambda c: registry.apply_leave(c, class_id)
                    )
            case 6:
                ask = rng.choice((0, PRICE - 10**9, PRICE + 10**9, 3 * PRICE))
                self.act(
                    owner, Contract.REGISTRY, "setAsk", (class_id, ask),
                    lambda c: registry.apply_set_ask(c, class_id, ask),
                )  # fmt: skip
            case 7:
                amount = rng.choice((0, 1, 5 * UNIT_WEI, 100 * UNIT_WEI))
                self.act(owner, Contract.REGISTRY, "unstake", (amount,), lambda c: registry.apply_unstake(c, amount))
            case 8:
                if rng.random() < 0.05:
                    self.wait(1, PARAMS.unbonding_period)
                self.act(owner, Contract.REGISTRY, "withdraw", (), registry.apply_withdraw)
            case 9:
                self._create_class(rng)
            case 10 | 11:
                whom = OperatorId(rng.randrange(1, 9))
                outsider = OUTSIDER.address
                self.act(outsider, Contract.REGISTRY, "judge", (whom,), lambda c: registry.apply_judge(c, whom))
            case 12:
                self.rejoin(rng)
            case _:
                self._trespass(rng)

    def _create_class(self, rng: Random) -> None:
        registry, sender = self.world.registry, OUTSIDER.address
        unit_wei, price = rng.choice(((UNIT_WEI, 1), (UNIT_WEI, PRICE), (UNIT_WEI - 1, 1), (UNIT_WEI, 0)))
        value, judged = PARAMS.class_deposit - (rng.random() < 0.2), rng.random() < 0.5
        self.act(
            sender, Contract.REGISTRY, "createClass", (bytes(32), unit_wei, price, judged),
            lambda c: registry.apply_create_class(c, bytes(32), unit_wei, price, judged), value,
        )  # fmt: skip

    def _trespass(self, rng: Random) -> None:
        """Methods that only contracts may call."""
        registry, sender = self.world.registry, OUTSIDER.address
        match rng.randrange(9):
            case 0:
                self.act(
                    sender, Contract.REGISTRY, "fine", (1, 5, FineKind.SILENT),
                    lambda c: registry.apply_fine(c, OperatorId(1), 5, FineKind.SILENT),
                )  # fmt: skip
            case 1:
                self.act(
                    sender,
                    Contract.REGISTRY,
                    "slash",
                    (1, True),
                    lambda c: registry.apply_slash(c, OperatorId(1), True),
                )
            case 2:
                self.act(sender, Contract.REGISTRY, "credit", ([], 0), lambda c: registry.apply_credit(c, [], 0))
            case 3:
                self.act(sender, Contract.REGISTRY, "releasePot", (1,), lambda c: registry.apply_release_pot(c, 1))
            case 4:
                self.act(sender, Contract.DISPUTES, "open", (b"",), lambda c: self.world.disputes.apply_open(c, b""))
            case 5:
                self.act(sender, Contract.REGISTRY, "drawTreasury", (1,), lambda c: registry.apply_draw_treasury(c, 1))
            case 6:
                self.act(
                    sender, Contract.REGISTRY, "payOut", (sender, 0), lambda c: registry.apply_pay_out(c, sender, 0)
                )
            case 7:
                self.act(sender, Contract.REGISTRY, "depositPot", (), registry.apply_deposit_pot, 1)
            case _:
                self.act(
                    sender, Contract.MARKET, "resolve", (0, sender, 0, sender, 0, 0, [], b""),
                    lambda c: self.world.market.apply_resolve(c, 0, sender, 0, sender, 0, 0, [], b""),
                )  # fmt: skip
        if rng.random() < 0.2:
            self.act(sender, Contract.REGISTRY, "donate", (), registry.apply_donate, 5)

    def era(self, rng: Random) -> None:
        """Advance an era, now and then too early or with a wrong median."""
        class_id = CLASS if rng.random() < 0.8 else rng.choice((2, 3))
        state = self.world.registry.classes.get(class_id)
        if state and rng.random() < 0.4 and self.now < state.era_end:
            self.wait(1, state.era_end - self.backend.timestamp)
        self.advance_era(class_id, rng.choice((0, 0, 0, 0, 1)), rng.choice((0, 0, 0, 0, -1)))

    def money(self, rng: Random) -> None:
        """Deposits and withdrawals."""
        market, who = self.world.market, rng.choice((*REQUESTERS, *COLLATORS, OUTSIDER)).address
        if rng.random() < 0.5:
            whom = rng.choice(REQUESTERS[:2]).address
            self.act(
                who, Contract.MARKET, "depositFor", (whom,),
                lambda c: market.apply_deposit(c, whom), rng.randrange(ETHER),
            )  # fmt: skip
        else:
            amount = rng.choice((0, 1, market.free[who], market.free[who] + 1))
            self.act(who, Contract.MARKET, "withdraw", (amount,), lambda c: market.apply_withdraw(c, amount))

    STEPS = (
        ("post", 18), ("prove_beacon", 14), ("commit", 20), ("settle", 18), ("reveal", 5), ("dissent", 1),
        ("publish", 8), ("ask", 7), ("commit_votes", 14), ("reveal_votes", 4), ("settle_votes", 8), ("punish", 7),
        ("expire", 2), ("registry", 8), ("era", 4), ("money", 2), ("duty", 5), ("slash", 0.1),
        ("extend", 10), ("prove_audit", 5), ("audit", 5), ("challenge", 3),
    )  # fmt: skip

    def step(self, rng: Random) -> None:
        """One random action, weighted so that whole lives of batches happen."""
        names, weights = zip(*self.STEPS, strict=True)
        getattr(self, rng.choices(names, weights)[0])(rng)
