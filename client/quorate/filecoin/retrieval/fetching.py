"""One piece on its way to a file: from one provider after the other, paid chunk by chunk, until all is here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from quorate.filecoin.piecetree import (
    CHUNK_BYTES,
    ChunkVerifier,
    ComputeNode,
    count_chunks,
    get_chunk_height,
    join,
)
from quorate.filecoin.retrieval import paying
from quorate.filecoin.retrieval.asking import Candidate, Market
from quorate.filecoin.retrieval.book import FAILURE_BAN_S
from quorate.filecoin.retrieval.partfile import Note, PartFile
from quorate.filecoin.retrieval.paying import ChunkPayment, Purse, SinglePayment, TooLittleMoney
from quorate.filecoin.retrieval.quoting import Quote, read_required
from quorate.filecoin.retrieval.report import Report
from quorate.filecoin.retrieval.streaming import ChunkHasher, PaymentRefused, fetch_chunk, fetch_nodes, receive_chunk
from quorate.filecoin.retrieval.transport import Channel, ProviderFailed, ProviderLied
from quorate.filecoin.retrieval.wanted import Wanted
from quorate.filecoin.spending import Purpose, SpendingLimitExceeded
from quorate.filecoin.terms import ExactOffer, VoucherOffer, WireError
from quorate.filecoin.x402 import SIGNATURE
from quorate.protocol.errors import ContentUnavailable, DataError


@dataclass(frozen=True, slots=True)
class Tools:
    """What every fetch of a reader uses; see `Reader`."""

    market: Market
    open_purse: Callable[[], Purse] | None
    compute: ComputeNode
    pauses_s: Sequence[float]
    on_step: Callable[[str], None]
    on_bytes: Callable[[int], None]


@dataclass(slots=True)
class Fetch:
    """`dataset` and `job` are the names under which it is paid for; `check` sees each chunk in order before the next is
    paid for, and raises DataError where it is not what it should be."""

    tools: Tools
    wanted: Wanted
    dataset: str
    job: str
    part: PartFile
    hasher: ChunkHasher
    check: Callable[[memoryview | bytes], None]
    report: Report
    checked: int = 0
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(CHUNK_BYTES)))
    purse: Purse | None = None

    def run(self, offers: Sequence[tuple[Candidate, Quote]]) -> None:
        """Bring all of it, from the cheapest first. Raises SpendingLimitExceeded where that alone prevents it,
        ContentUnavailable with everybody's reason, or what the ledger and the disk say."""
        refused: SpendingLimitExceeded | TooLittleMoney | None = None
        note = self.part.read_note()
        # Who has been paid for a part of it comes first: it serves that part again.
        for candidate, quote in sorted(offers, key=lambda each: note is None or each[0].url != note.provider):
            problem = self._try(candidate, quote)
            refused = refused or problem
            if self.part.is_whole:
                self._forget()
                return
        if refused is not None:
            raise refused
        raise unavailable(self.wanted, self.report.rejected)

    def _try(self, candidate: Candidate, quote: Quote) -> SpendingLimitExceeded | TooLittleMoney | None:
        """One provider; what forbids to pay it."""
        book, payee = self.tools.market.book, quote.offer.payee if quote.offer is not None else None
        try:
            with closing(self.tools.market.open(candidate)) as channel:
                self._bring(channel, quote)
        except (SpendingLimitExceeded, TooLittleMoney) as error:
            self._leave(candidate.url, error)
            return error
        except ProviderLied as error:
            self._leave(candidate.url, error)
            book.ban(candidate.url, payee, reason=str(error), by_stranger=not candidate.is_named)
        except (ProviderFailed, DataError) as error:
            self._leave(candidate.url, error)
        else:
            self.report.providers.append(candidate.url)
        return None

    def _leave(self, url: str, error: Exception) -> None:
        self.report.rejected.append((url, str(error)))

    def _forget(self) -> None:
        """All is here: end what an earlier process had reserved for it at another provider."""
        if (note := self.part.read_note()) is not None and self.tools.open_purse is not None:
            self.report.take(paying.abandon(self._open_purse(), note))
            self.part.forget_note()

    def _bring(self, channel: Channel, quote: Quote) -> None:
        verifier = fetch_nodes(channel, self.part.piece, self.tools.compute)
        if verifier is None and quote.offer is not None:
            raise ProviderFailed(
                "serves no nodes of the piece's tree, so that nothing could be verified before it is paid for"
            )
        if verifier is None:
            self._bring_unverified(channel)
            return
        self.part.check(verifier)
        self._catch_up()
        if self.part.is_whole:
            return
        if quote.offer is None:
            for index in range(self.part.count, verifier.count):
                self._take_chunk(channel, verifier, index, {}, None)
            return
        offer = paying.choose_offer(self._open_purse(), (quote.offer, *quote.others))
        if isinstance(offer, VoucherOffer):
            self._bring_paid(channel, verifier, quote.url, offer)
        else:
            self._bring_once(channel, verifier, quote, offer)

    def _catch_up(self) -> None:
        """Let `check` see what was here before. Raises DataError when that is nothing that it wants."""
        while self.checked < self.part.count:
            self.check(self.part.read(self.checked))
            self.checked += 1

    def _bring_unverified(self, channel: Channel) -> None:
        """Of a provider without nodes, for nothing: all of it comes first, and counts when its root is the piece's."""
        part, piece, start = self.part, self.part.piece, self.part.count
        height = get_chunk_height(piece.height)
        try:
            nodes = [self.tools.compute(part.read(index), height) for index in range(start)]
            for index in range(start, count_chunks(piece.size_bytes)):
                length = min(CHUNK_BYTES, piece.size_bytes - index * CHUNK_BYTES)
                chunk, node = receive_chunk(channel, piece, index, length, {}, self.hasher, self.buffer)
                nodes.append(node)
                self._take(chunk)
            if join(nodes, height, piece.height) != piece.root:
                raise ProviderLied(f"what it sent is not {piece.v2}")
        except BaseException:
            part.count = self.checked = 0  # of unknown worth
            raise

    # vouchers -----------------------------------------------------------------------------------------------------

    def _bring_paid(self, channel: Channel, verifier: ChunkVerifier, url: str, offer: VoucherOffer) -> None:
        purse, payment = self._open_purse(), None
        if (note := self.part.read_note()) is not None:
            offer = self._recall(note, url) or offer
            payment = self._take_up(purse, channel, verifier, note, url, offer)
            if self.part.is_whole:
                return
        if payment is None:
            purpose, terms = Purpose(self.job, self.dataset, url), offer.get_terms(str(self.part.piece.v2))
            payment = paying.begin(purse, self.part, url, purpose, offer, terms, self.tools.on_step)
        with self._settling(payment, url):
            for index in range(self.part.count, verifier.count):
                if offer.expires <= self.tools.market.clock():
                    raise ProviderFailed("offered terms that have ended meanwhile: ask it for new ones")
                headers = {SIGNATURE: payment.pay(index)}
                self.tools.on_step("signed")
                self._take_chunk(channel, verifier, index, headers, offer)

    def _recall(self, note: Note, url: str) -> VoucherOffer | None:
        """The offer under which a payment was begun, while it lasts: what was paid under it is served again."""
        offer = paying.read_offer(note) if note.provider == url else None
        return offer if offer is not None and offer.expires > self.tools.market.clock() else None

    def _take_up(
        self, purse: Purse, channel: Channel, verifier: ChunkVerifier, note: Note, url: str, offer: VoucherOffer
    ) -> ChunkPayment | None:
        """Go on with a payment that was cut off; None when another has to be begun."""
        is_current = self._recall(note, url) is not None
        terms = offer.get_terms(str(self.part.piece.v2))
        if is_current and (payment := paying.resume(purse, self.part, note, offer, terms)) is not None:
            return payment
        self.report.take(paying.abandon(purse, note))
        if is_current and note.header and note.chunk == self.part.count:  # signed, and never answered
            self._take_chunk(channel, verifier, note.chunk, {SIGNATURE: note.header}, offer)
        self.part.forget_note()
        return None

    @contextmanager
    def _settling(self, payment: ChunkPayment, url: str) -> Iterator[None]:
        """Whatever happens, what was signed is charged; a voucher that was not answered is kept, to be shown again."""
        is_lie = False
        try:
            yield
        except ProviderLied:
            is_lie = True
            raise
        finally:
            note = payment.describe(url)
            what = f"{self.part.piece.v2} chunks {payment.first} to {self.part.count - 1} from {url}"
            self.report.take(payment.settle(what))
            if payment.header and payment.chunk == self.part.count and not is_lie:
                self.part.note(note)
            else:
                self.part.forget_note()
            self.tools.on_step("settled")

    # single payments ----------------------------------------------------------------------------------------------

    def _bring_once(self, channel: Channel, verifier: ChunkVerifier, quote: Quote, offer: ExactOffer) -> None:
        """A piece of one chunk, paid in one shot."""
        assert quote.required is not None
        if verifier.count > 1:
            raise ProviderFailed("sells a piece of several chunks in one shot only")
        purpose, now = Purpose(self.job, self.dataset, quote.url), int(self.tools.market.clock())
        payment = SinglePayment(self._open_purse(), purpose, offer, quote.required, now)
        self.tools.on_step("reserved")
        try:
            headers = {SIGNATURE: payment.pay()}
            self.tools.on_step("signed")
            self._take_chunk(channel, verifier, 0, headers, None)
            self.report.take(payment.settle(f"{self.part.piece.v2} from {quote.url}"))
        finally:
            payment.release_unsigned()
        self.tools.on_step("settled")

    # chunks -------------------------------------------------------------------------------------------------------

    def _take_chunk(
        self, channel: Channel, verifier: ChunkVerifier, index: int, headers: Mapping[str, str],
        offer: VoucherOffer | None,
    ) -> None:  # fmt: skip
        """One chunk, asked for again where the connection was cut, by the same payment; it is verified and written."""
        pauses = iter(self.tools.pauses_s)
        while True:
            try:
                self._take(fetch_chunk(channel, verifier, index, headers, self.hasher, self.buffer))
                return
            except ProviderFailed as error:
                channel.close()
                if isinstance(error, PaymentRefused) and offer is not None:
                    _check_price(error, offer)
                pause = next(pauses, None)
                if pause is None:
                    if headers:
                        reason = f"did not deliver what was paid for: {error}"
                        self.tools.market.book.ban(channel.origin.url, reason=reason, seconds=FAILURE_BAN_S)
                    raise
                time.sleep(pause)

    def _take(self, chunk: memoryview) -> None:
        try:
            self.check(chunk)
        except DataError as error:
            raise ProviderLied(str(error)) from None
        self.part.append(chunk)
        self.checked = self.part.count
        self.report.bytes += len(chunk)
        self.tools.on_bytes(len(chunk))
        self.tools.on_step("verified")

    def _open_purse(self) -> Purse:
        if self.purse is None:
            if self.tools.open_purse is None:
                raise ProviderFailed("is not free, and there is no wallet with a limit to pay from")
            self.purse = self.tools.open_purse()
        return self.purse


def unavailable(wanted: Wanted, rejected: Sequence[tuple[str, str]]) -> ContentUnavailable:
    """Nobody gave it, and why."""
    reasons = "; ".join(f"{url}: {reason}" for url, reason in rejected) or "no provider is known"
    return ContentUnavailable(
        f"nobody serves {wanted.text} ({reasons}); add a provider with `filecoin providers add URL`, or try again later"
    )


def _check_price(error: PaymentRefused, offer: VoucherOffer) -> None:
    """ProviderLied when the answer to a payment is another price, or another account, than what was agreed on."""
    try:
        now = read_required(error.headers, b"").voucher
    except WireError:
        return
    if now is None:
        return
    agreed = (offer.currency, offer.payee, offer.operator, offer.pay, offer.size)
    if now.price_per_mib > offer.price_per_mib or agreed != (now.currency, now.payee, now.operator, now.pay, now.size):
        raise ProviderLied(
            f"changes its offer in mid-stream: {now.price_per_mib} a MiB to {now.payee} instead of "
            f"{offer.price_per_mib} to {offer.payee}"
        )
