"""What a retrieval came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from quorate.filecoin.spending import Receipt


@dataclass(slots=True)
class Report:
    """What was retrieved. `bytes` came from `providers`, `paid` base units were signed for them; who was left, and why.
    `path` is where a piece lies, `root` what came into a store."""

    wanted: str
    bytes: int = 0
    paid: int = 0
    seconds: float = 0.0
    providers: list[str] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    path: Path | None = None
    root: str | None = None

    def take(self, receipt: Receipt | None) -> None:
        """Count what was paid."""
        if receipt is not None:
            self.receipts.append(receipt)
            self.paid += receipt.entry.charged

    def add(self, other: Report) -> None:
        """Count another one's too."""
        self.bytes += other.bytes
        self.paid += other.paid
        self.providers += other.providers
        self.rejected += other.rejected
        self.receipts += other.receipts
