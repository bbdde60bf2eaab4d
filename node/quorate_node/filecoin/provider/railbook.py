"""What the chain says about rails, asked for seldom: whoever makes up rail numbers must not keep the endpoint busy."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock

from quorate.filecoin.pay import PayChain, RailState
from quorate.protocol.errors import Busy, ProtocolViolation, ValidationError
from quorate.protocol.types import Address

FRESH_S = 10.0
RETRY_S = 1.0
MAX_RAILS = 4096
MAX_AT_ONCE = 4
STRANGERS_A_SECOND = 20.0
MIN_LOCKUP_PERIOD = 20
"""Epochs for which a closed rail has to stay redeemable, if the provider is to notice in time: ten minutes."""


class PaymentRefused(ValidationError):
    """A payment that is not taken; the message says which check failed. Nothing was taken or sent."""


@dataclass(frozen=True, slots=True)
class _Seen:
    state: RailState | None
    at: float


class RailBook:
    """States of rails, at most FRESH_S old. Methods block, and may be called from any thread."""

    def __init__(
        self,
        chain: PayChain,
        payee: Address,
        min_lockup_period: int = MIN_LOCKUP_PERIOD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chain, self._payee, self._min_period, self._clock = chain, payee, min_lockup_period, clock
        self._seen: OrderedDict[int, _Seen] = OrderedDict()
        self._lock, self._asking = Lock(), BoundedSemaphore(MAX_AT_ONCE)
        self._allowance, self._counted_at = STRANGERS_A_SECOND, clock()

    def get(self, rail_id: int, least: int, *, is_customer: bool) -> RailState:
        """A rail on which `least` in all can be redeemed, as far as it is known.

        Raises PaymentRefused for a rail that pays somebody else, or not reliably; Busy when too many ask for rails
        that nobody has paid on; ChainUnavailable.
        """
        with self._lock:
            seen = self._seen.get(rail_id)
        age = self._clock() - seen.at if seen else FRESH_S
        is_short = seen is not None and (seen.state is None or seen.state.ceiling < least)
        if seen is None or age >= FRESH_S or (is_short and age >= RETRY_S):
            if seen is None and not is_customer:
                self._admit_stranger()
            seen = self._ask(rail_id)
        if seen.state is None:
            raise PaymentRefused(f"rail {rail_id} is none of the operator contract's")
        self._check(seen.state)
        return seen.state

    @contextmanager
    def asking(self) -> Iterator[None]:
        """One of the few places in which strangers make the provider ask the chain. Raises Busy when all are taken."""
        if not self._asking.acquire(blocking=False):
            raise Busy("too many payments are being looked at: try again in a moment")
        try:
            yield
        finally:
            self._asking.release()

    def _check(self, rail: RailState) -> None:
        if rail.payee != self._payee:
            raise PaymentRefused(f"rail {rail.rail_id} pays 0x{rail.payee.hex()}, not this provider")
        if rail.token != self._chain.contracts.token:
            raise PaymentRefused(f"rail {rail.rail_id} pays in another token")
        if not rail.is_open:
            raise PaymentRefused(f"rail {rail.rail_id} was closed: open another")
        if rail.lockup_period < self._min_period:
            raise PaymentRefused(
                f"rail {rail.rail_id} could be closed and emptied within {rail.lockup_period} epochs:"
                f" a lockup period of {self._min_period} is needed"
            )

    def _ask(self, rail_id: int) -> _Seen:
        with self.asking():
            try:
                found = _Seen(self._chain.rail(rail_id), self._clock())
            except ProtocolViolation as error:
                if error.name != "RailUnknown":
                    raise
                found = _Seen(None, self._clock())
        with self._lock:
            self._seen[rail_id] = found
            self._seen.move_to_end(rail_id)
            if len(self._seen) > MAX_RAILS:
                self._seen.popitem(last=False)
        return found

    def _admit_stranger(self) -> None:
        with self._lock:
            now = self._clock()
            earned = (now - self._counted_at) * STRANGERS_A_SECOND
            self._allowance, self._counted_at = min(STRANGERS_A_SECOND, self._allowance + earned), now
            if self._allowance < 1:
                raise Busy("too many new rails at once: try again in a moment")
            self._allowance -= 1
