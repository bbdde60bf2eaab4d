"""Random orders, honest ones and spoiled ones, and pages of them."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from tests.differential.actors import (
    COLLATORS,
    OUTSIDER,
    PRICE,
    REQUESTERS,
    WALLETS,
    sign_order,
)
from tests.differential.driver import CLASS, Driver

from quorate.chain.abi import Contract
from quorate.protocol.encoding import (
    compute_job_id,
    encode_post_page,
)
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.posting import apply_post
from quorate.protocol.types import (
    Address,
    JobOrder,
    SignatureKind,
    SignedOrder,
    Terms,
)

ORDER_FAULTS = (
    "signature", "altered", "replay", "expired", "fee", "price", "period", "slow", "units", "empty", "flags",
    "strategy", "fuel", "capacity", "terms", "leap", "deposit", "high s", "v",
)  # fmt: skip


def spoil(data: bytes, rng: Random) -> bytes:
    """A page with a byte changed, cut off, or added."""
    kind = rng.randrange(3)
    if kind == 0 or not data:
        return data + b"\0"
    at = rng.randrange(len(data))
    return data[:at] if kind == 1 else data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


class Orders(Driver):
    """Posting."""

    def post(self, rng: Random) -> None:
        """Open a batch or go on with one; orders of all parties, some of them bad."""
        going = self.pick_batch(rng, BatchStatus.POSTING) if rng.random() < 0.7 else None
        if going is None:
            if self._is_busy() and rng.random() < 0.9:
                return
            if self.now >= self.world.registry.classes[CLASS].era_end and rng.random() < 0.9:
                self.advance_era()
            terms = Terms(CLASS, rng.choice((1, 2, 2, 3)), rng.choice((0, 1, 2)), rng.choice((7, 7, 20)), 10**6)
            sender = rng.choice(COLLATORS).address
            batch_id = 0
            if rng.random() < 0.1:
                fault = rng.choice(("class_id", "seats", "rounds", "commit_period", "zero seats"))
                worse = {"seats": 4, "rounds": 3, "commit_period": 21, "class_id": 9}.get(fault, 0)
                terms = replace(terms, **{fault.removeprefix("zero "): worse})
            elif rng.random() < 0.05:
                sender = OUTSIDER.address
        else:
            terms, sender, batch_id = going.terms, going.collator, going.batch_id
            era_end = self.world.registry.classes[CLASS].era_end
            if rng.random() < 0.2 and era_end < going.open_time + self.world.params.post_period - 2:
                # The class moves on between two pages of a batch.
                if self.now < era_end:
                    self.wait(1, era_end - self.backend.timestamp)
                self.advance_era()
            if rng.random() < 0.1:
                sender = OUTSIDER.address
        is_begun = going is not None and going.bundles > 0
        orders = [self._make_order(rng, terms, is_begun) for _ in range(rng.choice((0, 1, 2, 3)))]
        page = encode_post_page(sorted(orders, key=lambda o: o.order.requester))
        if rng.random() < 0.1:
            page = spoil(page, rng)
        self._send_post(sender, batch_id, terms, page, rng.random() < 0.7)

    def _is_busy(self) -> bool:
        return sum(batch.status is not BatchStatus.SETTLED for batch in self.world.market.slots) > 2

    def _send_post(self, sender: Address, batch_id: int, terms: Terms, page: bytes, last: bool) -> None:
        values = (terms.class_id, terms.seats, terms.rounds, terms.commit_period, terms.fee_wei)
        self.act(
            sender, Contract.MARKET, "post", (batch_id, values, page, last),
            lambda c: apply_post(self.world.market, c, batch_id, terms, page, last)[1],
        )  # fmt: skip

    def _make_order(self, rng: Random, terms: Terms, is_begun: bool) -> SignedOrder:
        actor = rng.choice(REQUESTERS[:2])
        if rng.random() < 0.15:
            return self._make_wallet_order(rng, self._draw_order(rng, terms, rng.choice(WALLETS).address))
        order = self._draw_order(rng, terms, actor.address)
        if rng.random() > 0.2:
            return sign_order(self.world.market.separator, order, actor)
        # An empty batch would really take such a flood, and the run would be busy with nothing else.
        return self._spoil_order(rng, order, rng.choice((*ORDER_FAULTS, "full") if is_begun else ORDER_FAULTS))

    def _make_wallet_order(self, rng: Random, order: JobOrder) -> SignedOrder:
        """For an account with or without code; the honest wallet takes the job id alone for a signature."""
        if rng.random() < 0.1:
            order = replace(order, requester=rng.choice((*REQUESTERS[:2], OUTSIDER)).address)
        job_id = compute_job_id(self.world.market.separator, order)
        signature = rng.choice((job_id, job_id, job_id + bytes(300), job_id[:31], b"", bytes(65)))
        return SignedOrder(order, signature, SignatureKind.WALLET)

    def _draw_order(self, rng: Random, terms: Terms, requester: Address) -> JobOrder:
        self.next_nonce[requester] += 1
        order = JobOrder(
            requester=requester,
            nonce=self.next_nonce[requester],
            class_id=terms.class_id,
            spec_hash=keccak(rng.randbytes(4)),
            task_count=rng.choice((1, 1, 2, 3, 300)),
            fuel_limit=rng.choice((10**7, 3 * 10**6 + 1)),
            input_bytes=10**6,
            seats=terms.seats,
            rounds=terms.rounds,
            commit_period=20,
            min_units=10,
            max_price=2 * PRICE,
            max_fee=10**7,
            valid_until=self.now + 100,
            flags=rng.choice((0, 0, 1)),
        )
        return replace(order, fuel_limit=10**6) if order.task_count == 300 else order

    def _spoil_order(self, rng: Random, order: JobOrder, fault: str) -> SignedOrder:
        separator = self.world.market.separator
        actor = next(a for a in REQUESTERS if a.address == order.requester)
        changes: dict[str, dict[str, Any]] = {
            "replay": {"nonce": max(0, order.nonce - rng.choice((1, 2, 300)))},
            "leap": {"nonce": order.nonce + rng.choice((200, 257, 600))},
            "expired": {"valid_until": self.now - rng.choice((0, 1))},
            "fee": {"max_fee": 1},
            "price": {"max_price": PRICE // 2},
            "period": {"commit_period": 1},
            "slow": {"fuel_limit": 10**11},
            "units": {"min_units": 10**6},
            "empty": {"task_count": rng.choice((0, 1 << 21))},
            "flags": {"flags": 2},
            "fuel": {"fuel_limit": self.world.params.max_task_fuel + 1},
            "strategy": {"strategy": 1},
            "capacity": {"fuel_limit": 10**7, "task_count": 25_600},
            "full": {"fuel_limit": 1, "task_count": 1 << 20},
            "terms": {"seats": order.seats + 1},
        }
        if fault == "deposit":
            return sign_order(separator, replace(order, requester=REQUESTERS[2].address), REQUESTERS[2])
        if fault == "leap":
            self.next_nonce[order.requester] = order.nonce + 600
        signed = sign_order(separator, replace(order, **changes.get(fault, {})), actor)
        if fault == "signature":
            return sign_order(separator, order, OUTSIDER)
        if fault == "altered":
            return SignedOrder(replace(order, max_price=order.max_price + 1), signed.signature)
        raw = signed.signature
        if fault == "high s":
            group = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
            s = group - int.from_bytes(raw[32:64], "big")
            return SignedOrder(order, raw[:32] + s.to_bytes(32, "big") + bytes((55 - raw[64],)))
        return SignedOrder(order, raw[:64] + bytes((raw[64] - 27,))) if fault == "v" else signed
