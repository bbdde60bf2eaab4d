"""Offers, payments and settlements on the wire: PyPI's x402 reads ours and writes what we read; all else stays out.

The three headers here were made by x402 2.25.0: the first read from our own writer and written again, the second by its
client, which chose our `exact` out of it and signed with the key of 32 bytes 5, the third as its servers settle.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from quorate.chain.account import SigningAccount
from quorate.chain.signing import recover
from quorate.filecoin import terms, x402
from quorate.filecoin.payments import SignedVoucher, TokenDomain, Voucher, hash_transfer
from quorate.filecoin.spending import MAX_AMOUNT, Currency
from quorate.filecoin.terms import (
    ExactOffer,
    Expected,
    OfferRefused,
    PaymentRequired,
    Resource,
    Terms,
    VoucherOffer,
    WireError,
    check_offer,
    compute_price,
    compute_total,
)
from quorate.filecoin.x402 import ExactPayment, Settlement, VoucherPayment
from quorate.protocol.hashing import keccak

REQUIRED = (
    "eyJ4NDAyVmVyc2lvbiI6MiwiZXJyb3IiOiJwYXltZW50IHJlcXVpcmVkIiwicmVzb3VyY2UiOnsidXJsIjoiaHR0cDovLzEyNy4wLjAuMTox"
    "L3BpZWNlL2JhZ2E2ZWE0c2VhcSIsImRlc2NyaXB0aW9uIjoidGlsZXMiLCJtaW1lVHlwZSI6ImFwcGxpY2F0aW9uL29jdGV0LXN0cmVhbSJ9"
    "LCJhY2NlcHRzIjpbeyJzY2hlbWUiOiJleGFjdCIsIm5ldHdvcmsiOiJlaXAxNTU6MzE0MTU5MjYiLCJhc3NldCI6IjB4MTExMTExMTExMTEx"
    "MTExMTExMTExMTExMTExMTExMTExMTExMTExMSIsImFtb3VudCI6IjQ3NjkiLCJwYXlUbyI6IjB4MzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMz"
    "MzMzMzMzMzMzMzMzMzMzMyIsIm1heFRpbWVvdXRTZWNvbmRzIjo2MCwiZXh0cmEiOnsibmFtZSI6IlVTRCBmb3IgRmlsZWNvaW4gQ29tbXVu"
    "aXR5IiwidmVyc2lvbiI6IjEiLCJzaXplIjo1MDAwMDAwfX0seyJzY2hlbWUiOiJxdW9yYXRlLXZvdWNoZXIiLCJuZXR3b3JrIjoiZWlwMTU1"
    "OjMxNDE1OTI2IiwiYXNzZXQiOiIweDExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTEiLCJhbW91bnQiOiI0NzcyIiwi"
    "cGF5VG8iOiIweDMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMiLCJtYXhUaW1lb3V0U2Vjb25kcyI6NjAsImV4dHJh"
    "Ijp7InNpemUiOjUwMDAwMDAsImNodW5rIjoxMDQwMzg0LCJwcmljZVBlck1pYiI6IjEwMDAiLCJwYXkiOiIweDQ0NDQ0NDQ0NDQ0NDQ0NDQ0"
    "NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQiLCJvcGVyYXRvciI6IjB4MjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMiIs"
    "ImV4cGlyZXMiOjIwMDAwMDAwMDAsInRlcm1zSGFzaCI6IjB4YWMyOTZkNzcyZTE3NGNhMzQ2YjRlMjY5YzVkYjdkMWM1ZmM3ZTljYzkxZGM2"
    "ZTAwMTNjYTQzMGNhMGUwMjBiZiJ9fV19"
)
SIGNATURE = (
    "eyJ4NDAyVmVyc2lvbiI6MiwicGF5bG9hZCI6eyJhdXRob3JpemF0aW9uIjp7ImZyb20iOiIweGQwOUFkMTQwODBkNGIyNTdhODE5YTRmNTc5"
    "Yjg0ODVCZTg4ZjA4NmMiLCJ0byI6IjB4MzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMyIsInZhbHVlIjoiNDc2OSIs"
    "InZhbGlkQWZ0ZXIiOiIwIiwidmFsaWRCZWZvcmUiOiIxODAwMDAwMDYwIiwibm9uY2UiOiIweGFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFi"
    "YWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWIifSwic2lnbmF0dXJlIjoiMHhmMzQzYzczZDhmMjgyODFiMTRiNDFjZjZl"
    "ZjBjMDNhZmNjYmE5M2I3OTAwNTQ3ZTA3ZDNiYzViMmMwNTY5NTQ1NzljMWJlNGQ4ZjRkNjA1ZmY1YWM2ODUxYzk5OWNmMTc1ZTg4MWYxNTUw"
    "ZWJjODcwM2Q2NmFkYTFhZjI1NTVkNTFjIn0sImFjY2VwdGVkIjp7InNjaGVtZSI6ImV4YWN0IiwibmV0d29yayI6ImVpcDE1NTozMTQxNTky"
    "NiIsImFzc2V0IjoiMHgxMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExIiwiYW1vdW50IjoiNDc2OSIsInBheVRvIjoi"
    "MHgzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzIiwibWF4VGltZW91dFNlY29uZHMiOjYwLCJleHRyYSI6eyJuYW1l"
    "IjoiVVNEIGZvciBGaWxlY29pbiBDb21tdW5pdHkiLCJ2ZXJzaW9uIjoiMSIsInNpemUiOjUwMDAwMDB9fSwicmVzb3VyY2UiOnsidXJsIjoi"
    "aHR0cDovLzEyNy4wLjAuMToxL3BpZWNlL2JhZ2E2ZWE0c2VhcSIsImRlc2NyaXB0aW9uIjoidGlsZXMiLCJtaW1lVHlwZSI6ImFwcGxpY2F0"
    "aW9uL29jdGV0LXN0cmVhbSJ9fQ=="
)
RESPONSE = (
    "eyJzdWNjZXNzIjogdHJ1ZSwgInBheWVyIjogIjB4ZDA5QWQxNDA4MGQ0YjI1N2E4MTlhNGY1NzliODQ4NUJlODhmMDg2YyIsICJ0cmFuc2Fj"
    "dGlvbiI6ICIweGNkY2RjZGNkY2RjZGNkY2RjZGNkY2RjZGNkY2RjZGNkY2RjZGNkY2RjZGNkY2RjZGNkY2RjZGNkY2RjZGNkY2QiLCAibmV0"
    "d29yayI6ICJlaXAxNTU6MzE0MTU5MjYifQ=="
)
PAYER = SigningAccount.from_key(b"\x05" * 32).address
CURRENCY = Currency(31415926, "0x" + "11" * 20)
PAYEE, OPERATOR, PAY = "0x" + "33" * 20, "0x" + "22" * 20, "0x" + "44" * 20
SIZE, PIECE = 5_000_000, "baga6ea4seaq"
TERMS = Terms(CURRENCY, PAYEE, PAY, OPERATOR, 1000, PIECE, SIZE, 2_000_000_000)
EXACT = ExactOffer(CURRENCY, 4769, PAYEE, 60, TokenDomain("USD for Filecoin Community", "1"), SIZE)
VOUCHER = VoucherOffer.of(TERMS, 60)
RESOURCE = Resource(f"http://127.0.0.1:1/piece/{PIECE}", "tiles", "application/octet-stream")
OFFERED = PaymentRequired(RESOURCE, (EXACT, VOUCHER), "payment required")
PAID = VoucherPayment(VOUCHER, SignedVoucher(Voucher(7, 993, TERMS.hash), b"\x01" * 65), RESOURCE)


def open_header(header: str) -> Any:
    return json.loads(base64.b64decode(header))


def close_header(values: Any) -> str:
    return base64.b64encode(json.dumps(values).encode()).decode()


def test_the_x402_package_reads_and_writes_the_offers() -> None:
    assert x402.parse_required(REQUIRED) == OFFERED
    assert open_header(x402.encode_required(OFFERED)) == open_header(REQUIRED)
    assert x402.parse_required_body(x402.dump_required(OFFERED)) == OFFERED
    assert (OFFERED.exact, OFFERED.voucher) == (EXACT, VOUCHER)


def test_the_x402_package_pays_the_exact_offer() -> None:
    paid = x402.parse_payment(SIGNATURE)
    assert isinstance(paid, ExactPayment)
    assert (paid.offer, paid.resource) == (EXACT, RESOURCE)
    t = paid.transfer
    assert (t.sender, t.value, t.valid_after, t.valid_before, t.nonce) == (PAYER, 4769, 0, 1_800_000_060, b"\xab" * 32)
    digest = hash_transfer(paid.offer.domain, t.target, t.sender, t.value, t.valid_after, t.valid_before, t.nonce)
    assert recover(digest, t.signature) == PAYER
    assert x402.parse_payment(x402.encode_payment(paid)) == paid


def test_settlements_go_round() -> None:
    settled = x402.parse_settlement(RESPONSE)
    assert settled == Settlement(31415926, PAYER, b"\xcd" * 32)
    assert x402.parse_settlement(x402.encode_settlement(settled)) == settled
    failed = Settlement(31415926, None, error="insufficient_funds")
    assert not failed.is_success
    assert x402.parse_settlement(x402.encode_settlement(failed)) == failed


def test_vouchers_go_round() -> None:
    assert x402.parse_payment(x402.encode_payment(PAID)) == PAID
    assert PAID.offer.get_terms(PIECE) == TERMS
    with pytest.raises(WireError, match="termsHash"):
        PAID.offer.get_terms("another")


def test_the_hash_of_terms_is_that_of_their_canonical_json() -> None:
    text = (
        f'{{"asset":"{CURRENCY.token}","chunk":1040384,"expires":2000000000,"network":"eip155:31415926",'
        f'"operator":"{OPERATOR}","pay":"{PAY}","payTo":"{PAYEE}","pricePerMib":"1000","resource":"{PIECE}",'
        f'"size":5000000}}'
    )
    assert TERMS.hash == keccak(text.encode())


def test_prices_are_rounded_up_for_each_thing_that_is_paid() -> None:
    assert [compute_price(size, 1000) for size in (0, 1, 1048, 1049, 1 << 20)] == [0, 1, 1, 2, 1000]
    assert [TERMS.price_chunk(index) for index in range(5)] == [993, 993, 993, 993, 800]
    assert TERMS.amount == compute_total(SIZE, 1000) == 4 * 993 + 800
    for index in (-1, 5):
        with pytest.raises(WireError, match="chunks"):
            TERMS.price_chunk(index)
    terms.check_price(MAX_AMOUNT >> 11, 1 << 30)
    for price in (-1, MAX_AMOUNT):
        with pytest.raises(WireError, match="price"):
            terms.check_price(price, 1 << 30)


def test_what_others_offer_is_passed_over() -> None:
    values = open_header(REQUIRED)
    exact = values["accepts"][0]
    values["accepts"] += [
        exact | {"scheme": "upto"},
        exact | {"network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"},
        exact | {"extra": exact["extra"] | {"assetTransferMethod": "permit2"}},
    ]
    values["extensions"] = {"bazaar": {}}
    values["resource"]["tags"] = ["tiles"]
    found = x402.parse_required(close_header(values))
    assert found.offers == OFFERED.offers
    assert found.skipped == ("upto", "exact of solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "exact by permit2")


def test_a_checksummed_address_is_the_same_and_a_wrong_checksum_none() -> None:
    values, right = open_header(REQUIRED), "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    values["accepts"] = [values["accepts"][0] | {"payTo": right}]
    assert x402.parse_required(close_header(values)).offers[0].payee == right.lower()
    values["accepts"][0]["payTo"] = right.replace("aA", "Aa")
    with pytest.raises(WireError, match="checksum"):
        x402.parse_required(close_header(values))


WRONG_OFFERS: list[tuple[str, int, str, Any]] = [
    ("amount", 0, "amount", amount)
    for amount in ("-1", "+1", "1.5", "1e3", "01", "", " 1", "0x10", "٣", 4769, None, True, "0", str(2**256), "9" * 79)
] + [
    ("network", 0, "network", "eip155:0"),
    ("network", 0, "network", "eip155"),
    ("network", 0, "network", "base"),
    ("asset", 0, "asset", "0x" + "1" * 39),
    ("asset", 0, "asset", ["0x"]),
    ("payTo", 1, "payTo", "f410fkkdc"),
    ("maxTimeoutSeconds", 0, "maxTimeoutSeconds", "60"),
    ("maxTimeoutSeconds", 0, "maxTimeoutSeconds", 0),
    ("maxTimeoutSeconds", 0, "maxTimeoutSeconds", True),
    ("scheme", 0, "scheme", None),
    ("amount", 1, "amount", "4771"),
]
WRONG_EXTRAS: list[tuple[str, int, str, Any]] = [
    ("extra.name", 0, "name", None),
    ("extra.version", 0, "version", 1),
    ("extra.size", 0, "size", -1),
    ("extra.size", 1, "size", 0),
    ("extra.size", 1, "size", 2**63),
    ("extra.chunk", 1, "chunk", 1 << 20),
    ("extra.pricePerMib", 1, "pricePerMib", 1000),
    ("extra.pay", 1, "pay", ""),
    ("extra.operator", 1, "operator", "0x" + "g" * 40),
    ("extra.expires", 1, "expires", 0),
    ("extra.termsHash", 1, "termsHash", "0x" + "00" * 31),
]


@pytest.mark.parametrize(("field", "at", "name", "value"), WRONG_OFFERS)
def test_offers_that_are_not_exact_are_refused(field: str, at: int, name: str, value: Any) -> None:
    values = open_header(REQUIRED)
    values["accepts"][at][name] = value
    check_refused(values, field)
    del values["accepts"][at][name]
    check_refused(values, field)


@pytest.mark.parametrize(("field", "at", "name", "value"), WRONG_EXTRAS)
def test_extras_that_are_not_exact_are_refused(field: str, at: int, name: str, value: Any) -> None:
    values = open_header(REQUIRED)
    values["accepts"][at]["extra"][name] = value
    check_refused(values, field)


def check_refused(values: Any, field: str) -> None:
    with pytest.raises(WireError) as raised:
        x402.parse_required(close_header(values))
    assert raised.value.field.endswith(field)


def change(path: str, value: Any) -> Callable[[Any], None]:
    *above, name = path.split(".")

    def run(values: Any) -> None:
        for each in above:
            values = values[each]
        values[name] = value

    return run


@pytest.mark.parametrize(
    ("header", "path", "value"),
    [
        (SIGNATURE, "x402Version", 1),
        (SIGNATURE, "accepted.scheme", "upto"),
        (SIGNATURE, "payload.authorization.to", OPERATOR),
        (SIGNATURE, "payload.authorization.value", "0"),
        (SIGNATURE, "payload.authorization.validBefore", "-1"),
        (SIGNATURE, "payload.authorization.nonce", "0x" + "ab" * 31),
        (SIGNATURE, "payload.signature", "0x" + "ab" * 64),
        (SIGNATURE, "payload.signature", "ab" * 65),
        (x402.encode_payment(PAID), "payload.voucher.railId", "0"),
        (x402.encode_payment(PAID), "payload.voucher.railId", 7),
        (x402.encode_payment(PAID), "payload.voucher.cumulative", str(2**256)),
        (x402.encode_payment(PAID), "payload.voucher.cumulative", "993.0"),
        (x402.encode_payment(PAID), "payload.voucher.termsHash", "0x" + "00" * 32),
        (x402.encode_payment(PAID), "payload.voucher", []),
    ],
)
def test_payments_that_are_not_exact_are_refused(header: str, path: str, value: Any) -> None:
    values = open_header(header)
    change(path, value)(values)
    with pytest.raises(WireError) as raised:
        x402.parse_payment(close_header(values))
    assert raised.value.field.endswith(path.split(".")[-1])


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "{}",
        "é",
        REQUIRED[:-1],
        REQUIRED.rstrip("=") + "====",
        REQUIRED.replace("e", "-", 1),
        REQUIRED + "\n",
        base64.b64encode(b"[]").decode(),
        base64.b64encode(b"\xff").decode(),
        base64.b64encode(b'{"x402Version":2,"x402Version":2}').decode(),
        base64.b64encode(b'{"x402Version":2.0}').decode(),
        base64.b64encode(b'{"x402Version":NaN}').decode(),
        base64.b64encode(b"[" * 12_000).decode(),
        base64.b64encode(b'{"x402Version":' + b"9" * 5000 + b"}").decode(),
        "A" * (16 * 1024 + 4),
    ],
)
def test_what_is_no_header_is_refused(header: str | None) -> None:
    for parse in (x402.parse_required, x402.parse_payment, x402.parse_settlement):
        with pytest.raises(WireError):
            parse(header)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("network", Expected(Currency(1, CURRENCY.token))),
        ("asset", Expected(Currency(CURRENCY.chain_id, "0x" + "12" * 20))),
        ("payTo", Expected(CURRENCY, payee=OPERATOR)),
        ("extra.size", Expected(CURRENCY, size=SIZE + 1)),
        ("amount", Expected(CURRENCY, max_per_mib=999)),
    ],
)
def test_a_reader_refuses_what_it_does_not_expect(field: str, expected: Expected) -> None:
    for offer in (EXACT, VOUCHER):
        with pytest.raises(OfferRefused) as raised:
            check_offer(offer, expected, 1_900_000_000)
        assert raised.value.field == field


def test_a_reader_refuses_other_contracts_and_old_offers() -> None:
    good = Expected(CURRENCY, PAYEE, PAY, OPERATOR, SIZE, 1000)
    check_offer(VOUCHER, good, 1_999_999_999)
    check_offer(EXACT, good, 0)
    for field, expected in (("extra.pay", replace(good, pay=PAYEE)), ("extra.operator", replace(good, operator=PAYEE))):
        with pytest.raises(OfferRefused, match=field):
            check_offer(VOUCHER, expected, 0)
    with pytest.raises(OfferRefused, match="ended"):
        check_offer(VOUCHER, good, 2_000_000_000)
    with pytest.raises(OfferRefused, match="cannot be judged"):
        check_offer(replace(EXACT, size=None), Expected(CURRENCY, max_per_mib=1), 0)
