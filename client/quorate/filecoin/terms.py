"""What a provider asks for data, and what a reader accepts of it. Pure values; `x402` writes and reads them.

A price is a whole number of the token's base units for a MiB (2^20 bytes), rounded up for each thing that is paid for
by itself: a resource that is paid in one shot, or each chunk of one that is paid by vouchers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from quorate.filecoin.payments import TokenDomain
from quorate.filecoin.piecetree import CHUNK_BYTES
from quorate.filecoin.spending import MAX_AMOUNT, Currency, Target
from quorate.protocol.errors import DataError
from quorate.protocol.hashing import keccak

MIB = 1 << 20
MAX_EXACT_BYTES = 64 * MIB
"""Above it nothing is sold in one shot: all of it would be at risk."""
MAX_SIZE_BYTES = 2**62
MAX_TIME_S = 2**53 - 1


class WireError(DataError):
    """What came from the other side is not what it has to be; `field` names the part of it."""

    def __init__(self, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field}: {problem}")


class OfferRefused(WireError):
    """An offer that is well-formed, and not what this reader would pay for."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What is for sale: absolute URL, and what it is said to be."""

    url: str
    description: str = ""
    mime_type: str = ""


@dataclass(frozen=True, slots=True)
class ExactOffer:
    """One payment by EIP-3009 for the whole resource; `size` in bytes, None where a server does not tell it.

    `timeout_s`: how long an authorization is valid at most.
    """

    currency: Currency
    amount: int
    payee: str
    timeout_s: int
    domain: TokenDomain
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a voucher's `terms_hash` stands for. `resource` is the CID as the request's path has it.

    `pay` and `operator` are the contracts FilecoinPay and RetrievalOperator, `expires` is in unix seconds, `chunk` and
    `size` in bytes.
    """

    currency: Currency
    payee: str
    pay: str
    operator: str
    price_per_mib: int
    resource: str
    size: int
    expires: int
    chunk: int = CHUNK_BYTES

    @property
    def hash(self) -> bytes:
        """32 bytes: keccak256 of canonical JSON (sorted keys, no spaces, UTF-8)."""
        values: dict[str, int | str] = {
            "asset": self.currency.token,
            "chunk": self.chunk,
            "expires": self.expires,
            "network": name_network(self.currency),
            "operator": self.operator,
            "pay": self.pay,
            "payTo": self.payee,
            "pricePerMib": str(self.price_per_mib),
            "resource": self.resource,
            "size": self.size,
        }
        return keccak(json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())

    @property
    def amount(self) -> int:
        """Price of the whole resource, chunk by chunk."""
        return compute_total(self.size, self.price_per_mib, self.chunk)

    def get_target(self, rail_id: int) -> Target:
        """Whom a voucher for a rail pays."""
        return Target(self.currency, self.payee, self.operator, rail_id)

    def price_chunk(self, index: int) -> int:
        """Price of chunk `index`. Raises WireError when there is no such chunk."""
        length = min(self.chunk, self.size - index * self.chunk)
        if index < 0 or length <= 0:
            raise WireError("chunk", f"{self.resource} has {-(-self.size // self.chunk)} chunks, and no {index}")
        return compute_price(length, self.price_per_mib)


@dataclass(frozen=True, slots=True)
class VoucherOffer:
    """Vouchers chunk by chunk. The resource that `terms_hash` covers stands in the request: see `get_terms`.

    `piece`, in an answer about a DAG, is the CID of the piece that its CAR is: that one can be read so.
    """

    currency: Currency
    amount: int
    payee: str
    timeout_s: int
    size: int
    chunk: int
    price_per_mib: int
    pay: str
    operator: str
    expires: int
    terms_hash: bytes
    piece: str = ""

    @classmethod
    def of(cls, terms: Terms, timeout_s: int, piece: str = "") -> VoucherOffer:
        """The offer of some terms."""
        t = terms
        named = (t.currency, t.amount, t.payee, timeout_s, t.size, t.chunk, t.price_per_mib, t.pay, t.operator)
        return cls(*named, t.expires, t.hash, piece)

    def get_terms(self, resource: str) -> Terms:
        """The terms, once they are seen to be about `resource`. Raises WireError when the hash is of other ones."""
        named = (self.currency, self.payee, self.pay, self.operator, self.price_per_mib)
        terms = Terms(*named, resource, self.size, self.expires, self.chunk)
        if terms.hash != self.terms_hash:
            raise WireError("extra.termsHash", f"it is not that of these terms for {resource}")
        return terms


Offer = ExactOffer | VoucherOffer


@dataclass(frozen=True, slots=True)
class PaymentRequired:
    """A 402: what is for sale, in which ways, and why it was not given. `skipped` schemes are not known here."""

    resource: Resource
    offers: tuple[Offer, ...]
    error: str = ""
    skipped: tuple[str, ...] = ()

    @property
    def exact(self) -> ExactOffer | None:
        """The first offer of that kind."""
        return next((each for each in self.offers if isinstance(each, ExactOffer)), None)

    @property
    def voucher(self) -> VoucherOffer | None:
        """The first offer of that kind."""
        return next((each for each in self.offers if isinstance(each, VoucherOffer)), None)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a reader will pay for; None stands for anything. `size` in bytes, `max_per_mib` in base units."""

    currency: Currency
    payee: str | None = None
    pay: str | None = None
    operator: str | None = None
    size: int | None = None
    max_per_mib: int | None = None


def check_offer(offer: Offer, expected: Expected, now_s: int) -> None:
    """Raises OfferRefused for an offer that is not what a reader expects: nothing was signed for it."""
    _expect("network", name_network(expected.currency), name_network(offer.currency))
    _expect("asset", expected.currency.token, offer.currency.token)
    _expect("payTo", expected.payee, offer.payee)
    _expect("extra.size", expected.size, offer.size)
    if isinstance(offer, VoucherOffer):
        _expect("extra.pay", expected.pay, offer.pay)
        _expect("extra.operator", expected.operator, offer.operator)
        if offer.expires <= now_s:
            raise OfferRefused("extra.expires", f"the offer ended at {offer.expires} (unix seconds): ask again")
    size = offer.size if offer.size is not None else expected.size
    if expected.max_per_mib is None:
        return
    if size is None:
        raise OfferRefused("extra.size", "the offer does not say how much it is for, so its price cannot be judged")
    if isinstance(offer, VoucherOffer):
        most = compute_total(size, expected.max_per_mib, offer.chunk)
    else:
        most = compute_price(size, expected.max_per_mib)
    if offer.amount > most:
        raise OfferRefused(
            "amount", f"{offer.amount} for {size} bytes is above the ceiling of {expected.max_per_mib} a MiB, {most}"
        )


def compute_price(size_bytes: int, price_per_mib: int) -> int:
    """Base units for so many bytes, rounded up."""
    return -(-size_bytes * price_per_mib // MIB)


def compute_total(size_bytes: int, price_per_mib: int, chunk: int = CHUNK_BYTES) -> int:
    """Base units for a resource that is paid chunk by chunk, each rounded up."""
    whole, rest = divmod(size_bytes, chunk)
    return whole * compute_price(chunk, price_per_mib) + compute_price(rest, price_per_mib)


def check_price(price_per_mib: int, size_bytes: int) -> None:
    """WireError when the price of so many bytes is no amount."""
    if price_per_mib < 0 or compute_total(size_bytes, price_per_mib) > MAX_AMOUNT:
        raise WireError("price", f"{price_per_mib} a MiB is not from 0 to 2^256 − 1 base units for {size_bytes} bytes")


def name_network(currency: Currency) -> str:
    """CAIP-2."""
    return f"eip155:{currency.chain_id}"


def with_error(required: PaymentRequired, error: str) -> PaymentRequired:
    """The same 402 with what was wrong with a payment."""
    return replace(required, error=error)


def _expect(field: str, wanted: object, found: object) -> None:
    if wanted is not None and found is not None and wanted != found:
        raise OfferRefused(field, f"{found}, where {wanted} is expected")
