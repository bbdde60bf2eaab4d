"""Fetching content from providers that nobody trusts.

A provider is a base URL of a trustless gateway. Whatever it sends is verified while it comes in; one that lies, stalls
or stops is left for the next, and what it sent rightly is kept: whoever comes next is asked for the rest alone. Of a
large DAG several providers bring parts at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import httpx

from quorate.protocol.errors import ContentUnavailable, DataError
from quorate.storage.base import MAX_BLOCK_BYTES, BlobStore
from quorate.storage.car import CarCut
from quorate.storage.cid import Cid
from quorate.storage.gateway_request import CAR_TYPE, RAW_TYPE
from quorate.storage.missing import Part, find_missing
from quorate.storage.providers import ProviderBook
from quorate.storage.transfer import Dropped, FetchLimits, OnProgress, base_url, explain, receive

_ACCEPT_CAR = f"{CAR_TYPE}; version=1; order=dfs; dups=n"
MAX_AT_ONCE = 4
MAX_RESUMED = 8
"""How often one provider may go on after it was cut off, each time with something new."""
SPLIT_AFTER = 64 << 20
"""Bytes of one answer after which other providers take part: less than that lies in one piece, and can be mapped."""


@dataclass(frozen=True, slots=True)
class FetchReport:
    """`bytes` received from all providers in `seconds`; `provider` sent most of them (None when all was here already);
    who was dropped, and why."""

    bytes: int
    provider: str | None
    seconds: float
    rejected: tuple[tuple[str, str], ...]


_Take = Callable[[BlobStore, Cid, str, FetchLimits, float], int]


class ContentTooLarge(ContentUnavailable):
    """There is more of the content than may be fetched, whoever serves it."""


class _Enough(Exception):
    """This answer goes on, and others shall take part in what is left."""


def fetch_dag(
    store: BlobStore,
    root: Cid,
    providers: Sequence[str],
    *,
    limits: FetchLimits | None = None,
    on_progress: OnProgress | None = None,
    book: ProviderBook | None = None,
) -> FetchReport:
    """Bring the whole DAG of `root` into `store`; what is here of it is not fetched again.

    `on_progress` gets the bytes received so far; `book` remembers providers from one fetch to the next.
    ContentUnavailable, with everybody's reason, when nobody serves it, and ContentTooLarge when all providers together
    would bring more of it than `limits.max_bytes`; errors of the store itself (a full disk, a lock)
    pass through.
    """
    root.check_supported()
    fetching = _Fetching(store, root, providers, limits or FetchLimits(), on_progress, book or ProviderBook())
    return fetching.run()


@dataclass(slots=True)
class _Fetching:
    """One fetch, by one or several threads; `open` are providers that may be asked."""

    store: BlobStore
    root: Cid
    named: Sequence[str]
    limits: FetchLimits
    on_progress: OnProgress | None
    book: ProviderBook
    open: list[str] = field(default_factory=list)
    received: dict[str, int] = field(default_factory=dict)
    kept: int = 0
    has_kept: bool = False  # an answer has ended: what it brought may come again
    cuts: Counter[str] = field(default_factory=Counter)
    cut: str = ""
    rejected: list[tuple[str, str]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)
    failure: BaseException | None = None
    is_whole: bool = False  # one answer brought all of it

    def run(self) -> FetchReport:
        self.open, banned = self.book.order(self.named)
        self.rejected += ((each, "is not asked, for it lied before") for each in banned)
        before: tuple[list[Part], int] | None = None
        while not self.is_whole and (parts := find_missing(self.store, self.root)):
            if (parts, len(self.rejected)) == before:
                self._leave(self.open[0], self.cut or "brought nothing of what was asked for")
            if not self.open:
                raise unavailable(self.root, self.rejected)
            before = parts, len(self.rejected)
            if self.limits.meter is not None:
                self.limits.meter.check()
            self._bring(deque(parts))
            if self.failure is not None:
                raise self.failure
        most = max(self.received, key=lambda url: self.received[url], default=None)
        seconds = time.monotonic() - self.started
        return FetchReport(sum(self.received.values()), most, seconds, tuple(self.rejected))

    def _bring(self, parts: deque[Part]) -> None:
        """Ask for parts, until all are here or a provider is left."""
        helpers = self.open[1:MAX_AT_ONCE] if len(parts) > 1 else []
        threads = [threading.Thread(target=self._work, args=(url, parts), daemon=True) for url in helpers]
        for thread in threads:
            thread.start()
        self._work(self.open[0], parts)
        for thread in threads:
            thread.join()

    def _work(self, url: str, parts: deque[Part]) -> None:
        """Ask one provider for part after part; it is left where it fails."""
        while parts and self.failure is None:
            try:
                part = parts.popleft()
            except IndexError:
                return
            try:
                self._take(url, part)
            except _Enough:
                return
            except (Dropped, DataError) as error:
                self._leave(url, str(error), is_lie=_is_lie(error), is_cut=isinstance(error, CarCut))
                return
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last: a name nobody resolves
                self._leave(url, explain(error, self.limits), is_cut=isinstance(error, httpx.RemoteProtocolError))
                return
            except BaseException as error:  # of the store: it ends the whole fetch, whichever thread met it
                self.failure = error
                return
            self.book.note_success(url)

    def _take(self, url: str, part: Part) -> None:
        limits, now = self.limits, time.monotonic()
        # One that is silent or slow uses up its own time alone: who comes next has some left, however late it is.
        least = min(limits.timeout_s, limits.connect_s + limits.stall_s)
        deadline = max(self.started + limits.timeout_s, now + least)
        span = part.byte_range
        scope = "dag-scope=all" if span is None else f"dag-scope=entity&entity-bytes={span.first}:{span.last}"
        target = f"{base_url(url)}/ipfs/{part.cid}?format=car&{scope}"
        left = None if limits.max_bytes is None else limits.max_bytes - self.received.get(url, 0)
        may_split = part.span is None and len(self.open) > 1
        with closing(receive(target, _ACCEPT_CAR, CAR_TYPE, limits, deadline)) as chunks:
            counted = self._count(url, chunks, may_split)
            try:
                # What a power cut takes is fetched again: no need to wait for the disk.
                self.store.import_car(
                    counted, part.cid, byte_range=span, max_bytes=left, admit=self._admit, is_durable=False
                )
            finally:
                self.has_kept = True
        self.is_whole |= span is None and part.cid == self.root

    def _count(self, url: str, chunks: Iterator[bytes], may_split: bool) -> Iterator[bytes]:
        here = 0
        for chunk in chunks:
            here += len(chunk)
            with self.lock:
                self.received[url] = self.received.get(url, 0) + len(chunk)
                total = sum(self.received.values())
            self.book.note_bytes(len(chunk))
            if self.on_progress is not None:
                self.on_progress(total)
            yield chunk
            if may_split and here > SPLIT_AFTER:
                raise _Enough

    def _admit(self, cid: Cid, size: int) -> None:
        """Count what is kept, whoever brought it: many providers together must not bring many times what one may.

        What they received is counted for each alone, so that none that repeats itself can use up what others need.
        """
        if self.limits.max_bytes is None or (self.has_kept and self.store.has(cid)):
            return
        with self.lock:
            self.kept += size
            is_over = self.kept > self.limits.max_bytes
        if is_over:
            raise ContentTooLarge(
                f"there is more of {self.root} than the {self.limits.max_bytes} bytes that may be fetched of it: "
                "raise the limit, or refuse the content"
            )

    def _leave(self, url: str, reason: str, *, is_lie: bool = False, is_cut: bool = False) -> None:
        """Ask a provider no more, unless it was cut off in the middle: then it may go on where it stopped."""
        with self.lock:
            if is_cut and self.cuts[url] < MAX_RESUMED:
                self.cuts[url] += 1
                self.cut = reason
                return
            self.rejected.append((url, reason))
            if url in self.open:
                self.open.remove(url)
        (self.book.note_lie if is_lie else self.book.note_failure)(url)


def _is_lie(error: Exception) -> bool:
    return isinstance(error, DataError) and not isinstance(error, CarCut)


def unavailable(cid: Cid, rejected: Sequence[tuple[str, str]]) -> ContentUnavailable:
    """Nobody served it, and why."""
    reasons = "; ".join(f"{url}: {reason}" for url, reason in rejected) or "no provider was named"
    return ContentUnavailable(f"nobody served {cid} ({reasons}); name another provider or try again later")


def fetch_block(
    store: BlobStore,
    cid: Cid,
    providers: Sequence[str],
    *,
    limits: FetchLimits | None = None,
    book: ProviderBook | None = None,
) -> FetchReport:
    """Bring one block into `store`; errors as `fetch_dag`'s."""
    return _from_any(store, cid, providers, limits or FetchLimits(), book or ProviderBook(), _take_block)


def fetch_entity(
    store: BlobStore,
    cid: Cid,
    providers: Sequence[str],
    *,
    limits: FetchLimits | None = None,
    book: ProviderBook | None = None,
) -> FetchReport:
    """Bring a directory's own blocks into `store`, without what its entries lead to; errors as `fetch_dag`'s."""
    return _from_any(store, cid, providers, limits or FetchLimits(), book or ProviderBook(), _take_entity)


def _from_any(
    store: BlobStore, cid: Cid, providers: Sequence[str], limits: FetchLimits, book: ProviderBook, take: _Take
) -> FetchReport:
    """From the first provider that serves it."""
    cid.check_supported()
    started = time.monotonic()
    rejected: list[tuple[str, str]] = []
    candidates, banned = book.order(providers)
    rejected += ((each, "is not asked, for it lied before") for each in banned)
    is_here = partial(store.has, cid) if take is _take_block else bool
    for url in candidates:
        if is_here():
            break
        if limits.meter is not None:
            limits.meter.check()
        least = min(limits.timeout_s, limits.connect_s + limits.stall_s)
        deadline = max(started + limits.timeout_s, time.monotonic() + least)
        try:
            received = take(store, cid, url, limits, deadline)
        except (Dropped, DataError) as error:
            rejected.append((url, str(error)))
            (book.note_lie if _is_lie(error) else book.note_failure)(url)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            rejected.append((url, explain(error, limits)))
            book.note_failure(url)
        else:
            book.note_success(url)
            book.note_bytes(received)
            return FetchReport(received, url, time.monotonic() - started, tuple(rejected))
    if is_here():
        return FetchReport(0, None, time.monotonic() - started, tuple(rejected))
    raise unavailable(cid, rejected)


def _take_entity(store: BlobStore, cid: Cid, url: str, limits: FetchLimits, deadline: float) -> int:
    target = f"{base_url(url)}/ipfs/{cid}?format=car&dag-scope=entity"
    with closing(receive(target, _ACCEPT_CAR, CAR_TYPE, limits, deadline)) as chunks:
        return store.import_car(chunks, cid, scope="entity", max_bytes=limits.max_bytes).received_bytes


def _take_block(store: BlobStore, cid: Cid, url: str, limits: FetchLimits, deadline: float) -> int:
    received = bytearray()
    with closing(receive(f"{base_url(url)}/ipfs/{cid}?format=raw", RAW_TYPE, RAW_TYPE, limits, deadline)) as chunks:
        for chunk in chunks:
            received += chunk
            if len(received) > MAX_BLOCK_BYTES:
                raise Dropped(f"sent more than the {MAX_BLOCK_BYTES} bytes that a block may have")
    store.put(cid, bytes(received))
    return len(received)


async def fetch_dag_async(
    store: BlobStore,
    root: Cid,
    providers: Sequence[str],
    *,
    limits: FetchLimits | None = None,
    on_progress: OnProgress | None = None,
) -> FetchReport:
    """`fetch_dag` in a thread; `on_progress` is called in that thread."""
    return await asyncio.to_thread(fetch_dag, store, root, providers, limits=limits, on_progress=on_progress)
