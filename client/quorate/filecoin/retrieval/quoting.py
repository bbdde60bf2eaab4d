"""What providers ask, and which of it a reader takes. Pure: answers and the time are arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.piecetree import CHUNK_BYTES
from quorate.filecoin.retrieval.wanted import Wanted
from quorate.filecoin.spending import Currency
from quorate.filecoin.terms import (
    ExactOffer,
    Expected,
    Offer,
    OfferRefused,
    PaymentRequired,
    WireError,
    check_offer,
)
from quorate.filecoin.wirejson import parse_header
from quorate.filecoin.x402 import REQUIRED, parse_required, parse_required_body
from quorate.protocol.errors import DataError
from quorate.storage.urls import normalize_url


@dataclass(frozen=True, slots=True)
class Buyer:
    """What a reader pays with, and at most: `max_per_mib` base units a MiB (None: any), `exact_bytes` in one shot."""

    currency: Currency
    pay: str | None = None
    operator: str | None = None
    max_per_mib: int | None = None
    exact_bytes: int = CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class Quote:
    """What one provider asks for something; no offer: it is free. `size` in bytes, None where it was not told.

    `hint` is the piece in which a paid DAG lies: read it instead. `others` are further ways to pay that are as good.
    """

    url: str
    size: int | None
    offer: Offer | None = None
    required: PaymentRequired | None = None
    hint: PieceCid | None = None
    others: tuple[Offer, ...] = ()

    @property
    def amount(self) -> int:
        """Base units for all of it."""
        return 0 if self.offer is None else self.offer.amount


def read_required(headers: Mapping[str, str], body: bytes) -> PaymentRequired:
    """What a 402 asks; its header counts, and its body where there is none. Raises WireError."""
    header = headers.get(REQUIRED.lower())
    return parse_required_body(body) if header is None else parse_required(header)


def judge(
    url: str, wanted: Wanted, required: PaymentRequired, hint: PieceCid | None, buyer: Buyer | None,
    payee: str | None, now_s: int,
) -> Quote:  # fmt: skip
    """The offer to take of a 402. Raises OfferRefused, WireError or DataError where there is none.

    Without a `buyer` nothing is paid for; `payee` is the account that the operator named for this provider.
    """
    if buyer is None:
        raise OfferRefused("accepts", "it is not free, and there is no wallet with a limit to pay from")
    _check_resource(url, wanted, hint, required)
    expected = Expected(buyer.currency, payee, buyer.pay, buyer.operator, wanted.size_bytes, buyer.max_per_mib)
    problem: WireError | None = None
    good: list[Offer] = []
    for offer in _rank(required, buyer):
        try:
            check_offer(offer, expected, now_s)
            _check_use(offer, wanted, hint, buyer)
        except WireError as error:
            problem = problem or error
        else:
            good.append(offer)
    if good:
        return Quote(url, good[0].size, good[0], required, hint, tuple(good[1:]))
    if problem is not None:
        raise problem
    raise OfferRefused("accepts", f"no way to pay that is known here ({', '.join(required.skipped) or 'none at all'})")


def read_hint(headers: Mapping[str, str]) -> PieceCid | None:
    """The piece in which a paid DAG lies, our extension: by `extra.piece` of an offer, or where `resource.url` is that
    of the piece. Raises WireError, DataError."""
    header = headers.get(REQUIRED.lower())
    if header is None:
        return None
    fields = parse_header(REQUIRED, header)
    listed = fields.get("accepts")
    for each in listed if isinstance(listed, list) else ():
        extra = each.get("extra") if isinstance(each, dict) else None
        text = extra.get("piece") if isinstance(extra, dict) else None
        if isinstance(text, str):
            return PieceCid.parse(text)
    name = _find_piece(urlsplit(fields.below("resource").text("url")).path)
    return PieceCid.parse(name) if name is not None else None


def _find_piece(path: str) -> str | None:
    parts = path.split("/")
    return parts[-1] if len(parts) > 2 and parts[-2] == "piece" else None


def sort_quotes(quotes: Iterable[Quote]) -> list[Quote]:
    """The cheapest first; among equals in the order in which they were asked."""
    return sorted(quotes, key=lambda quote: quote.amount)


def check_size(wanted: Wanted, size: int | None) -> None:
    """Raise DataError when a provider has something of another size than the CID says."""
    if wanted.size_bytes is not None and size is not None and size != wanted.size_bytes:
        raise DataError(f"it has {size} bytes where {wanted.text} has {wanted.size_bytes}")


def _rank(required: PaymentRequired, buyer: Buyer) -> list[Offer]:
    """One shot for what is small, for it needs no rail; else vouchers."""
    exact, voucher = required.exact, required.voucher
    is_small = exact is not None and exact.size is not None and exact.size <= buyer.exact_bytes
    order = (exact, voucher) if is_small else (voucher, exact)
    return [each for each in order if each is not None]


def _check_use(offer: Offer, wanted: Wanted, hint: PieceCid | None, buyer: Buyer) -> None:
    if isinstance(offer, ExactOffer):
        size = offer.size if offer.size is not None else wanted.size_bytes
        if size is None or size > buyer.exact_bytes:
            what = "an unknown number of" if size is None else size
            raise OfferRefused(
                "scheme", f"{what} bytes would be paid before one of them is verified, and {buyer.exact_bytes} are the "
                "most (exact_bytes)",
            )  # fmt: skip
    elif wanted.piece is not None:
        offer.get_terms(urlsplit(wanted.path).path.rpartition("/")[2])
    elif hint is None:
        raise OfferRefused("extra.piece", "vouchers for a DAG need the piece in which it lies, to verify by chunks")


def _check_resource(url: str, wanted: Wanted, hint: PieceCid | None, required: PaymentRequired) -> None:
    asked, told = (urlsplit(normalize_url(each)) for each in (url + wanted.path, required.resource.url))
    paths = [asked.path]
    if hint is not None:
        paths.append(f"{urlsplit(url).path}/piece/{hint.v2}")
    if told.netloc != asked.netloc or told.path not in paths:
        raise OfferRefused("resource.url", f"{required.resource.url[:200]!r} is not what was asked for")
