"""What a 402 of this provider says, and which terms it stands by. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from quorate.filecoin.payments import TokenDomain
from quorate.filecoin.spending import Currency, Target
from quorate.filecoin.terms import (
    MAX_EXACT_BYTES,
    ExactOffer,
    Offer,
    PaymentRequired,
    Resource,
    Terms,
    VoucherOffer,
    compute_price,
)
from quorate_node.filecoin.provider.catalog import Dataset

PERIOD_S = 12 * 3600
"""Terms end with the half day after the present one, so that a reader that comes back finds the same."""
MAX_TIMEOUT_S = 300
DEVNET_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Seller:
    """Who is paid, in what, through which contracts. `domain` is None for a token without EIP-3009."""

    currency: Currency
    payee: str
    pay: str
    operator: str
    domain: TokenDomain | None
    timeout_s: int = DEVNET_TIMEOUT_S

    def get_target(self, rail_id: int) -> Target:
        """Whom a rail pays."""
        return Target(self.currency, self.payee, self.operator, rail_id)

    def make_terms(self, dataset: Dataset, resource: str, now_s: int) -> Terms:
        """Terms of a dataset's piece, named as the request does."""
        named = (self.currency, self.payee, self.pay, self.operator, dataset.price_per_mib)
        return Terms(*named, resource, dataset.piece.size_bytes, compute_expiry(now_s))

    def make_exact(self, size: int, price_per_mib: int) -> ExactOffer | None:
        """An offer for the whole of something; None where it is too large to be all at risk."""
        if self.domain is None or size > MAX_EXACT_BYTES:
            return None
        amount = compute_price(size, price_per_mib)
        return ExactOffer(self.currency, amount, self.payee, self.timeout_s, self.domain, size) if amount else None

    def offer_piece(self, dataset: Dataset, name: str, resource: Resource, now_s: int, error: str) -> PaymentRequired:
        """For a piece by CID `name`: vouchers, and one payment where it is small."""
        offers: list[Offer] = [VoucherOffer.of(self.make_terms(dataset, name, now_s), self.timeout_s)]
        if (exact := self.make_exact(dataset.piece.size_bytes, dataset.price_per_mib)) is not None:
            offers.insert(0, exact)
        return PaymentRequired(resource, tuple(offers), error)

    def find_problem(self, terms: Terms, dataset: Dataset, now_s: int, *, is_known: bool) -> str | None:
        """Why a voucher under these terms is not taken for a new chunk; `is_known` if one was before."""
        ours = self.make_terms(dataset, terms.resource, now_s)
        if (terms.currency, terms.payee, terms.pay, terms.operator) != (
            ours.currency, ours.payee, ours.pay, ours.operator,
        ):  # fmt: skip
            return "these terms are not this provider's: another network, asset, payee or contract"
        if terms.expires <= now_s:
            return "these terms have ended: ask for new ones"
        if is_known:
            return None
        if (terms.size, terms.chunk) != (ours.size, ours.chunk):
            return f"these terms are for {terms.size} bytes, and the piece has {ours.size}"
        if terms.price_per_mib != ours.price_per_mib:
            return f"the price is {ours.price_per_mib} a MiB: ask for new terms"
        if terms.expires > ours.expires or terms.expires % PERIOD_S:
            return "no such terms were offered: their end is another"
        return None


def compute_expiry(now_s: int) -> int:
    """When terms that are offered now end, in unix seconds: half a day to a day later."""
    return (now_s // PERIOD_S + 2) * PERIOD_S
