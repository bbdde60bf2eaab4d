"""`HeaderBeacon` in Python: `mixHash` of a block header that is proven against `blockhash` (section 4.3)."""

from __future__ import annotations

from quorate.protocol.context import Block, require
from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.params import BEACON_REACH_BLOCKS

MIX_HASH_FIELD = 13
"""parentHash, ommers, beneficiary, three roots, bloom, difficulty, number, gas limit, gas used, time, extra, mixHash"""


def read_beacon(block: Block, beacon_block: int, header: bytes) -> bytes:
    """Randomness of `beacon_block` as seen from `block`.

    Raises BeaconUnavailable when that block is not mined yet or more than 256 blocks old, BeaconMismatch when `header`
    is not its RLP.
    """
    age = block.number - beacon_block
    require(0 < age <= BEACON_REACH_BLOCKS, "BeaconUnavailable", beacon_block)
    require(block.hashes.get(beacon_block) == keccak(header), "BeaconMismatch", beacon_block)
    return get_mix_hash(header)


def get_mix_hash(header: bytes) -> bytes:
    """The `mixHash` in the RLP of a block header."""
    at, _ = _item_bounds(header, 0)
    for _ in range(MIX_HASH_FIELD):
        _, at = _item_bounds(header, at)
    start, end = _item_bounds(header, at)
    if end - start != 32:
        raise ValidationError("this is not a header: its 14th field has not 32 bytes")
    return header[start:end]


def _item_bounds(data: bytes, at: int) -> tuple[int, int]:
    """First byte of an RLP item's payload, and the first byte behind it."""
    prefix = data[at]
    if prefix < 0x80:
        return at, at + 1
    base = 0xC0 if prefix >= 0xC0 else 0x80
    short = prefix - base
    if short <= 55:
        return at + 1, at + 1 + short
    width = short - 55
    start = at + 1 + width
    return start, start + int.from_bytes(data[at + 1 : start], "big")
