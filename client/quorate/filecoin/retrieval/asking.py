"""Whom to ask, and what they say before anything is paid: the operator's providers, then those of an index."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

from quorate.filecoin.retrieval import discovery
from quorate.filecoin.retrieval.book import ProvidersBook
from quorate.filecoin.retrieval.quoting import Buyer, Quote, check_size, judge, read_hint, read_required, sort_quotes
from quorate.filecoin.retrieval.transport import Answer, Channel, Origin, Pace, ProviderFailed, ProviderLied
from quorate.filecoin.retrieval.wanted import Wanted, measure
from quorate.filecoin.wirejson import MAX_HEADER_CHARS
from quorate.protocol.errors import DataError
from quorate.storage.gateway_request import CAR_TYPE
from quorate.storage.urls import normalize_url

CAR_HEADERS = {"Accept": f"{CAR_TYPE}; version=1; order=dfs; dups=n"}
ASKED_AT_ONCE = 8
MAX_ASKED = 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider to ask. `is_named` by the operator; a stranger is asked at public addresses alone."""

    url: str
    payee: str | None = None
    is_named: bool = False


@dataclass(frozen=True, slots=True)
class Market:
    """Where data is looked for. `index_urls` are IPNI instances, `is_local` lets strangers be on loopback."""

    book: ProvidersBook
    index_urls: tuple[str, ...] = ()
    is_local: bool = False
    pace: Pace = field(default_factory=Pace)
    clock: Callable[[], float] = time.time

    def open(self, candidate: Candidate) -> Channel:
        """A channel to a provider. Raises DataError for one that must not be asked."""
        origin = Origin.find(candidate.url, is_named=candidate.is_named, is_local=self.is_local)
        return Channel(origin, self.pace)


@dataclass(frozen=True, slots=True)
class Quotes:
    """What was offered, the cheapest first, and who was left with the reason."""

    found: tuple[Quote, ...]
    rejected: tuple[tuple[str, str], ...]


def find_candidates(
    market: Market, wanted: Wanted, strangers: Sequence[str] = ()
) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """Providers that the operator named, then `strangers`, then those of the indexes; without those that are banned."""
    rejected: list[tuple[str, str]] = []
    candidates: dict[str, Candidate] = {}
    for each in market.book.named():
        url = normalize_url(each.url)  # limits and bans go by it: no other spelling may get around them
        candidates.setdefault(url, Candidate(url, each.payee, is_named=True))
    for url in map(normalize_url, strangers):
        candidates.setdefault(url, Candidate(url))
    for index in market.index_urls:
        try:
            for url in map(normalize_url, _ask_index(market, index, wanted)):
                candidates.setdefault(url, Candidate(url))
        except (ProviderFailed, ProviderLied, DataError) as error:
            rejected.append((index, str(error)))
    good = []
    for candidate in list(candidates.values())[:MAX_ASKED]:
        ban = market.book.find_ban(candidate.url, candidate.payee, is_named=candidate.is_named)
        if ban is not None:
            rejected.append((candidate.url, f"is banned: {ban.reason}"))
        else:
            good.append(candidate)
    return good, rejected


def ask_size(market: Market, wanted: Wanted, candidates: Sequence[Candidate]) -> Wanted:
    """A piece of version 1 with its size, as providers tell it of that CID."""
    assert wanted.piece is not None, "only a piece of version 1 lacks its size"
    path = f"/piece/{wanted.piece.v1}"

    def ask(candidate: Candidate) -> int:
        try:
            with closing(market.open(candidate)) as channel, channel.ask("HEAD", path, {}) as answer:
                return (answer.length or 0) if answer.status == HTTPStatus.OK else _read_size(answer)
        except (ProviderFailed, ProviderLied, DataError):
            return 0  # it says so again when it is asked for a quote

    with ThreadPoolExecutor(ASKED_AT_ONCE, "size") as pool:
        return measure(wanted, pool.map(ask, candidates))


def _read_size(answer: Answer) -> int:
    """Bytes that a 402 asks money for; 0 where it tells none."""
    if answer.status != HTTPStatus.PAYMENT_REQUIRED:
        return 0
    return next((each.size for each in read_required(answer.headers, b"").offers if each.size), 0)


def collect_quotes(market: Market, wanted: Wanted, candidates: Sequence[Candidate], buyer: Buyer | None) -> Quotes:
    """Ask everybody. Nothing is paid, and nothing of the content is read."""
    rejected: list[tuple[str, str]] = []

    def ask(candidate: Candidate) -> Quote | None:
        try:
            with closing(market.open(candidate)) as channel:
                quote = _ask_one(market, channel, candidate, wanted, buyer)
            payee = quote.offer.payee if quote.offer is not None else None
            if (ban := market.book.find_ban(payee, is_named=candidate.is_named)) is not None:
                raise DataError(f"wants to be paid at {payee}, which is banned: {ban.reason}")
            return quote
        except (ProviderFailed, ProviderLied, DataError) as error:
            rejected.append((candidate.url, str(error)))
            return None

    with ThreadPoolExecutor(ASKED_AT_ONCE, "quote") as pool:
        found = [quote for quote in pool.map(ask, candidates) if quote is not None]
    return Quotes(tuple(sort_quotes(found)), tuple(rejected))


def _ask_index(market: Market, index: str, wanted: Wanted) -> list[str]:
    """Providers that an index knows. The operator named the index, so it may be anywhere."""
    kind = discovery.GATEWAY_HTTP if wanted.piece is None else discovery.PIECE_HTTP
    origin, path = index, f"/routing/v1/providers/{wanted.cid}"
    if "/cid" in urlsplit(index).path:
        origin, path = index.rstrip("/"), f"/{wanted.cid}"
    asked = Channel(Origin.find(origin, is_named=True, is_local=True), market.pace)
    with closing(asked) as channel, channel.ask("GET", path, {"Accept": "application/json"}) as answer:
        if answer.status == HTTPStatus.NOT_FOUND:
            return []
        if answer.status != HTTPStatus.OK:
            raise ProviderFailed(f"answered {answer.status}")
        return discovery.parse_providers(answer.read(discovery.MAX_ANSWER_BYTES), kind)


def _ask_one(market: Market, channel: Channel, candidate: Candidate, wanted: Wanted, buyer: Buyer | None) -> Quote:
    """HEAD, then an unpaid GET, whose answer decides: 200 (206) is free, a 402 is judged."""
    is_piece = wanted.piece is not None
    headers: dict[str, str] = {} if is_piece else dict(CAR_HEADERS)
    size = None
    with channel.ask("HEAD", wanted.path, headers) as answer:
        if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise ProviderFailed("does not have it")
        if answer.status == HTTPStatus.OK and is_piece:
            size = answer.length
    span = {"Range": "bytes=0-0"} if is_piece and wanted.size_bytes else {}
    with closing(channel), channel.ask("GET", wanted.path, {**headers, **span}) as answer:
        if answer.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            check_size(wanted, size)
            channel.close()  # what follows is not wanted yet
            return Quote(candidate.url, wanted.size_bytes if is_piece else size)
        if answer.status == HTTPStatus.PAYMENT_REQUIRED:
            return _judge(market, candidate, wanted, answer, buyer)
        raise ProviderFailed(f"answered {answer.status}")


def _judge(market: Market, candidate: Candidate, wanted: Wanted, answer: Answer, buyer: Buyer | None) -> Quote:
    required = read_required(answer.headers, answer.read(MAX_HEADER_CHARS))
    hint = None if wanted.piece is not None else read_hint(answer.headers)
    return judge(candidate.url, wanted, required, hint, buyer, candidate.payee, int(market.clock()))
