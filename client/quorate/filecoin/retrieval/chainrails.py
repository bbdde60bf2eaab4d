"""The payer's rails, as the chain has them: one that can still pay enough, or a new one."""

from __future__ import annotations

from collections.abc import Set

from quorate.chain.account import Signer
from quorate.chain.types import parse_address, to_hex
from quorate.filecoin import rails
from quorate.filecoin.ledger import Ledger
from quorate.filecoin.pay import PayChain, RailState
from quorate.filecoin.retrieval.paying import TooLittleMoney
from quorate.filecoin.spending import PaidMoreThanSigned, Rail, Target


class ChainRails:
    """Rails of one wallet. A new one locks what is needed, and `least_lockup` base units at least, if they are there:
    opening a rail costs a transaction, and what is locked comes back when it is closed."""

    def __init__(self, chain: PayChain, payer: Signer, ledger: Ledger, least_lockup: int = 0) -> None:
        self._chain, self._payer, self._ledger, self._least = chain, payer, ledger, least_lockup

    def choose(self, payee: str, needed: int, busy: Set[int]) -> int:
        """As `paying.Rails`. Raises TooLittleMoney, ChainUnavailable, ProtocolViolation, and PaidMoreThanSigned where
        the chain has paid on a rail what the ledger did not allow: an older copy was put in its place."""
        chain = self._chain
        for rail_id in chain.list_rails(self._payer.address):
            if rail_id not in busy and self._count_left(chain.rail(rail_id), payee) >= needed:
                return rail_id
        lockup = needed
        if self._least > needed:
            lockup = max(needed, min(self._least, chain.balances(self._payer.address).lockable))
        try:
            return rails.open_rail(chain, self._payer, parse_address(payee), lockup)
        except rails.MoneyMissing as error:
            raise TooLittleMoney(str(error)) from error

    def has_tokens(self, amount: int) -> bool:
        """As `paying.Rails`."""
        return self._chain.balances(self._payer.address).tokens >= amount

    def _count_left(self, rail: RailState, payee: str) -> int:
        """Base units that a rail can pay beyond all that was signed for it; 0 for one that is no use."""
        contracts = self._chain.contracts
        if not rail.is_open or to_hex(rail.payee) != payee or rail.token != contracts.token:
            return 0
        target = Target(contracts.currency, payee, to_hex(contracts.operator), rail.rail_id)
        noted = self._ledger.get_rail(target)  # after the chain: whatever that shows was noted before
        signed = noted.total + (self._ledger.get_entry(noted.open_id).signed if noted.open_id else 0)
        if rail.redeemed > signed:
            if noted == Rail():
                return 0  # this ledger knows nothing of it: it is of an earlier one, or of another home
            raise PaidMoreThanSigned(
                f"rail {rail.rail_id} has paid {rail.redeemed}, and {signed} was signed by this ledger: it is an older"
                " copy, or the key is used elsewhere; see `filecoin reconcile`, and put the right one back"
            )
        return 0 if noted.is_final else rail.ceiling - noted.total
