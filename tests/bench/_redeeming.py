"""The chain's side of the spending limit under fire: rails that processes pay on, and what providers redeem of it."""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from quorate.chain.abi import Contract
from quorate.chain.account import SigningAccount
from quorate.chain.calls import build
from quorate.chain.types import to_hex
from quorate.devnet.filecoin import FilecoinDevnet
from quorate.filecoin import rails
from quorate.filecoin.chainbook import read_facts
from quorate.filecoin.ledger import Ledger
from quorate.filecoin.pay import PayChain
from quorate.filecoin.payments import SignedVoucher
from quorate.filecoin.reconciling import reconcile
from quorate.filecoin.spending import Entry, Scope, Target
from quorate.protocol.errors import ProtocolViolation

BLOCK_S = 0.05


@dataclass(frozen=True, slots=True)
class Purse:
    """A round's payer, and the rails that it may pay on, provider by provider."""

    account: SigningAccount
    targets: tuple[Target, ...]


class Market:
    """A chain with a provider account that redeems; payers come and go."""

    def __init__(self, devnet: FilecoinDevnet, chain: PayChain, seed: int) -> None:
        self._devnet, self.chain, self._random = devnet, chain, random.Random(seed)
        self.redeemer = SigningAccount.create()
        devnet.endow(self.redeemer.address, 0)

    def open_purse(self, providers: int, rails_each: int, lockup: int) -> Purse:
        """A fresh payer that has allowed, and locked, `lockup` on each rail, and not one unit more."""
        account, count = SigningAccount.create(), providers * rails_each
        self._devnet.endow(account.address, lockup * count)
        rails.fund(self.chain, account, lockup * count)
        rails.allow(self.chain, account, lockup * count)
        payees = [i // rails_each + 1 for i in range(count)]
        token = self.chain.contracts.token
        sent = [
            self.chain.send(account, build(Contract.OPERATOR, "openRail", token, payee.to_bytes(20, "big"), lockup))
            for payee in payees
        ]
        numbers = [int(self.chain.wait(each).find("RailOpened").fields["railId"]) for each in sent]
        operator = to_hex(self.chain.contracts.operator)
        targets = (
            Target(self.chain.contracts.currency, f"0x{payee:040x}", operator, number)
            for payee, number in zip(payees, numbers, strict=True)
        )
        return Purse(account, tuple(targets))

    def redeem(self, vouchers: Iterable[SignedVoucher]) -> None:
        """Redeem the best voucher of each rail, some by way of another one before, and try some once more."""
        by_rail: defaultdict[int, list[SignedVoucher]] = defaultdict(list)
        for signed in vouchers:
            by_rail[signed.voucher.rail_id].append(signed)
        rows = [sorted(found, key=lambda signed: signed.voucher.cumulative) for found in by_rail.values()]
        some = [self._random.choice(found) for found in rows if self._random.random() < 0.3]
        self._redeem_all(some)
        self._redeem_all([found[-1] for found in rows])
        if any(self._send(signed) is not None for signed in some):
            raise AssertionError("a voucher was redeemed twice")

    def read_redeemed(self, purse: Purse) -> tuple[dict[int, int], int]:
        """What the chain's events say: rail → what left the payer; and the fees of all."""
        facts = read_facts(self.chain, purse.account.address)
        return {rail_id: rail.gross for rail_id, rail in facts.rails.items()}, sum(r.fee for r in facts.rails.values())

    def compare(self, ledger: Ledger, purse: Purse) -> list[str]:
        """Payments that the ledger did not allow, as `reconcile` finds them."""
        return list(reconcile(ledger, self.chain, purse.account.address).problems)

    def _redeem_all(self, vouchers: Iterable[SignedVoucher]) -> None:
        sent = [self._send(signed) for signed in vouchers]
        for transaction in sent:
            if transaction is not None:
                self.chain.wait(transaction)

    def _send(self, signed: SignedVoucher) -> bytes | None:
        """The transaction; None where the voucher adds nothing, or nothing is locked any more."""
        try:
            return self.chain.send(self.redeemer, rails.encode_redeem(signed))
        except ProtocolViolation as error:
            if error.name not in ("StaleVoucher", "LockupSpent"):
                raise
            return None


@contextmanager
def open_market(seed: int) -> Iterator[Market]:
    """A chain of its own, which is gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="quorate-market-") as folder,
        FilecoinDevnet(Path(folder), block_time_s=BLOCK_S) as devnet,
        closing(devnet.connect()) as chain,
    ):
        yield Market(devnet, chain, seed)


def split(redeemed: Mapping[int, int], entries: Iterable[Entry]) -> dict[Scope, int]:
    """What of the redeemed falls to each scope: a rail's reservations follow each other, each from its base on."""
    by_rail: defaultdict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_rail[entry.target.rail_id].append(entry)
    found: defaultdict[Scope, int] = defaultdict(int)
    for rail_id, total in redeemed.items():
        if not total:
            continue
        ordered = sorted(by_rail[rail_id], key=lambda entry: (entry.base, entry.created_at))
        for entry, following in zip(ordered, [*ordered[1:], None], strict=True):
            end = total if following is None else min(total, following.base)
            for scope in entry.scopes:
                found[scope] += max(0, end - entry.base)
    return found
