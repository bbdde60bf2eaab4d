"""What a reader may ask for: a piece by its CID, or a DAG by its root. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from quorate.filecoin.piececid import PieceCid, is_piece, is_v1
from quorate.protocol.errors import DataError
from quorate.storage.cid import Cid


@dataclass(frozen=True, slots=True)
class Wanted:
    """Content as its reader names it; `piece` is None for a DAG. `text` is the dataset's name in limits.

    Without `is_measured` the piece's size is the most that its padded size can hold: only a provider can tell it.
    """

    text: str
    cid: Cid
    piece: PieceCid | None = None
    is_measured: bool = True

    @property
    def path(self) -> str:
        """Where a provider serves it."""
        return f"/piece/{self.piece.v2}" if self.piece is not None else f"/ipfs/{self.cid.to_v1()}?format=car"

    @property
    def size_bytes(self) -> int | None:
        """What the CID itself says of the size; None where only a provider can tell."""
        return None if self.piece is None else self.piece.size_bytes


def parse_wanted(text: str, padded_bytes: int | None = None) -> Wanted:
    """From a CID. Raises DataError for what is none, or cannot be verified.

    A piece CID of version 1 needs the `padded_bytes` that its deal names.
    """
    cid = Cid.parse(text.strip())
    if is_v1(cid):
        if padded_bytes is None:
            raise DataError(
                f"{cid} is a piece CID of version 1, which does not say how large the piece is: give version 2, or the "
                "padded size of its deal with --padded-bytes"
            )
        return replace(of_piece(PieceCid.from_v1(cid, padded_bytes)), is_measured=False)
    if padded_bytes is not None:
        raise DataError(f"{cid} is no piece CID of version 1: give no padded size")
    if is_piece(cid):
        return of_piece(PieceCid.parse(cid))
    cid.check_supported()
    return Wanted(str(cid.to_v1()), cid)


def measure(wanted: Wanted, sizes: Iterable[int]) -> Wanted:
    """A piece of version 1 by the size that most providers tell, the larger among equals; as it is where none fits.

    What is missing of the padded size is zeros, which the root vouches for: a wrong size can only make it fail.
    """
    assert wanted.piece is not None
    fitting = Counter(size for size in sizes if 0 < size <= wanted.piece.size_bytes)
    if not fitting:
        return wanted
    size = max(fitting, key=lambda each: (fitting[each], each))
    return of_piece(replace(wanted.piece, size_bytes=size))


def of_piece(piece: PieceCid) -> Wanted:
    """A piece, by its CID of version 2."""
    return Wanted(str(piece.v2), piece.v2, piece)
