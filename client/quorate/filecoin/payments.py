"""What leaves the process as money: vouchers for a rail, and single payments of x402's `exact` (EIP-3009).

The key signs nothing here that has no Authorization of the ledger, and who is paid, how much and until when comes from
that alone. Digests are EIP-712; tests compare them with eth_account, which takes a second to import.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from quorate.chain.account import Signer
from quorate.chain.signing import recover
from quorate.chain.types import parse_address
from quorate.filecoin.ledger import Authorization
from quorate.filecoin.spending import Target, check_amount
from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.types import Address

VOUCHER_DOMAIN = ("Quorate Retrieval", "1")
"""Name and version; the verifying contract is the operator's."""
_DOMAIN_TYPE = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_VOUCHER_TYPE = keccak(b"RetrievalVoucher(uint256 railId,uint256 cumulative,bytes32 termsHash)")
_TRANSFER_TYPE = keccak(
    b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,"
    b"bytes32 nonce)"
)


class VoucherProblem(StrEnum):
    """Why a provider does not take a voucher."""

    FOREIGN_RAIL = "it is for another rail"
    FOREIGN_TERMS = "it is for other terms"
    STALE = "it is not above the one before"
    UNCOVERED = "it is more than the rail has locked"
    UNPAID = "it is less than what was asked for"
    SIGNATURE = "the rail's payer did not sign it, or not for this chain and contract"


class VoucherRefused(ValidationError):
    """A voucher that is worth nothing here; `problem` says why."""

    def __init__(self, problem: VoucherProblem, voucher: Voucher) -> None:
        self.problem, self.voucher = problem, voucher
        super().__init__(f"voucher of {voucher.cumulative} for rail {voucher.rail_id} refused: {problem}")


@dataclass(frozen=True, slots=True)
class Voucher:
    """All that rail `rail_id` ever pays, so far: `cumulative` base units, under the terms of that hash (32 bytes)."""

    rail_id: int
    cumulative: int
    terms_hash: bytes

    def __post_init__(self) -> None:
        check_amount("rail id", self.rail_id)
        check_amount("cumulative", self.cumulative)
        if len(self.terms_hash) != 32:
            raise ValidationError(f"a terms hash has 32 bytes, not {len(self.terms_hash)}")


@dataclass(frozen=True, slots=True)
class SignedVoucher:
    """A voucher with its payer's signature, 65 bytes r ‖ s ‖ v."""

    voucher: Voucher
    signature: bytes


@dataclass(frozen=True, slots=True)
class TokenDomain:
    """Name and version of a token's EIP-712 domain, as a quote gives them."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class SignedTransfer:
    """An EIP-3009 authorization; times in unix seconds, valid strictly between them. `nonce` has 32 bytes."""

    sender: Address
    target: Target
    value: int
    valid_after: int
    valid_before: int
    nonce: bytes
    signature: bytes


class PaymentSigner:
    """A payer's key, of which nothing else is reachable: it signs what the ledger has authorized."""

    __slots__ = ("__account",)

    def __init__(self, account: Signer) -> None:
        self.__account = account

    @property
    def address(self) -> Address:
        """Who pays."""
        return self.__account.address

    def sign_voucher(self, authorization: Authorization, terms_hash: bytes) -> SignedVoucher:
        """The voucher that was authorized. Raises ValidationError when it was a single payment that was."""
        _check_authorization(authorization, is_rail=True)
        target = authorization.target
        voucher = Voucher(target.rail_id, authorization.up_to, terms_hash)
        digest = hash_voucher(voucher, target.currency.chain_id, parse_address(target.operator))
        return SignedVoucher(voucher, self.__account.sign(digest))

    def sign_transfer(self, authorization: Authorization, domain: TokenDomain) -> SignedTransfer:
        """The single payment that was authorized; signed again it is the same one. Raises ValidationError."""
        _check_authorization(authorization, is_rail=False)
        a, nonce = authorization, compute_nonce(authorization.reservation_id)
        digest = hash_transfer(domain, a.target, self.address, a.up_to, 0, a.expires_at, nonce)
        return SignedTransfer(self.address, a.target, a.up_to, 0, a.expires_at, nonce, self.__account.sign(digest))

    def __repr__(self) -> str:
        return f"PaymentSigner(0x{self.address.hex()})"

    def __reduce__(self) -> str:
        raise TypeError("a payment key cannot be copied out of its process")


def compute_nonce(reservation_id: str) -> bytes:
    """EIP-3009 nonce of a reservation: the chain tells by it whether the payment was used."""
    return keccak(b"quorate-filecoin-payment-v1" + reservation_id.encode())


def hash_voucher(voucher: Voucher, chain_id: int, operator: Address) -> bytes:
    """EIP-712 digest of a voucher for an operator contract."""
    body = keccak(_VOUCHER_TYPE + _word(voucher.rail_id) + _word(voucher.cumulative) + voucher.terms_hash)
    return _hash_typed(VOUCHER_DOMAIN, chain_id, operator, body)


def hash_transfer(
    domain: TokenDomain, target: Target, sender: Address, value: int, valid_after: int, valid_before: int, nonce: bytes
) -> bytes:
    """EIP-712 digest of an EIP-3009 transfer."""
    words = (value, valid_after, valid_before)
    parties = sender.rjust(32, b"\0") + parse_address(target.payee).rjust(32, b"\0")
    body = keccak(_TRANSFER_TYPE + parties + b"".join(map(_word, words)) + nonce)
    names = (domain.name, domain.version)
    return _hash_typed(names, target.currency.chain_id, parse_address(target.currency.token), body)


def check_voucher(
    signed: SignedVoucher, target: Target, payer: Address, terms_hash: bytes, taken: int, asked: int, locked: int
) -> int:
    """What a voucher adds to `taken`, the rail's best one before, for a provider that asks for `asked` more.

    `locked` is what the rail can still pay in all, cumulative too. Raises VoucherRefused.
    """
    voucher = signed.voucher
    problem = None
    if voucher.rail_id != target.rail_id:
        problem = VoucherProblem.FOREIGN_RAIL
    elif voucher.terms_hash != terms_hash:
        problem = VoucherProblem.FOREIGN_TERMS
    elif voucher.cumulative <= taken:
        problem = VoucherProblem.STALE
    elif voucher.cumulative < taken + asked:
        problem = VoucherProblem.UNPAID
    elif voucher.cumulative > locked:
        problem = VoucherProblem.UNCOVERED
    elif recover(_digest_for(voucher, target), signed.signature) != payer:
        problem = VoucherProblem.SIGNATURE
    if problem is not None:
        raise VoucherRefused(problem, voucher)
    return voucher.cumulative - taken


def _digest_for(voucher: Voucher, target: Target) -> bytes:
    return hash_voucher(voucher, target.currency.chain_id, parse_address(target.operator))


def _check_authorization(authorization: object, *, is_rail: bool) -> None:
    if type(authorization) is not Authorization:
        raise TypeError("only what a Reservation has authorized can be signed")
    if bool(authorization.target.rail_id) != is_rail:
        raise ValidationError(f"{'a single payment' if is_rail else 'a voucher'} was authorized: sign that")


def _hash_typed(names: tuple[str, str], chain_id: int, contract: Address, body: bytes) -> bytes:
    name, version = (keccak(each.encode()) for each in names)
    domain = keccak(_DOMAIN_TYPE + name + version + _word(chain_id) + contract.rjust(32, b"\0"))
    return keccak(b"\x19\x01" + domain + body)


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")
