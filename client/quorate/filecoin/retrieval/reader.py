"""A reader of Filecoin data: discover, quote, reserve, pay, stream and verify, settle.

What a provider can get from it by lying is one chunk's price: the next voucher is signed when the last chunk verified.
Free data needs no purse, which is opened only when there is something to pay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from quorate.filecoin.piecetree import ComputeNode, compute_node
from quorate.filecoin.retrieval.asking import Candidate, Market, Quotes, ask_size, collect_quotes, find_candidates
from quorate.filecoin.retrieval.fetching import Fetch, Tools
from quorate.filecoin.retrieval.partfile import PartFile
from quorate.filecoin.retrieval.paying import Purse
from quorate.filecoin.retrieval.quoting import Buyer
from quorate.filecoin.retrieval.report import Report
from quorate.filecoin.retrieval.streaming import ChunkHasher
from quorate.filecoin.retrieval.wanted import Wanted

RETRY_PAUSES_S = (0.1, 0.5, 2.0, 5.0)
"""Before a provider that was cut off is asked for the same chunk once more."""
BY_HAND = "by-hand"
"""The job of what a person retrieves."""
Check = Callable[[memoryview | bytes], None]


@dataclass(frozen=True, slots=True)
class Reader:
    """Retrieves. `buyer` says what may be paid with (None: nothing is paid), and `open_purse` opens what pays.

    `compute` hashes chunks, in several threads; `on_step` hears of each step before the next one is taken, `on_bytes`
    of what came.
    """

    market: Market
    buyer: Buyer | None = None
    open_purse: Callable[[], Purse] | None = None
    compute: ComputeNode = compute_node
    pauses_s: Sequence[float] = RETRY_PAUSES_S
    on_step: Callable[[str], None] = lambda step: None
    on_bytes: Callable[[int], None] = lambda count: None

    @property
    def tools(self) -> Tools:
        """What a fetch needs of it."""
        return Tools(self.market, self.open_purse, self.compute, self.pauses_s, self.on_step, self.on_bytes)

    def measure(self, wanted: Wanted) -> Wanted:
        """A piece that is named by version 1 with its size, as providers tell it; anything else as it is."""
        if wanted.is_measured:
            return wanted
        return ask_size(self.market, wanted, find_candidates(self.market, wanted)[0])

    def quote(self, wanted: Wanted, strangers: Sequence[str] = ()) -> Quotes:
        """What providers ask for something. Costs nothing."""
        candidates, rejected = find_candidates(self.market, wanted, strangers)
        quotes = collect_quotes(self.market, wanted, candidates, self.buyer)
        return Quotes(quotes.found, (*rejected, *quotes.rejected))

    def bring_piece(
        self, wanted: Wanted, dest: Path, job: str = BY_HAND, *, strangers: Sequence[str] = (),
        candidates: Sequence[Candidate] | None = None, check: Check = lambda chunk: None, dataset: str = "",
        max_amount: int | None = None,
    ) -> Report:  # fmt: skip
        """Bring a piece to a file, which is there whole or not at all; what was cut off goes on where it stopped.

        `check` sees each chunk in order before the next is paid for, and raises DataError where it is not what it
        should be; nobody is paid more than `max_amount` for the whole. Raises SpendingLimitExceeded,
        ContentUnavailable with everybody's reason, Busy, or what the ledger and the disk say.
        """
        assert wanted.piece is not None, "only a piece is read chunk by chunk"
        began, report = time.monotonic(), Report(wanted.text, path=dest)
        if candidates is None:
            candidates, report.rejected = find_candidates(self.market, wanted, strangers)
        quotes = collect_quotes(self.market, wanted, candidates, self.buyer)
        report.rejected += quotes.rejected
        named, offers = {each.url: each for each in candidates}, []
        for quote in quotes.found:
            if max_amount is not None and quote.amount > max_amount:
                report.rejected.append((quote.url, f"asks {quote.amount} for what it had offered for {max_amount}"))
            else:
                offers.append((named[quote.url], quote))
        with PartFile(dest, wanted.piece) as part, closing(ChunkHasher(self.compute)) as hasher:
            Fetch(self.tools, wanted, dataset or wanted.text, job, part, hasher, check, report).run(offers)
            self.on_step("whole")
            part.finish()
        report.seconds = time.monotonic() - began
        return report
