"""Which content may be whole at a node, in the 32 bytes that its record has room for: a Bloom filter of 256 bits.

It decides whom to ask, nothing else. Of some dozens of roots it seldom says yes wrongly; of hundreds it says yes to
all, which costs those that believe it a question.
"""

from __future__ import annotations

from collections.abc import Iterable

from quorate.protocol.hashing import keccak
from quorate.protocol.types import ZERO32

BITS_EACH = 4


def compute_roots_digest(cids: Iterable[str]) -> bytes:
    """32 bytes that stand for roots, by their CIDs of version 1; zeros for none."""
    bits = 0
    for cid in cids:
        bits |= _find_bits(cid)
    return bits.to_bytes(len(ZERO32), "big")


def may_hold(digest: bytes, cid: str) -> bool:
    """Whether a root may be among those of a digest: never False for one that is."""
    wanted = _find_bits(cid)
    return int.from_bytes(digest, "big") & wanted == wanted


def _find_bits(cid: str) -> int:
    places = keccak(b"quorate-roots-v1" + cid.encode())[:BITS_EACH]
    bits = 0
    for place in places:
        bits |= 1 << place
    return bits
