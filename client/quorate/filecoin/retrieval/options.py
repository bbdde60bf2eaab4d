"""What an operator sets of reading."""

from __future__ import annotations

from dataclasses import dataclass

from quorate.filecoin.piecetree import CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """What an operator sets. `index_urls` are IPNI instances; `max_per_mib` base units a MiB (0: any); `exact_bytes` is
    the most that is paid before any of it is verified; a new rail locks `least_lockup` base units, if they are there.
    """

    index_urls: tuple[str, ...] = ()
    max_per_mib: int = 0
    exact_bytes: int = CHUNK_BYTES
    least_lockup: int = 0
