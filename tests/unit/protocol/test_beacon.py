"""`mixHash` from a header's RLP."""

from __future__ import annotations

import pytest

from quorate.chain import rlp
from quorate.protocol.beacon import get_mix_hash, read_beacon
from quorate.protocol.context import Block
from quorate.protocol.errors import ProtocolViolation
from quorate.protocol.hashing import keccak

MIX = keccak(b"mix")
HEADER = rlp.encode(
    [bytes(32), bytes(32), bytes(20), *[bytes(32)] * 3, bytes(256), 0, 7, 3 * 10**10, 1, 200, b"x" * 40, MIX]
)


def test_the_fourteenth_field_is_found_behind_fields_of_any_length() -> None:
    assert get_mix_hash(HEADER) == MIX


@pytest.mark.parametrize(
    ("number", "header", "name"),
    [(7, HEADER, "BeaconUnavailable"), (264, HEADER, "BeaconUnavailable"), (8, HEADER + b"x", "BeaconMismatch")],
)
def test_a_beacon_is_refused(number: int, header: bytes, name: str) -> None:
    with pytest.raises(ProtocolViolation, match=name):
        read_beacon(Block(number, 0, {7: keccak(HEADER)}), 7, header)


@pytest.mark.parametrize("number", [8, 263])
def test_a_beacon_is_read_for_256_blocks(number: int) -> None:
    assert read_beacon(Block(number, 0, {7: keccak(HEADER)}), 7, HEADER) == MIX
