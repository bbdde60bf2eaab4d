"""Whatever comes as a header: it is read, or WireError says which field is wrong; nothing else is ever raised."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from quorate.filecoin import x402
from quorate.filecoin.payments import SignedTransfer, SignedVoucher, TokenDomain, Voucher
from quorate.filecoin.spending import MAX_AMOUNT, Currency, Target
from quorate.filecoin.terms import ExactOffer, PaymentRequired, Resource, Terms, VoucherOffer, WireError, compute_total
from quorate.filecoin.x402 import ExactPayment, Payment, Settlement, VoucherPayment
from quorate.protocol.types import Address

HEX = st.binary(min_size=20, max_size=20).map(lambda raw: f"0x{raw.hex()}")
TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), max_size=40).filter(str.isprintable)
CURRENCIES = st.builds(Currency, st.integers(1, 10**19), HEX)
DOMAINS = st.builds(TokenDomain, TEXT, TEXT)
RESOURCES = st.builds(Resource, TEXT, TEXT, TEXT)
PRICES, SIZES = st.integers(1, 2**180), st.integers(1, 2**62)
ALL_TERMS = st.builds(Terms, CURRENCIES, HEX, HEX, HEX, PRICES, TEXT, SIZES, st.integers(1, 2**53 - 1))
EXACTS = st.builds(
    ExactOffer, CURRENCIES, st.integers(1, MAX_AMOUNT), HEX, st.integers(1, 10**6), DOMAINS, st.none() | SIZES
)
VOUCHERS = st.builds(VoucherOffer.of, ALL_TERMS, st.integers(1, 10**6), TEXT)
OFFERED = st.builds(PaymentRequired, RESOURCES, st.lists(EXACTS | VOUCHERS, min_size=1, max_size=4).map(tuple), TEXT)


@st.composite
def payments(draw: st.DrawFn) -> Payment:
    resource = draw(st.none() | RESOURCES)
    signature = draw(st.binary(min_size=65, max_size=65))
    number = st.integers(1, MAX_AMOUNT)
    if draw(st.booleans()):
        terms = draw(ALL_TERMS)
        voucher = Voucher(draw(number), draw(number), terms.hash)
        return VoucherPayment(VoucherOffer.of(terms, 60), SignedVoucher(voucher, signature), resource)
    offer = draw(EXACTS)
    sender, nonce = Address(draw(st.binary(min_size=20, max_size=20))), draw(st.binary(min_size=32, max_size=32))
    target = Target(offer.currency, offer.payee)
    return ExactPayment(
        offer, SignedTransfer(sender, target, draw(number), 0, draw(number), nonce, signature), resource
    )


SETTLEMENTS = st.builds(
    Settlement,
    st.integers(1, 10**19),
    st.binary(min_size=20, max_size=20).map(Address),
    st.binary(max_size=32).filter(lambda raw: len(raw) in (0, 32)),
    TEXT,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | HEX | st.integers(0).map(str),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=8,
)


def read_any(header: str) -> int:
    """How many of the readers take it; those that do not raise WireError, and nothing else."""
    taken = 0
    for parse in (x402.parse_required, x402.parse_payment, x402.parse_settlement):
        try:
            parse(header)
        except WireError as error:
            refused = error.field, str(error)
        else:
            taken, refused = taken + 1, ("", "")
        assert all(refused) or not any(refused)
        assert refused[1].isprintable()
    return taken


@given(OFFERED)
def test_offers_go_round(offered: PaymentRequired) -> None:
    assert x402.parse_required_body(x402.dump_required(offered)) == offered


@given(payments())
def test_payments_go_round(payment: Payment) -> None:
    assert x402.parse_payment(x402.encode_payment(payment)) == payment


@given(SETTLEMENTS)
def test_settlements_go_round(settlement: Settlement) -> None:
    assert x402.parse_settlement(x402.encode_settlement(settlement)) == settlement


@given(st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
def test_garbage_is_no_header(header: str) -> None:
    assert read_any(header) == 0


@given(JSON)
def test_json_that_means_something_else_is_refused(values: Any) -> None:
    read_any(base64.b64encode(json.dumps(values).encode()).decode())


@given(OFFERED.map(x402.encode_required) | payments().map(x402.encode_payment), st.data())
def test_one_field_that_is_something_else(header: str, data: st.DataObject) -> None:
    values = json.loads(base64.b64decode(header))
    at = values
    while True:
        key = data.draw(st.sampled_from(list(at) if isinstance(at, dict) else list(range(len(at)))))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
            break
        at = at[key]
    if data.draw(st.booleans()):
        at[key] = data.draw(JSON)
    else:
        del at[key]
    read_any(base64.b64encode(json.dumps(values).encode()).decode())


@given(SIZES, PRICES)
def test_a_resource_costs_what_its_chunks_cost(size: int, price: int) -> None:
    size %= 50 * 1_040_384
    terms = Terms(Currency(1, "0x" + "11" * 20), "0x" + "22" * 20, "0x", "0x", price, "piece", size, 1)
    chunks = -(-size // terms.chunk)
    assert sum(map(terms.price_chunk, range(chunks))) == terms.amount == compute_total(size, price)
    assert terms.amount * 2**20 >= size * price
