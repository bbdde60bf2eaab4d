"""Takes payments. When a method returns, the payment is on disk, and the bytes that it is for may be sent.

A voucher is checked, kept, and redeemed later. A single payment is checked, noted, sent to the chain and waited for;
whoever shows it again gets the same resource again for a while, so that a cut connection costs nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock

from quorate.chain.abi import Contract
from quorate.chain.account import Signer
from quorate.chain.signing import recover
from quorate.chain.types import parse_address, to_hex
from quorate.filecoin import rails
from quorate.filecoin.pay import PayChain, topic_of
from quorate.filecoin.payments import SignedTransfer, VoucherProblem, VoucherRefused, hash_transfer, hash_voucher
from quorate.filecoin.spending import Target
from quorate.filecoin.terms import ExactOffer, Terms
from quorate.filecoin.x402 import ExactPayment, Settlement, VoucherPayment
from quorate.protocol.errors import Busy, ProtocolViolation
from quorate_node.filecoin.provider.catalog import Dataset
from quorate_node.filecoin.provider.offers import Seller
from quorate_node.filecoin.provider.railbook import PaymentRefused, RailBook
from quorate_node.filecoin.provider.till import Single, SingleState, Till

MARGIN_S = 6
"""A payment has to be valid for so much longer when it comes, or the chain might not take it any more."""
RESUME_S = 3600
MAX_TIMES = 3
"""A single payment's bytes are sent at most so often: its signature is on the chain for everybody to copy."""
MAX_COUNTED = 4096
MAX_REPEATS = 8
"""A chunk that was paid for by voucher is sent so often once more: for cut lines and lost disks, not for everybody."""
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Shop:
    """What a desk works with; `account` pays the gas."""

    till: Till
    chain: PayChain
    book: RailBook
    seller: Seller
    account: Signer


class Desk:
    """Methods block, and may be called from any thread. They raise PaymentRefused, Busy and ChainUnavailable."""

    def __init__(self, shop: Shop, clock: Clock = time.time) -> None:
        self._shop, self._clock = shop, clock
        self._lock, self._under_way = Lock(), set[tuple[bytes, bytes]]()
        self._served: OrderedDict[tuple[bytes, bytes], int] = OrderedDict()

    @property
    def till(self) -> Till:
        """The records."""
        return self._shop.till

    # vouchers -----------------------------------------------------------------------------------------------------

    def take_voucher(self, payment: VoucherPayment, dataset: Dataset, resource: str, chunk: int, size: int) -> bool:
        """Take a voucher for a chunk of a piece that was asked for as `resource`, of which `size` bytes are about to be
        sent; False when it was paid before."""
        shop, signed = self._shop, payment.signed
        terms = payment.offer.get_terms(resource)
        terms.price_chunk(chunk)
        target, up_to = terms.get_target(signed.voucher.rail_id), signed.voucher.cumulative
        known = shop.till.peek(target)
        if known is not None and up_to <= known[1] and shop.till.is_paid(target, signed.voucher.terms_hash, chunk):
            self._check_payer(payment, known[0])
            self._repeat(target, terms, chunk, size)
            return False
        now = int(self._clock())
        problem = shop.seller.find_problem(terms, dataset, now, is_known=False)
        if problem is not None and shop.till.is_known(signed.voucher.terms_hash):
            problem = shop.seller.find_problem(terms, dataset, now, is_known=True)
        if problem is not None:
            raise PaymentRefused(problem)
        rail = shop.book.get(target.rail_id, up_to, is_customer=known is not None)
        try:
            is_new = shop.till.take(signed, terms, rail.payer, chunk, rail.ceiling, rail.redeemed)
        except VoucherRefused as error:
            raise PaymentRefused(self._explain(error, rail.ceiling, terms.price_chunk(chunk))) from error
        if not is_new:  # another request with the same voucher was faster
            self._check_payer(payment, rail.payer)
            self._repeat(target, terms, chunk, size)
        return is_new

    def _repeat(self, target: Target, terms: Terms, chunk: int, size: int) -> None:
        """Count what is sent again. Raises PaymentRefused once it was often enough: a voucher that was redeemed is on
        the chain for everybody to copy."""
        whole = min(terms.chunk, terms.size - chunk * terms.chunk)
        if not self._shop.till.repeat(target, terms.hash, chunk, size, MAX_REPEATS * whole):
            raise PaymentRefused(f"chunk {chunk} was sent often enough for what was paid: pay for it once more")

    def _check_payer(self, payment: VoucherPayment, payer: bytes) -> None:
        """Only who paid for a chunk gets it again, by any voucher of the rail."""
        seller, voucher = self._shop.seller, payment.signed.voucher
        digest = hash_voucher(voucher, seller.currency.chain_id, self._shop.chain.contracts.operator)
        if recover(digest, payment.signed.signature) != payer:
            raise PaymentRefused(str(VoucherProblem.SIGNATURE))

    def _explain(self, error: VoucherRefused, ceiling: int, price: int) -> str:
        voucher = error.voucher
        if error.problem is VoucherProblem.UNCOVERED:
            return f"insufficient lockup: the rail can pay {ceiling} in all, and the voucher says {voucher.cumulative}"
        if error.problem in (VoucherProblem.STALE, VoucherProblem.UNPAID):
            account = self._shop.till.find(self._shop.seller.get_target(voucher.rail_id))
            delivered = account.delivered if account else 0
            least = delivered + price
            return f"the voucher says {voucher.cumulative}, and {least} is needed: {delivered} were delivered"
        return str(error.problem)

    # single payments ----------------------------------------------------------------------------------------------

    def take_single(self, payment: ExactPayment, offer: ExactOffer | None, resource: str, size: int) -> Settlement:
        """Take one payment for all of a resource, of which `size` bytes are about to be sent."""
        transfer, till = payment.transfer, self._shop.till
        known = till.find_single(transfer.sender, transfer.nonce)
        if known is not None and known.transfer != transfer:
            raise PaymentRefused("this nonce was used for another payment")
        if known is not None and known.resource != resource:
            raise PaymentRefused("this payment was for another resource")
        if known is None or known.state is SingleState.FAILED:
            self._check_single(payment, offer)
        if known is None or known.state is not SingleState.SETTLED:
            with self._one_at_a_time(transfer):
                known = self._settle(transfer, resource)
        self._count(known, size, offer)
        return Settlement(transfer.target.currency.chain_id, transfer.sender, known.transaction)

    def finish_pending(self) -> list[Single]:
        """After a start: bring payments to their end that were under way. Raises ChainUnavailable."""
        found = self._shop.till.list_singles(SingleState.PENDING)
        for single in found:
            with self._one_at_a_time(single.transfer):
                try:
                    self._finish(single)
                except PaymentRefused:
                    continue  # noted as failed
        return found

    def _check_single(self, payment: ExactPayment, offer: ExactOffer | None) -> None:
        t, now = payment.transfer, self._clock()
        if offer is None:
            raise PaymentRefused("this is not sold in one payment: use vouchers")
        if replace(payment.offer, size=offer.size, timeout_s=offer.timeout_s) != offer or t.value != offer.amount:
            raise PaymentRefused(
                f"the price is {offer.amount} in one payment to {offer.payee}: ask for the offer again"
            )
        if not t.valid_after < now:
            raise PaymentRefused(f"the payment is not valid before {t.valid_after} (unix seconds)")
        if t.valid_before <= now + MARGIN_S:
            raise PaymentRefused(f"the payment ends at {t.valid_before} (unix seconds), too soon to be sent")
        digest = hash_transfer(offer.domain, t.target, t.sender, t.value, t.valid_after, t.valid_before, t.nonce)
        if recover(digest, t.signature) != t.sender:
            raise PaymentRefused("its payer did not sign the payment, or not for this chain and token")

    def _settle(self, transfer: SignedTransfer, resource: str) -> Single:
        """Note and send a payment that nothing is wrong with, as far as can be seen without the chain."""
        shop = self._shop
        known = shop.till.find_single(transfer.sender, transfer.nonce)
        if known is not None and known.state is SingleState.SETTLED:
            return known
        if known is None:
            with shop.book.asking():  # what costs nothing to make up leaves no trace
                self._check_funds(transfer)
                block = shop.chain.head().number
            known = shop.till.begin_single(transfer, resource, block, int(self._clock()))
        return self._finish(known)

    def _check_funds(self, transfer: SignedTransfer) -> None:
        token, reads = Contract.TOKEN, self._shop.chain.read_many
        (held,), (is_used,) = reads(
            [
                (token, "balanceOf", (transfer.sender,)),
                (token, "authorizationState", (transfer.sender, transfer.nonce)),
            ]
        )
        if is_used:
            raise PaymentRefused("the payment was used, or cancelled, before it came here")
        if held < transfer.value:
            raise PaymentRefused(f"insufficient funds: {to_hex(transfer.sender)} has {held} of {transfer.value}")

    def _finish(self, single: Single) -> Single:
        """Send, unless the chain has it. Raises PaymentRefused when it never will."""
        shop, transfer = self._shop, single.transfer
        tx = b""
        if shop.chain.is_authorization_used(transfer.sender, transfer.nonce):
            tx = self._find_use(single)
            if not tx:
                self._fail(transfer, "the payment was cancelled, or its nonce used for another one")
        else:
            try:
                tx = rails.transfer(shop.chain, shop.account, transfer).transaction
            except ProtocolViolation as error:
                if error.name == "InsufficientFunds":  # our own, for gas: the payment may still be good
                    raise Busy(f"the provider cannot send transactions: {error}") from error
                if error.name == "AuthorizationUsedOrCanceled":
                    tx = self._find_use(single)
                if not tx:
                    self._fail(transfer, str(error))
        shop.till.end_single(transfer, SingleState.SETTLED, tx)
        return replace(single, state=SingleState.SETTLED, transaction=tx)

    def _fail(self, transfer: SignedTransfer, note: str) -> None:
        self._shop.till.end_single(transfer, SingleState.FAILED, note=note)
        raise PaymentRefused(note)

    def _find_use(self, single: Single) -> bytes:
        """The transaction that made a payment; empty when its nonce was cancelled, or used up by another transfer.

        A token tells of the transfer right behind the nonce that it was for. A payer may have signed a second one with
        the same nonce, to itself, and be faster.
        """
        chain, transfer = self._shop.chain, single.transfer
        sender = to_hex(transfer.sender.rjust(32, b"\0"))
        topics = [topic_of(Contract.TOKEN, "AuthorizationUsed"), sender, to_hex(transfer.nonce)]
        found = chain.events(single.block, chain.head().number, topics)
        if not found:
            return b""
        used = found[0]
        wanted = (used.transaction, used.log_index + 1, parse_address(transfer.target.payee), transfer.value)
        moves = chain.events(used.block_number, used.block_number, [topic_of(Contract.TOKEN, "Transfer"), sender])
        told = {(m.transaction, m.log_index, m.fields["to"], m.fields["value"]) for m in moves}
        return used.transaction if wanted in told else b""

    def _count(self, single: Single, size: int, offer: ExactOffer | None) -> None:
        """Raises PaymentRefused once it was used up."""
        key = (bytes(single.transfer.sender), single.transfer.nonce)
        if self._clock() > single.at + RESUME_S:
            raise PaymentRefused("this payment was used: its bytes are sent again for an hour, and no longer")
        with self._lock:
            sent = self._served.pop(key, 0) + size
            self._served[key] = sent
            if len(self._served) > MAX_COUNTED:
                self._served.popitem(last=False)
        whole = offer.size if offer is not None and offer.size is not None else size
        if sent > MAX_TIMES * max(whole, 1):
            raise PaymentRefused("this payment was used: its bytes were sent often enough")

    @contextmanager
    def _one_at_a_time(self, transfer: SignedTransfer) -> Iterator[None]:
        key = (bytes(transfer.sender), transfer.nonce)
        with self._lock:
            if key in self._under_way:
                raise Busy("this payment is being settled: try again in a moment")
            self._under_way.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._under_way.discard(key)
