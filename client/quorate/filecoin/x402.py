"""x402 version 2 on the wire: offers, payments and settlements as HTTP headers, each base64 of one JSON object.

Reading is strict: whatever is not exactly what it has to be raises WireError, which names the field. Schemes, networks
and fields that are not known here are passed over, as others may use them; `exact` is x402's own (EIP-3009), and
`quorate-voucher` ours.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from quorate.chain.types import to_hex
from quorate.filecoin.payments import SignedTransfer, SignedVoucher, TokenDomain, Voucher
from quorate.filecoin.piecetree import CHUNK_BYTES
from quorate.filecoin.spending import Currency, Target
from quorate.filecoin.terms import (
    MAX_SIZE_BYTES,
    MAX_TIME_S,
    ExactOffer,
    Offer,
    PaymentRequired,
    Resource,
    VoucherOffer,
    WireError,
    compute_total,
    name_network,
)
from quorate.filecoin.wirejson import MAX_HEADER_CHARS, Fields, parse_header, parse_json, show
from quorate.protocol.errors import ValidationError
from quorate.protocol.types import Address

VERSION = 2
REQUIRED, SIGNATURE, RESPONSE = "PAYMENT-REQUIRED", "PAYMENT-SIGNATURE", "PAYMENT-RESPONSE"
EXACT, VOUCHER = "exact", "quorate-voucher"
MAX_OFFERS = 16
_NETWORK = re.compile(r"eip155:([1-9][0-9]{0,19})")
_CAIP2 = re.compile(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ExactPayment:
    """A reader's single payment for an offer."""

    offer: ExactOffer
    transfer: SignedTransfer
    resource: Resource | None = None


@dataclass(frozen=True, slots=True)
class VoucherPayment:
    """A reader's voucher for an offer."""

    offer: VoucherOffer
    signed: SignedVoucher
    resource: Resource | None = None


Payment = ExactPayment | VoucherPayment


@dataclass(frozen=True, slots=True)
class Settlement:
    """What came of a single payment: the transaction's hash (32 bytes), or why there is none."""

    chain_id: int
    payer: Address | None
    transaction: bytes = b""
    error: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the chain has it."""
        return bool(self.transaction)


# reading ----------------------------------------------------------------------------------------------------------


def parse_required(header: str | None) -> PaymentRequired:
    """What PAYMENT-REQUIRED says. Raises WireError, also when it is not there."""
    fields = parse_header(REQUIRED, header)
    return _guarded(lambda: _read_required(fields))


def parse_required_body(body: bytes) -> PaymentRequired:
    """The same from a 402's body, as some servers send only that. Raises WireError."""
    if len(body) > MAX_HEADER_CHARS:
        raise WireError("body", f"{len(body)} bytes are more than {MAX_HEADER_CHARS}")
    fields = parse_json("body", body)
    return _guarded(lambda: _read_required(fields))


def parse_payment(header: str | None) -> Payment:
    """What PAYMENT-SIGNATURE says. Raises WireError."""
    fields = parse_header(SIGNATURE, header)
    return _guarded(lambda: _read_payment(fields))


def parse_settlement(header: str | None) -> Settlement:
    """What PAYMENT-RESPONSE says. Raises WireError."""
    fields = parse_header(RESPONSE, header)
    return _guarded(lambda: _read_settlement(fields))


def _read_required(fields: Fields) -> PaymentRequired:
    _check_version(fields)
    listed = fields.get("accepts")
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_OFFERS:
        fields.fail("accepts", f"a list of 1 to {MAX_OFFERS} offers is needed")
    read = [_read_offer(Fields(each, f"accepts[{number}]")) for number, each in enumerate(listed)]
    return PaymentRequired(
        _read_resource(fields.below("resource")),
        tuple(each for each in read if not isinstance(each, str)),
        fields.optional_text("error"),
        tuple(each for each in read if isinstance(each, str)),
    )


def _read_payment(fields: Fields) -> Payment:
    _check_version(fields)
    accepted = fields.below("accepted")
    offer = _read_offer(accepted)
    payload = fields.below("payload")
    resource = _read_resource(fields.below("resource")) if "resource" in fields else None
    if isinstance(offer, ExactOffer):
        return ExactPayment(offer, _read_transfer(payload, offer), resource)
    if isinstance(offer, str):
        accepted.fail("scheme", f"{show(offer)} cannot be paid here: use {EXACT} or {VOUCHER} of an eip155 network")
    v = payload.below("voucher")
    voucher = Voucher(v.amount("railId", 1), v.amount("cumulative", 1), v.data("termsHash", 32))
    if voucher.terms_hash != offer.terms_hash:
        v.fail("termsHash", "it is not that of the accepted offer")
    return VoucherPayment(offer, SignedVoucher(voucher, payload.data("signature", 65)), resource)


def _read_settlement(fields: Fields) -> Settlement:
    success = fields.get("success")
    if not isinstance(success, bool):
        fields.fail("success", "true or false is needed")
    payer = Address(bytes.fromhex(fields.address("payer")[2:])) if "payer" in fields else None
    transaction = fields.data("transaction", 32) if success else b""
    return Settlement(_read_chain_id(fields), payer, transaction, fields.optional_text("errorReason"))


def _read_resource(fields: Fields) -> Resource:
    return Resource(fields.text("url"), fields.optional_text("description"), fields.optional_text("mimeType"))


def _read_offer(fields: Fields) -> Offer | str:
    """An offer, or the name of a scheme that is not known here."""
    scheme = fields.text("scheme")
    if scheme not in (EXACT, VOUCHER):
        return scheme
    network = fields.text("network", _CAIP2, "a network as CAIP-2 writes it")
    if not network.startswith("eip155:"):
        return f"{scheme} of {network}"
    extra = fields.below("extra")
    if scheme == EXACT and extra.optional_text("assetTransferMethod") not in ("", "eip3009"):
        return f"{scheme} by {extra.text('assetTransferMethod')}"
    currency = Currency(_read_chain_id(fields), fields.address("asset"))
    amount, payee = fields.amount("amount", 1), fields.address("payTo")
    timeout_s = fields.number("maxTimeoutSeconds", 1, MAX_TIME_S)
    if scheme == EXACT:
        size = extra.number("size", 0, MAX_SIZE_BYTES) if "size" in extra else None
        domain = TokenDomain(extra.text("name"), extra.text("version"))
        return ExactOffer(currency, amount, payee, timeout_s, domain, size)
    offer = VoucherOffer(
        currency,
        amount,
        payee,
        timeout_s,
        extra.number("size", 1, MAX_SIZE_BYTES),
        extra.number("chunk", CHUNK_BYTES, CHUNK_BYTES),
        extra.amount("pricePerMib", 1),
        extra.address("pay"),
        extra.address("operator"),
        extra.number("expires", 1, MAX_TIME_S),
        extra.data("termsHash", 32),
        extra.optional_text("piece"),
    )
    if offer.amount != (total := compute_total(offer.size, offer.price_per_mib, offer.chunk)):
        fields.fail(
            "amount", f"{amount} is not the price of {offer.size} bytes at {offer.price_per_mib} a MiB: {total}"
        )
    return offer


def _read_transfer(payload: Fields, offer: ExactOffer) -> SignedTransfer:
    a = payload.below("authorization")
    if a.address("to") != offer.payee:
        a.fail("to", f"the payment goes to another than the accepted offer's payTo, {offer.payee}")
    return SignedTransfer(
        Address(bytes.fromhex(a.address("from")[2:])),
        Target(offer.currency, offer.payee),
        a.amount("value", 1),
        a.amount("validAfter"),
        a.amount("validBefore", 1),
        a.data("nonce", 32),
        payload.data("signature", 65),
    )


def _read_chain_id(fields: Fields) -> int:
    network = fields.text("network", _NETWORK, "a network as eip155:NUMBER")
    return int(network.removeprefix("eip155:"))


def _check_version(fields: Fields) -> None:
    if fields.number("x402Version", 0, MAX_TIME_S) != VERSION:
        fields.fail("x402Version", f"only version {VERSION} is spoken here")


def _guarded(read: Callable[[], _T]) -> _T:
    """What the values themselves refuse is the wire's fault, too."""
    try:
        return read()
    except WireError:
        raise
    except ValidationError as error:
        raise WireError("values", str(error)) from error


# writing ----------------------------------------------------------------------------------------------------------


def dump_required(required: PaymentRequired) -> bytes:
    """JSON of a 402: its body, and what the header holds."""
    values = {
        "x402Version": VERSION,
        "error": required.error,
        "resource": _write_resource(required.resource),
        "accepts": [write_offer(each) for each in required.offers],
    }
    return _dump(values)


def encode_required(required: PaymentRequired) -> str:
    """PAYMENT-REQUIRED."""
    return _encode(dump_required(required))


def encode_payment(payment: Payment) -> str:
    """PAYMENT-SIGNATURE."""
    payload: dict[str, Any]
    if isinstance(payment, ExactPayment):
        payload = {
            "signature": to_hex(payment.transfer.signature),
            "authorization": write_authorization(payment.transfer),
        }
    else:
        voucher = payment.signed.voucher
        values = {
            "railId": str(voucher.rail_id),
            "cumulative": str(voucher.cumulative),
            "termsHash": to_hex(voucher.terms_hash),
        }
        payload = {"voucher": values, "signature": to_hex(payment.signed.signature)}
    resource = {} if payment.resource is None else {"resource": _write_resource(payment.resource)}
    return _encode(
        _dump({"x402Version": VERSION, **resource, "accepted": write_offer(payment.offer), "payload": payload})
    )


def encode_settlement(settlement: Settlement) -> str:
    """PAYMENT-RESPONSE."""
    values: dict[str, Any] = {
        "success": settlement.is_success,
        "transaction": to_hex(settlement.transaction) if settlement.is_success else "",
        "network": f"eip155:{settlement.chain_id}",
    }
    if settlement.payer is not None:
        values["payer"] = to_hex(settlement.payer)
    return _encode(_dump(values | ({"errorReason": settlement.error} if settlement.error else {})))


def write_offer(offer: Offer) -> dict[str, Any]:
    """One entry of `accepts`."""
    common = {
        "network": name_network(offer.currency),
        "amount": str(offer.amount),
        "asset": offer.currency.token,
        "payTo": offer.payee,
        "maxTimeoutSeconds": offer.timeout_s,
    }
    if isinstance(offer, ExactOffer):
        size = {} if offer.size is None else {"size": offer.size}
        return {
            "scheme": EXACT,
            **common,
            "extra": {"name": offer.domain.name, "version": offer.domain.version, **size},
        }
    extra = {
        "size": offer.size,
        "chunk": offer.chunk,
        "pricePerMib": str(offer.price_per_mib),
        "pay": offer.pay,
        "operator": offer.operator,
        "expires": offer.expires,
        "termsHash": to_hex(offer.terms_hash),
    }
    return {"scheme": VOUCHER, **common, "extra": extra | ({"piece": offer.piece} if offer.piece else {})}


def write_authorization(transfer: SignedTransfer) -> dict[str, str]:
    """EIP-3009's fields, as x402 names them."""
    return {
        "from": to_hex(transfer.sender),
        "to": transfer.target.payee,
        "value": str(transfer.value),
        "validAfter": str(transfer.valid_after),
        "validBefore": str(transfer.valid_before),
        "nonce": to_hex(transfer.nonce),
    }


def _write_resource(resource: Resource) -> dict[str, str]:
    return {"url": resource.url, "description": resource.description, "mimeType": resource.mime_type}


def _dump(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
