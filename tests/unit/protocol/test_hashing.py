"""keccak256 by whichever library is here."""

import pytest
from eth_utils.crypto import keccak as reference

from quorate.protocol.hashing import keccak


def test_the_published_digest_of_nothing() -> None:
    assert keccak(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


@pytest.mark.parametrize("size", [1, 31, 32, 64, 135, 136, 137, 1000])
def test_is_what_web3_computes(size: int) -> None:
    data = bytes(range(256)) * 4
    assert keccak(data[:size]) == reference(data[:size])
