"""What files of vectors are made of."""

from __future__ import annotations

from collections.abc import Iterable

from quorate.protocol.hashing import keccak
from quorate.protocol.types import Address

CHAIN_ID = 31337
MARKET = Address(bytes.fromhex("5fbdb2315678afecb367f032d93f642f64180aa3"))
Columns = dict[str, list[str]]


class Rows:
    """Collects cases into columns."""

    def __init__(self) -> None:
        self.columns: Columns = {}

    def add(self, **values: object) -> None:
        """One case: bytes become hex, numbers decimal strings."""
        for name, value in values.items():
            self.columns.setdefault(name, []).append(_text(value))
        assert len({len(column) for column in self.columns.values()}) == 1


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    assert isinstance(value, int)
    return str(int(value))


def pack(rows: Iterable[tuple[tuple[int, int], ...]]) -> bytes:
    """Rows of (value, bytes) fields, one behind the other."""
    return b"".join(value.to_bytes(size, "big") for row in rows for value, size in row)


def key_of(index: int) -> bytes:
    """A private key for vectors."""
    return keccak(b"quorate vector key" + bytes((index,)))
