"""Vouchers become money: now and then, at once when a reader closes its rail, and before the provider stops.

Only a rail's best voucher is sent. What the chain says was redeemed is what counts: a crash between sending and noting,
or somebody else who redeems the same voucher, changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Lock, Thread

from quorate.chain.account import Signer
from quorate.filecoin import rails
from quorate.filecoin.pay import PayChain, RailState
from quorate.protocol.errors import ProtocolViolation, QuorateError
from quorate_node.filecoin.provider.tally import Tally
from quorate_node.filecoin.provider.till import RailAccount, Till
from quorate_node.logs import get_logger

WATCH_S = 15.0
EVERY_S = 600.0
PAUSE_S = 3600.0
"""A rail whose redemption fails for a reason of its own is tried again after this."""


class Redeemer:
    """A thread of its own. `every_s`: how long what is owed may stay unredeemed on a rail that is open."""

    def __init__(
        self,
        till: Till,
        chain: PayChain,
        account: Signer,
        tally: Tally,
        *,
        every_s: float = EVERY_S,
        watch_s: float = WATCH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._till, self._chain, self._account, self._tally = till, chain, account, tally
        self._every_s, self._watch_s, self._clock = every_s, watch_s, clock
        self._due, self._paused = clock() + every_s, dict[str, float]()
        self._stopped, self._lock = Event(), Lock()
        self._thread = Thread(target=self._run, name="redeemer", daemon=True)
        self._log = get_logger()

    def start(self) -> None:
        """Begin to watch rails."""
        self._thread.start()

    def stop(self) -> int:
        """Redeem all that is owed, and end; base units that are still owed then."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self.redeem_all(is_due=True)
        except QuorateError as error:
            self._log.error("vouchers are kept, and not redeemed", error=str(error))
        return sum(each.owed for each in self._till.list_rails() if not each.is_over)

    def _run(self) -> None:
        while not self._stopped.wait(self._watch_s):
            is_due = self._clock() >= self._due
            try:
                self.redeem_all(is_due=is_due)
            except QuorateError as error:
                self._log.warning("cannot look at rails", error=str(error))
                continue
            if is_due:
                self._due = self._clock() + self._every_s

    def redeem_all(self, *, is_due: bool) -> int:
        """Redeem what is owed on rails that were closed, and with `is_due` on all; base units redeemed.

        Raises ChainUnavailable and what else is nobody's fault.
        """
        redeemed = 0
        with self._lock:
            for account in self._till.list_rails():
                if account.owed > 0 and not account.is_over:
                    try:
                        redeemed += self._look_at(account, is_due=is_due)
                    except ProtocolViolation as error:  # as from a chain that was started anew
                        self._log.error("a rail cannot be read", rail=account.target.rail, error=str(error))
        return redeemed

    def _look_at(self, account: RailAccount, *, is_due: bool) -> int:
        rail = self._chain.rail(account.target.rail_id)
        if rail.redeemed != account.redeemed or rail.has_ended:
            self._till.note_redeemed(account.target, rail.redeemed, is_over=rail.has_ended)
        owed = account.best.voucher.cumulative - rail.redeemed
        if owed <= 0:
            return 0
        if rail.has_ended:
            self._log.error("a rail ended before its vouchers were redeemed", rail=account.target.rail, lost=owed)
            return 0
        if rail.is_open and not is_due:
            return 0
        if self._clock() < self._paused.get(account.target.rail, 0):
            return 0
        return self._redeem(account, rail)

    def _redeem(self, account: RailAccount, rail: RailState) -> int:
        name = account.target.rail
        try:
            done = rails.redeem(self._chain, self._account, account.best)
        except ProtocolViolation as error:
            self._tally.count("redemptions", error.name)
            if error.name not in ("StaleVoucher", "InsufficientFunds"):
                self._paused[name] = self._clock() + PAUSE_S
            self._log.error("a voucher was not redeemed", rail=name, error=str(error))
            return 0
        after = self._chain.rail(rail.rail_id)
        self._till.note_redeemed(account.target, after.redeemed, is_over=after.has_ended)
        self._tally.count("redemptions", "redeemed")
        self._log.info("redeemed", rail=name, amount=str(done.amount), fee=str(done.fee), net=str(done.net))
        return done.amount
