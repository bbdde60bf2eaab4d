"""What pays: a purse of ledger, key and rails, and the payments that are made from it.

Nothing is signed but by leave of the ledger (see `payments`), and a voucher for the next chunk only when whoever calls
`pay` has verified the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from quorate.filecoin.ledger import Ledger, Reservation, make_id
from quorate.filecoin.payments import PaymentSigner
from quorate.filecoin.piecetree import count_chunks
from quorate.filecoin.retrieval.partfile import Note, PartFile
from quorate.filecoin.spending import Entry, Purpose, RailBusy, Receipt, State, Target
from quorate.filecoin.terms import (
    ExactOffer,
    Offer,
    PaymentRequired,
    Resource,
    Terms,
    VoucherOffer,
    WireError,
    compute_price,
)
from quorate.filecoin.x402 import ExactPayment, VoucherPayment, encode_payment, encode_required, parse_required
from quorate.protocol.errors import ValidationError

AHEAD_CHUNKS = 8
"""So many are noted as signed in one write to the disk; fewer may have been signed, never more."""
MAX_RAILS = 8
MAX_VALID_S = 600


class TooLittleMoney(ValidationError):
    """The wallet, or its deposit, does not hold what a payment needs. Nothing was signed for the payment."""


class Rails(Protocol):
    """The payer's rails on chain."""

    def choose(self, payee: str, needed: int, busy: Set[int]) -> int:
        """A rail to `payee`, none of `busy`, that can still pay `needed` base units; opened where there is none.

        Raises TooLittleMoney, ChainUnavailable.
        """
        ...

    def has_tokens(self, amount: int) -> bool:
        """Whether the payer's own account has so much for a single payment, beside what is deposited for rails."""
        ...


@dataclass(frozen=True, slots=True)
class Purse:
    """All that pays."""

    ledger: Ledger
    signer: PaymentSigner
    rails: Rails


def count_price(terms: Terms, first: int, last: int) -> int:
    """Base units for chunks `first` to `last`, both included; 0 where there are none."""
    if last < first:
        return 0
    whole, tail = divmod(terms.size, terms.chunk)
    full = min(last + 1, whole) - min(first, whole)
    price = full * compute_price(terms.chunk, terms.price_per_mib)
    return price + (compute_price(tail, terms.price_per_mib) if last >= whole else 0)


class ChunkPayment:
    """Vouchers for the chunks of a piece from `first` on, out of one reservation of one rail."""

    def __init__(self, held: Reservation, signer: PaymentSigner, offer: VoucherOffer, terms: Terms, first: int) -> None:
        self._held, self._signer, self._offer, self._terms, self.first = held, signer, offer, terms, first
        self.header, self.chunk = "", -1

    def pay(self, index: int) -> str:
        """PAYMENT-SIGNATURE for a chunk, when all before it were verified. Raises what the ledger does."""
        if index != self.chunk:
            up_to = self._held.entry.base + count_price(self._terms, self.first, index)
            signed = self._signer.sign_voucher(self._held.authorize(up_to), self._terms.hash)
            self.header, self.chunk = encode_payment(VoucherPayment(self._offer, signed)), index
        return self.header

    def settle(self, note: str) -> Receipt | None:
        """What was signed is spent, the rest is free. None where nothing was signed."""
        if not self._held.signed:
            self._held.release()
            return None
        return self._held.charge(note)

    def describe(self, provider: str) -> Note:
        """What has to be remembered to go on after a crash, or to show the last voucher again."""
        entry = self._held.entry
        offer = write_offer(provider, self._offer)
        return Note(provider, offer, entry.id, self.first, entry.target.rail_id, self.header, self.chunk)


def begin(
    purse: Purse, part: PartFile, provider: str, purpose: Purpose, offer: VoucherOffer, terms: Terms,
    on_step: Callable[[str], None],
) -> ChunkPayment:  # fmt: skip
    """Reserve for all chunks that are not here, and note it beside the part.

    Raises SpendingLimitExceeded before anything is signed, a transaction too; TooLittleMoney, ChainUnavailable.
    """
    first = part.count
    needed = count_price(terms, first, count_chunks(terms.size) - 1)
    purse.ledger.check(purpose, needed)
    ahead = AHEAD_CHUNKS * compute_price(terms.chunk, terms.price_per_mib)
    busy = {entry.target.rail_id for entry in purse.ledger.list_open()}
    for _ in range(MAX_RAILS):
        rail_id, id_ = purse.rails.choose(terms.payee, needed, busy), make_id()
        part.note(Note(provider, write_offer(provider, offer), id_, first, rail_id))
        try:
            held = purse.ledger.reserve(purpose, terms.get_target(rail_id), needed, ahead=ahead, id_=id_)
        except RailBusy:
            busy.add(rail_id)
            continue
        on_step("reserved")
        return ChunkPayment(held, purse.signer, offer, terms, first)
    raise RailBusy(f"{MAX_RAILS} rails to {terms.payee} are in use by other processes: try again later")


def resume(purse: Purse, part: PartFile, note: Note, offer: VoucherOffer, terms: Terms) -> ChunkPayment | None:
    """The payment that a process which died has left, to go on with; None where there is none."""
    entry = find_open(purse.ledger, note.reservation)
    if entry is None or entry.target != terms.get_target(note.rail_id) or note.first > part.count:
        return None
    ahead = AHEAD_CHUNKS * compute_price(terms.chunk, terms.price_per_mib)
    return ChunkPayment(purse.ledger.resume(entry.id, ahead=ahead), purse.signer, offer, terms, note.first)


def abandon(purse: Purse, note: Note) -> Receipt | None:
    """End what a process which died has left and nobody goes on with: what may have been signed counts as spent."""
    entry = find_open(purse.ledger, note.reservation)
    if entry is None or not entry.target.rail_id:
        return None  # a single payment stays reserved until the chain, or its expiry, tells what came of it
    held = purse.ledger.resume(entry.id)
    if held.signed:
        return held.charge(f"left unfinished by a process that ended; {note.provider}")
    held.release()
    return None


def write_offer(provider: str, offer: VoucherOffer) -> str:
    """An offer for a note."""
    return encode_required(PaymentRequired(Resource(provider), (offer,)))


def read_offer(note: Note) -> VoucherOffer | None:
    """The offer of a note; None where it cannot be read."""
    with suppress(WireError):
        return parse_required(note.offer).voucher
    return None


def choose_offer(purse: Purse, offers: Sequence[Offer]) -> Offer:
    """The first offer that there is money for in the right place. Raises TooLittleMoney, ChainUnavailable."""
    for offer in offers:
        if isinstance(offer, VoucherOffer) or purse.rails.has_tokens(offer.amount):
            return offer
    raise TooLittleMoney(
        f"the wallet's own account has less than {offers[0].amount} base units, which a single payment takes: send some"
        " to it, or withdraw from Filecoin Pay"
    )


def find_open(ledger: Ledger, reservation_id: str) -> Entry | None:
    """A reservation that has not ended."""
    with suppress(ValidationError):
        entry = ledger.get_entry(reservation_id)
        return entry if entry.state is State.RESERVED else None
    return None


class SinglePayment:
    """One EIP-3009 payment for all of a resource."""

    def __init__(
        self, purse: Purse, purpose: Purpose, offer: ExactOffer, required: PaymentRequired, now_s: int
    ) -> None:
        """Reserves it. Raises SpendingLimitExceeded before anything is signed."""
        expires_at = now_s + min(offer.timeout_s, MAX_VALID_S)
        target = Target(offer.currency, offer.payee)
        self._held = purse.ledger.reserve(purpose, target, offer.amount, expires_at=expires_at)
        self._signer, self._offer, self._required = purse.signer, offer, required

    @property
    def entry(self) -> Entry:
        """Its reservation, as it was made."""
        return self._held.entry

    @property
    def is_signed(self) -> bool:
        """Whether it may have been."""
        return self._held.signed > 0

    def pay(self) -> str:
        """PAYMENT-SIGNATURE."""
        signed = self._signer.sign_transfer(self._held.authorize(), self._offer.domain)
        return encode_payment(ExactPayment(self._offer, signed, self._required.resource))

    def settle(self, note: str) -> Receipt:
        """It is spent."""
        return self._held.charge(note)

    def release_unsigned(self) -> None:
        """Free it where nothing was signed; else it stays reserved until the chain, or its expiry, ends it."""
        if not self._held.signed:
            self._held.release()
