"""DAGs and pieces into a store of blocks.

Free DAGs come as from any gateway. A paid one is read as the piece in which it lies, chunk by chunk, and checked block
by block against its root before the next chunk is paid for; one that is small, in one shot. A piece that is named
itself stands for the DAG of the CAR that it is, else for a file of its bytes: the same for everybody who reads it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from http import HTTPStatus
from pathlib import Path

from quorate.filecoin.retrieval.asking import CAR_HEADERS, Candidate, collect_quotes, find_candidates
from quorate.filecoin.retrieval.book import FAILURE_BAN_S
from quorate.filecoin.retrieval.fetching import unavailable
from quorate.filecoin.retrieval.paying import SinglePayment, TooLittleMoney, choose_offer
from quorate.filecoin.retrieval.quoting import Quote
from quorate.filecoin.retrieval.reader import BY_HAND, Reader
from quorate.filecoin.retrieval.report import Report
from quorate.filecoin.retrieval.streaming import read_reason
from quorate.filecoin.retrieval.transport import ProviderFailed, ProviderLied
from quorate.filecoin.retrieval.wanted import Wanted, of_piece
from quorate.filecoin.spending import Purpose, SpendingLimitExceeded
from quorate.filecoin.terms import ExactOffer
from quorate.filecoin.x402 import SIGNATURE
from quorate.protocol.errors import Busy, ContentUnavailable, DataError
from quorate.storage.car import CarReader, CarVerifier
from quorate.storage.cid import Cid
from quorate.storage.dagstore import DagStore
from quorate.storage.fetch import fetch_dag
from quorate.storage.transfer import FetchLimits

READ_BYTES = 1 << 20


class CarCheck:
    """Whether the chunks of a piece are the CAR of a DAG; holds no block. See `Reader.bring_piece`."""

    def __init__(self, root: Cid, max_bytes: int | None = None) -> None:
        self._verifier = CarVerifier(root, dups=None, max_bytes=max_bytes)

    def __call__(self, chunk: memoryview | bytes) -> None:
        self._verifier.push(bytes(chunk))


def bring(
    reader: Reader, wanted: Wanted, store: DagStore, spool: Path, job: str = BY_HAND, *,
    strangers: Sequence[str] = (), limits: FetchLimits | None = None,
) -> Report:  # fmt: skip
    """Bring content into a store; `Report.root` is what it is there. `spool` is a folder for pieces on their way.

    Raises SpendingLimitExceeded, ContentUnavailable, DataError for what is larger than `limits` allow, or what ledger,
    store and disk say.
    """
    limits = limits or FetchLimits()
    if wanted.piece is not None:
        return _bring_piece(reader, wanted, store, spool, job, strangers, limits)
    report = Report(wanted.text, root=str(wanted.cid))
    if store.is_complete(wanted.cid):
        return report
    began = time.monotonic()
    candidates, report.rejected = find_candidates(reader.market, wanted, strangers)
    quotes = collect_quotes(reader.market, wanted, candidates, reader.buyer)
    report.rejected += quotes.rejected
    if not _bring_free(wanted, store, quotes.found, limits, report):
        paid = [quote for quote in quotes.found if quote.offer is not None]
        _Paid(reader, wanted, store, spool, job, limits, report).run(paid, {each.url: each for each in candidates})
    report.seconds = time.monotonic() - began
    return report


def _bring_free(wanted: Wanted, store: DagStore, quotes: Sequence[Quote], limits: FetchLimits, report: Report) -> bool:
    """Whether those who give it for nothing gave all of it; what they did give is kept."""
    free = [quote.url for quote in quotes if quote.offer is None]
    if not free:
        return False
    try:
        fetched = fetch_dag(store, wanted.cid, free, limits=limits)
    except ContentUnavailable as error:
        report.rejected.append((free[0], str(error)))
        return False
    report.bytes += fetched.bytes
    report.providers += [fetched.provider] if fetched.provider else []
    report.rejected += fetched.rejected
    return True


def _bring_piece(
    reader: Reader, wanted: Wanted, store: DagStore, spool: Path, job: str, strangers: Sequence[str],
    limits: FetchLimits,
) -> Report:  # fmt: skip
    assert wanted.piece is not None
    if limits.max_bytes is not None and wanted.piece.size_bytes > limits.max_bytes:
        raise DataError(f"{wanted.text} has {wanted.piece.size_bytes} bytes, over the limit of {limits.max_bytes}")
    path = spool / f"{wanted.piece.v2}"
    if path.exists():  # whole, and not yet in the store when a process ended
        report = Report(wanted.text, path=path)
    else:
        report = reader.bring_piece(wanted, path, job, strangers=strangers)
    report.root = str(keep_piece(store, path))
    path.unlink()
    report.path = None
    return report


def keep_piece(store: DagStore, path: Path) -> Cid:
    """What a piece is in a store: the root of the CAR that it is, if it is one of one whole DAG, else a file."""
    if (root := _find_root(path)) is not None:
        with suppress(DataError):
            store.import_car(_read(path), root)
            return root.to_v1()
    return store.add_path(path, copy=True).to_v1()


def _find_root(path: Path) -> Cid | None:
    reader = CarReader()
    try:
        for part in _read(path):
            reader.push(part)
            if reader.roots:
                break
    except DataError:
        return None
    if len(reader.roots) != 1:
        return None
    with suppress(DataError):
        reader.roots[0].check_supported()
        return reader.roots[0]
    return None


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            yield part


class _Paid:
    """A DAG that nobody gives for nothing."""

    def __init__(
        self, reader: Reader, wanted: Wanted, store: DagStore, spool: Path, job: str, limits: FetchLimits,
        report: Report,
    ) -> None:  # fmt: skip
        self._reader, self._wanted, self._store, self._spool = reader, wanted, store, spool
        self._job, self._limits, self._report = job, limits, report

    def run(self, quotes: Sequence[Quote], named: dict[str, Candidate]) -> None:
        """From the cheapest that works."""
        refused: SpendingLimitExceeded | TooLittleMoney | None = None
        for quote in quotes:
            try:
                self._bring(named[quote.url], quote)
                return
            except (SpendingLimitExceeded, TooLittleMoney) as error:
                refused = refused or error
                self._leave(quote, error)
            except ProviderLied as error:
                self._leave(quote, error)
                payee = quote.offer.payee if quote.offer is not None else None
                is_stranger = not named[quote.url].is_named
                self._reader.market.book.ban(quote.url, payee, reason=str(error), by_stranger=is_stranger)
            except (ProviderFailed, ContentUnavailable, DataError, Busy) as error:
                self._leave(quote, error)
        if refused is not None:
            raise refused
        raise unavailable(self._wanted, self._report.rejected)

    def _leave(self, quote: Quote, error: Exception) -> None:
        self._report.rejected.append((quote.url, str(error)))

    def _bring(self, candidate: Candidate, quote: Quote) -> None:
        if self._reader.open_purse is None or quote.offer is None:
            raise ProviderFailed("is not free, and there is no wallet with a limit to pay from")
        offer = choose_offer(self._reader.open_purse(), (quote.offer, *quote.others))
        if isinstance(offer, ExactOffer):
            self._bring_once(candidate, quote, offer)
            return
        assert quote.hint is not None, "judge() lets no other through"
        if self._limits.max_bytes is not None and quote.hint.size_bytes > self._limits.max_bytes:
            raise DataError(f"its CAR has {quote.hint.size_bytes} bytes, over the limit of {self._limits.max_bytes}")
        path = self._spool / f"{quote.hint.v2}"
        if not path.exists():
            check = CarCheck(self._wanted.cid, self._limits.max_bytes)
            self._report.add(
                self._reader.bring_piece(
                    of_piece(quote.hint), path, self._job, candidates=[candidate], check=check,
                    dataset=self._wanted.text, max_amount=offer.amount,
                )
            )  # fmt: skip
        try:
            self._store.import_car(_read(path), self._wanted.cid)
        finally:
            path.unlink()

    def _bring_once(self, candidate: Candidate, quote: Quote, offer: ExactOffer) -> None:
        """A small DAG, paid in one shot and checked block by block."""
        reader, wanted = self._reader, self._wanted
        if reader.open_purse is None or quote.required is None:
            raise ProviderFailed("is not free, and there is no wallet with a limit to pay from")
        purpose, now = Purpose(self._job, wanted.text, quote.url), int(reader.market.clock())
        payment = SinglePayment(reader.open_purse(), purpose, offer, quote.required, now)
        reader.on_step("reserved")
        try:
            with closing(reader.market.open(candidate)) as channel:
                headers = {**CAR_HEADERS, SIGNATURE: payment.pay()}
                reader.on_step("signed")
                with channel.ask("GET", wanted.path, headers, is_paid=True) as answer:
                    if answer.status == HTTPStatus.PAYMENT_REQUIRED:
                        raise ProviderFailed(f"does not take the payment: {read_reason(answer)}")
                    if answer.status != HTTPStatus.OK:
                        raise ProviderLied(f"took the payment and answered {answer.status}")
                    size = offer.size + READ_BYTES if offer.size is not None else self._limits.max_bytes
                    try:
                        got = self._store.import_car(answer.stream(), wanted.cid, max_bytes=size)
                    except DataError as error:
                        raise ProviderLied(f"took the payment and sent something else: {error}") from None
        except ProviderFailed as error:
            if payment.is_signed:
                reason = f"did not deliver what was paid for: {error}"
                reader.market.book.ban(quote.url, reason=reason, seconds=FAILURE_BAN_S)
            raise
        finally:
            payment.release_unsigned()
        self._report.bytes += got.received_bytes
        self._report.providers.append(quote.url)
        self._report.take(payment.settle(f"{wanted.text} from {quote.url}"))
        reader.on_step("settled")
