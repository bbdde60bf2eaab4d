"""What is signed: the same digests as eth_account's, nothing without leave, and vouchers that a provider takes."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from quorate.chain.account import SigningAccount
from quorate.chain.types import to_hex
from quorate.filecoin.ledger import Ledger
from quorate.filecoin.payments import (
    PaymentSigner,
    SignedVoucher,
    TokenDomain,
    Voucher,
    VoucherProblem,
    VoucherRefused,
    check_voucher,
    compute_nonce,
)
from quorate.filecoin.spending import Currency, Purpose, Scope, ScopeKind, Target
from quorate.protocol.errors import ValidationError

FIL = Currency(31415926, "0x" + "11" * 20)
PAYEE, OPERATOR = "0x" + "33" * 20, "0x" + "22" * 20
RAIL, ONCE = Target(FIL, PAYEE, OPERATOR, 7), Target(FIL, PAYEE)
PURPOSE = Purpose("job", "dataset", "f01234")
TERMS = b"\x07" * 32
ACCOUNT = SigningAccount.from_key(b"\x05" * 32)
FAR = 2**40


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    Ledger.create(tmp_path / "ledger.db", FIL)
    with closing(Ledger(tmp_path / "ledger.db")) as opened:
        opened.set_cap(Scope(ScopeKind.TOTAL), 10**20)
        yield opened


@pytest.fixture
def signer() -> PaymentSigner:
    return PaymentSigner(ACCOUNT)


def recover_typed(
    name: str, version: str, contract: str, type_: str, fields: str, message: Any, signature: bytes
) -> str:
    """Signer by eth_account."""
    listed = [{"type": part.split()[0], "name": part.split()[1]} for part in fields.split(",")]
    domain = {"name": name, "version": version, "chainId": FIL.chain_id, "verifyingContract": contract}
    found = encode_typed_data(domain, {type_: listed}, message)
    return str(Account.recover_message(found, signature=signature)).lower()


def test_a_voucher_is_what_eip_712_says(ledger: Ledger, signer: PaymentSigner) -> None:
    held = ledger.reserve(PURPOSE, RAIL, 10**19)
    signed = signer.sign_voucher(held.authorize(10**19), TERMS)
    assert signed.voucher == Voucher(7, 10**19, TERMS)
    message = {"railId": 7, "cumulative": 10**19, "termsHash": TERMS}
    fields = "uint256 railId,uint256 cumulative,bytes32 termsHash"
    args = ("Quorate Retrieval", "1", OPERATOR, "RetrievalVoucher", fields, message, signed.signature)
    assert recover_typed(*args) == to_hex(ACCOUNT.address)


def test_a_payment_is_what_eip_3009_says_and_the_same_each_time(ledger: Ledger, signer: PaymentSigner) -> None:
    held = ledger.reserve(PURPOSE, ONCE, 12345, expires_at=FAR)
    domain = TokenDomain("USD for Filecoin", "1")
    signed = signer.sign_transfer(held.authorize(), domain)
    message = {
        "from": to_hex(ACCOUNT.address), "to": PAYEE, "value": 12345, "validAfter": 0, "validBefore": FAR,
        "nonce": compute_nonce(held.entry.id),
    }  # fmt: skip
    fields = "address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce"
    args = ("USD for Filecoin", "1", FIL.token, "TransferWithAuthorization", fields, message, signed.signature)
    assert recover_typed(*args) == to_hex(ACCOUNT.address)
    assert signer.sign_transfer(ledger.resume(held.entry.id).authorize(), domain) == signed
    assert ledger.list_usage()[Scope(ScopeKind.TOTAL)].used == 12345


def test_nothing_is_signed_that_the_ledger_did_not_allow(ledger: Ledger, signer: PaymentSigner) -> None:
    held = ledger.reserve(PURPOSE, RAIL, 10)
    for forged in (held, held.entry, (7, 10), None):
        with pytest.raises(TypeError, match="authorized"):
            signer.sign_voucher(forged, TERMS)  # type: ignore[arg-type]
    assert ledger.get_entry(held.entry.id).signed == 0
    with pytest.raises(ValidationError, match="sign that"):
        signer.sign_transfer(held.authorize(), TokenDomain("x", "1"))
    once = ledger.reserve(PURPOSE, ONCE, 10, expires_at=FAR)
    with pytest.raises(ValidationError, match="sign that"):
        signer.sign_voucher(once.authorize(), TERMS)


def test_the_key_is_not_shown(signer: PaymentSigner) -> None:
    assert ACCOUNT.key.hex() not in repr(signer)
    assert to_hex(ACCOUNT.address) in repr(signer)
    with pytest.raises(TypeError, match="cannot be copied"):
        pickle.dumps(signer)
    assert not hasattr(signer, "key")
    assert not hasattr(signer, "__account")


class TestProvider:
    @pytest.fixture
    def signed(self, ledger: Ledger, signer: PaymentSigner) -> SignedVoucher:
        return signer.sign_voucher(ledger.reserve(PURPOSE, RAIL, 100).authorize(60), TERMS)

    def test_takes_what_is_worth_something(self, signed: SignedVoucher) -> None:
        assert check_voucher(signed, RAIL, ACCOUNT.address, TERMS, taken=40, asked=20, locked=60) == 20

    @pytest.mark.parametrize(
        ("target", "terms", "taken", "asked", "locked", "problem"),
        [
            (replace(RAIL, rail_id=8), TERMS, 40, 20, 100, VoucherProblem.FOREIGN_RAIL),
            (RAIL, bytes(32), 40, 20, 100, VoucherProblem.FOREIGN_TERMS),
            (RAIL, TERMS, 60, 0, 100, VoucherProblem.STALE),
            (RAIL, TERMS, 40, 21, 100, VoucherProblem.UNPAID),
            (RAIL, TERMS, 40, 20, 59, VoucherProblem.UNCOVERED),
            (replace(RAIL, currency=Currency(1, FIL.token)), TERMS, 40, 20, 100, VoucherProblem.SIGNATURE),
            (replace(RAIL, operator="0x" + "44" * 20), TERMS, 40, 20, 100, VoucherProblem.SIGNATURE),
        ],
    )
    def test_refuses(
        self,
        signed: SignedVoucher,
        target: Target,
        terms: bytes,
        taken: int,
        asked: int,
        locked: int,
        problem: VoucherProblem,
    ) -> None:
        with pytest.raises(VoucherRefused, match="refused") as refusal:
            check_voucher(signed, target, ACCOUNT.address, terms, taken, asked, locked)
        assert refusal.value.problem is problem

    @pytest.mark.parametrize("change", [0, 33, 64])
    def test_refuses_signatures_of_others(self, signed: SignedVoucher, change: int) -> None:
        changed = bytearray(signed.signature)
        changed[change] ^= 1
        for signature, payer in (
            (bytes(changed), ACCOUNT.address),
            (signed.signature, SigningAccount.create().address),
        ):
            with pytest.raises(VoucherRefused) as refusal:
                check_voucher(SignedVoucher(signed.voucher, signature), RAIL, payer, TERMS, 40, 20, 100)
            assert refusal.value.problem is VoucherProblem.SIGNATURE


@pytest.mark.parametrize("values", [(0, 1, TERMS), (1, 0, TERMS), (1, -5, TERMS), (1, 2**256, TERMS), (1, 1, b"short")])
def test_vouchers_that_are_none(values: tuple[int, int, bytes]) -> None:
    with pytest.raises(ValidationError):
        Voucher(*values)
