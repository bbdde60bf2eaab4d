"""What payers and payees do on the chain; each function sends one or more transactions and waits for them.

    payer:  fund → allow → open_rail → (vouchers, off the chain) → close_rail → settle_rail → withdraw
    payee:  redeem(chain, signer, voucher) as often as it likes; transfer(chain, signer, signed) for x402's `exact`

    rail_id = rails.open_rail(chain, wallet, payee, lockup)       # `chain` is a pay.PayChain, `wallet` signs
    paid = rails.redeem(chain, anybody, signed_voucher)           # Redemption(amount, fee, net, …)
    rails.revoke(chain, wallet)                                   # allowance 0, and every rail closed

`lockup` is what the reader can spend on that rail, `allow` what on all rails together, for good: each payment takes its
part of the allowance away. Whoever can pay says how much by `MoneyMissing` before anything is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quorate.chain.abi import Contract
from quorate.chain.account import Signer
from quorate.chain.calls import Call, build
from quorate.chain.types import parse_address, to_hex
from quorate.filecoin.pay import Balances, PayChain, PayReceipt, RailState
from quorate.filecoin.payments import SignedTransfer, SignedVoucher
from quorate.filecoin.spending import check_amount
from quorate.protocol.errors import ProtocolViolation, ValidationError
from quorate.protocol.types import Address

FEE_PARTS = 200
"""Filecoin Pay keeps one part in 200 of each payment, rounded up."""


class MoneyMissing(ValidationError):
    """An account has, or has allowed, less than is asked for; nothing was sent. Base units of the token."""

    def __init__(self, what: str, needed: int, available: int, hint: str) -> None:
        self.what, self.needed, self.available = what, needed, available
        super().__init__(f"{what}: {needed} needed, {available} there; {hint}")


@dataclass(frozen=True, slots=True)
class Redemption:
    """A voucher redeemed: `amount` left the payer, of which `fee` went to Filecoin Pay and `net` to the payee.

    `redeemed` is the rail's sum so far; less than the voucher's where too little was locked.
    """

    rail_id: int
    amount: int
    fee: int
    net: int
    redeemed: int
    transaction: bytes
    block_number: int


def compute_fee(amount: int) -> int:
    """What Filecoin Pay keeps of one payment."""
    return -(-amount // FEE_PARTS)


# payers ---------------------------------------------------------------------------------------------------------------


def fund(chain: PayChain, payer: Signer, amount: int) -> PayReceipt:
    """Move tokens of the payer into its account in Filecoin Pay. Raises MoneyMissing."""
    check_amount("amount", amount)
    has = chain.balances(payer.address)
    if has.tokens < amount:
        raise MoneyMissing("tokens to deposit", amount, has.tokens, f"send more to {to_hex(payer.address)}, or less")
    token, pay = chain.contracts.token, chain.contracts.pay
    if chain.read(Contract.TOKEN, "allowance", payer.address, pay)[0] < amount:
        chain.transact(payer, build(Contract.TOKEN, "approve", pay, amount))
    return chain.transact(payer, build(Contract.PAY, "deposit", token, payer.address, amount))


def withdraw(chain: PayChain, payer: Signer, amount: int) -> PayReceipt:
    """Take tokens back that are not locked; payees get theirs that way too. Raises MoneyMissing."""
    check_amount("amount", amount)
    free = chain.balances(payer.address).free
    if free < amount:
        raise MoneyMissing("tokens to withdraw", amount, free, "close rails and settle them after their end, or less")
    return chain.transact(payer, build(Contract.PAY, "withdraw", chain.contracts.token, amount))


def allow(chain: PayChain, payer: Signer, lockup_allowance: int) -> PayReceipt:
    """Let the operator lock so much in all from now on, what rails have locked already included."""
    check_amount("allowance", lockup_allowance, least=0)
    period = read_lockup_period(chain)
    return _approve(chain, payer, True, lockup_allowance, period)


def allow_more(chain: PayChain, payer: Signer, amount: int) -> PayReceipt:
    """Raise the allowance. Raises ProtocolViolation OperatorNotApproved where there is none."""
    check_amount("amount", amount)
    where = (chain.contracts.token, chain.contracts.operator)
    return chain.transact(payer, build(Contract.PAY, "increaseOperatorApproval", *where, 0, amount))


def open_rail(chain: PayChain, payer: Signer, payee: Address, lockup: int) -> int:
    """Open a rail on which `lockup` can be spent; its number. Raises MoneyMissing."""
    check_amount("lockup", lockup)
    check_lockable(chain.balances(payer.address), lockup, chain)
    call = build(Contract.OPERATOR, "openRail", chain.contracts.token, payee, lockup)
    return int(chain.transact(payer, call).find("RailOpened").fields["railId"])


def top_up(chain: PayChain, payer: Signer, rail_id: int, amount: int) -> PayReceipt:
    """Lock more on a rail. Raises MoneyMissing."""
    check_amount("amount", amount)
    check_lockable(chain.balances(payer.address), amount, chain)
    return chain.transact(payer, build(Contract.OPERATOR, "topUp", rail_id, amount))


def close_rail(chain: PayChain, party: Signer, rail_id: int) -> PayReceipt:
    """End a rail. A payer's can be redeemed from for the lockup period; a payee's gives back at once what is locked."""
    return chain.transact(party, build(Contract.OPERATOR, "close", rail_id))


def settle_rail(chain: PayChain, anybody: Signer, rail_id: int) -> PayReceipt:
    """Give the payer back what a rail that has ended has locked."""
    return chain.transact(anybody, build(Contract.PAY, "settleRail", rail_id, chain.head().number))


def revoke(chain: PayChain, payer: Signer) -> list[RailState]:
    """Allow nothing any more and close every open rail; those rails.

    Until its `end_epoch` a rail still pays vouchers that were signed: nothing can take them back. May be called again.
    """
    _approve(chain, payer, False, 0, 0)
    found = [chain.rail(rail_id) for rail_id in chain.list_rails(payer.address)]
    for rail in found:
        if rail.is_open:
            close_rail(chain, payer, rail.rail_id)
    return [chain.rail(rail.rail_id) for rail in found]


def check_lockable(has: Balances, lockup: int, chain: PayChain) -> None:
    """Raise MoneyMissing unless a payer can lock so much more."""
    allowed = max(0, has.lockup_allowance - has.lockup_usage) if has.is_approved else 0
    if allowed < lockup:
        raise MoneyMissing(
            f"allowance of the operator {to_hex(chain.contracts.operator)} to lock", lockup, allowed,
            "raise it with `filecoin wallet allow`",
        )  # fmt: skip
    if has.free < lockup:
        hint = "deposit more with `filecoin wallet deposit`, or close rails that are not needed"
        raise MoneyMissing("money in Filecoin Pay that is not locked", lockup, has.free, hint)


def read_lockup_period(chain: PayChain) -> int:
    """Epochs that a rail can be redeemed from after its payer closed it."""
    return int(chain.read(Contract.OPERATOR, "LOCKUP_PERIOD")[0])


def _approve(chain: PayChain, payer: Signer, is_approved: bool, allowance: int, period: int) -> PayReceipt:
    where = (chain.contracts.token, chain.contracts.operator)
    call = build(Contract.PAY, "setOperatorApproval", *where, is_approved, 0, allowance, period)
    return chain.transact(payer, call)


# payees ---------------------------------------------------------------------------------------------------------------


def encode_redeem(signed: SignedVoucher) -> Call:
    """The transaction that redeems a voucher; anybody may send it."""
    v = signed.voucher
    return build(Contract.OPERATOR, "redeem", v.rail_id, v.cumulative, v.terms_hash, signed.signature)


def redeem(chain: PayChain, anybody: Signer, signed: SignedVoucher) -> Redemption:
    """Pay the payee what a voucher adds, as much as is locked.

    Raises ProtocolViolation: WrongSigner, StaleVoucher, LockupSpent, RailUnknown, RailInactiveOrSettled,
    CannotModifyTerminatedRailBeyondEndEpoch.
    """
    receipt = chain.transact(anybody, encode_redeem(signed))
    fields = receipt.find("VoucherRedeemed").fields
    paid = receipt.find("RailOneTimePaymentProcessed").fields
    place = (receipt.transaction, receipt.block_number)
    parts = (fields["amount"], paid["networkFee"], paid["netPayeeAmount"], fields["redeemed"])
    return Redemption(signed.voucher.rail_id, *parts, *place)


def encode_transfer(signed: SignedTransfer) -> Call:
    """The transaction that makes a single payment (EIP-3009); anybody may send it."""
    s, signature = signed, signed.signature
    parts: tuple[Any, ...] = (signature[64], signature[:32], signature[32:64])
    times = (s.valid_after, s.valid_before)
    payee = parse_address(s.target.payee)
    return build(Contract.TOKEN, "transferWithAuthorization", s.sender, payee, s.value, *times, s.nonce, *parts)


def transfer(chain: PayChain, anybody: Signer, signed: SignedTransfer) -> PayReceipt:
    """Make a single payment. Raises ProtocolViolation: AuthorizationUsedOrCanceled, AuthorizationExpired,
    AuthorizationNotYetValid, InvalidSignature, InsufficientBalance; also for another token or chain."""
    if signed.target.currency != chain.contracts.currency:
        raise ProtocolViolation("InvalidSignature", hint="the payment is in another token, or on another chain")
    return chain.transact(anybody, encode_transfer(signed))
