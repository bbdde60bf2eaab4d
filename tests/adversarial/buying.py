"""A reader with a limit, whose signatures are counted."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.adversarial.selling import CURRENCY, OPERATOR, PAY, CountingSigner, FixedRails, Seller

from quorate.chain.account import SigningAccount
from quorate.filecoin.ledger import Ledger
from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.piecetree import CHUNK_BYTES
from quorate.filecoin.retrieval.asking import Market
from quorate.filecoin.retrieval.book import ProvidersBook
from quorate.filecoin.retrieval.paying import Purse
from quorate.filecoin.retrieval.quoting import Buyer
from quorate.filecoin.retrieval.reader import Reader
from quorate.filecoin.retrieval.report import Report
from quorate.filecoin.retrieval.transport import Pace
from quorate.filecoin.retrieval.wanted import of_piece
from quorate.filecoin.spending import Scope, ScopeKind
from quorate_node.filecoin.hashing import Hasher

ACCOUNT = SigningAccount.from_key(b"\x05" * 32)
PRICE = 1 << 20
"""A base unit a byte, so that amounts can be read as bytes."""
CAP = 10**9
CHUNK = CHUNK_BYTES
PACE = Pace(connect_s=10.0, stall_s=10.0)
HASHER = Hasher(2)


def make_bytes(size: int, seed: int = 1) -> bytes:
    """Bytes that no compression and no accident repeats."""
    return random.Random(seed).randbytes(size)


def create_ledger(folder: Path, cap: int = CAP) -> None:
    """A ledger with a cap for all."""
    Ledger.create(folder / "ledger.db", CURRENCY)
    with closing(Ledger(folder / "ledger.db")) as ledger:
        ledger.set_cap(Scope(ScopeKind.TOTAL), cap)


@dataclass(slots=True)
class Client:
    """A reader in `folder`, with its purse. As a context manager it lets everything go."""

    folder: Path
    exact_bytes: int = CHUNK
    max_per_mib: int | None = None
    pauses_s: Sequence[float] = (0.01, 0.02)
    rails: FixedRails = field(default_factory=lambda: FixedRails(CAP))
    on_step: Callable[[str], None] = lambda step: None
    pace: Pace = PACE
    index_urls: tuple[str, ...] = ()
    busy_s: float = 0.3
    purses: int = 0
    signer: CountingSigner = field(default_factory=lambda: CountingSigner(ACCOUNT))
    _ledger: Ledger | None = None

    @property
    def ledger(self) -> Ledger:
        """Opened when it is first needed, as a wallet is."""
        if self._ledger is None:
            self._ledger = Ledger(self.folder / "ledger.db", busy_s=self.busy_s)
        return self._ledger

    @property
    def book(self) -> ProvidersBook:
        return ProvidersBook(self.folder)

    @property
    def reader(self) -> Reader:
        market = Market(self.book, self.index_urls, is_local=False, pace=self.pace)
        buyer = Buyer(CURRENCY, PAY, OPERATOR, self.max_per_mib, self.exact_bytes)
        return Reader(market, buyer, self._open, HASHER.compute, self.pauses_s, self.on_step)

    def _open(self) -> Purse:
        self.purses += 1
        return Purse(self.ledger, self.signer, self.rails)

    def ask(self, *sellers: Seller | str) -> None:
        """Name providers."""
        for each in sellers:
            self.book.add(each if isinstance(each, str) else each.url)

    def get(self, piece: PieceCid, job: str = "job") -> Report:
        """Retrieve a piece to `folder/piece`."""
        return self.reader.bring_piece(of_piece(piece), self.path, job)

    @property
    def path(self) -> Path:
        return self.folder / "piece"

    @property
    def charged(self) -> int:
        """What the ledger counts as spent, in base units."""
        usage = self.ledger.list_usage().get(Scope(ScopeKind.TOTAL))
        return usage.used if usage is not None else 0

    @property
    def is_banned(self) -> bool:
        return bool(self.book.bans())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._ledger is not None:
            self._ledger.close()
