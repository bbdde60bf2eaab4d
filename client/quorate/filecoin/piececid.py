"""Piece CIDs: version 1 (root alone) and version 2 (root, height and padding, FRC-0069), and the sizes behind them.

A piece is raw bytes, filled with zeros up to 127·2^k, expanded to 128·2^k (every 254 bits become 256: Fr32), and
hashed as a binary tree over 32-byte leaves. Its *height* is the number of levels above the leaves: 2 for 127 raw
bytes, 15 for 1,040,384. Version 1 says neither height nor raw size, and inner nodes look like leaves, so a version 1
CID means something only together with its padded size.
"""

from __future__ import annotations

from dataclasses import dataclass

from quorate.protocol.errors import DataError
from quorate.storage import varint
from quorate.storage.cid import RAW, Cid

FIL_COMMITMENT_UNSEALED = 0xF101
SHA2_256_TRUNC254_PADDED = 0x1012
FR32_SHA2_256_TRUNC254_PADDED_BINARY_TREE = 0x1011
NODE_BYTES = 32
MIN_HEIGHT = 2
MAX_HEIGHT = 57
"""2^62 bytes, padded: the largest whose padding every varint holds."""
QUAD_BYTES = 127
_V1_PREFIX = varint.encode(SHA2_256_TRUNC254_PADDED) + bytes((NODE_BYTES,))


@dataclass(frozen=True, slots=True)
class PieceCid:
    """A piece: `root` of its tree (32 bytes), `height` of the tree, and its raw bytes without padding."""

    root: bytes
    height: int
    size_bytes: int

    def __post_init__(self) -> None:
        if len(self.root) != NODE_BYTES or self.root[-1] & 0xC0:
            raise DataError("a piece's root has 32 bytes, of which the last one's two highest bits are 0")
        if not MIN_HEIGHT <= self.height <= MAX_HEIGHT:
            raise DataError(f"a piece's tree has {MIN_HEIGHT} to {MAX_HEIGHT} levels, not {self.height}")
        if not 0 <= self.size_bytes <= (most := compute_capacity(self.height)):
            raise DataError(f"a piece of height {self.height} holds 0 to {most} bytes, not {self.size_bytes}")

    @staticmethod
    def parse(value: str | bytes | Cid) -> PieceCid:
        """From a version 2 CID. Raises DataError, also for version 1, which does not say how large the piece is."""
        cid = value if isinstance(value, Cid) else Cid.parse(value)
        code, at = varint.decode(cid.multihash)
        if code == SHA2_256_TRUNC254_PADDED:
            raise DataError(f"{cid} is a piece CID of version 1, which does not tell the size: give its padded size")
        if cid.version != 1 or cid.codec != RAW or code != FR32_SHA2_256_TRUNC254_PADDED_BINARY_TREE:
            raise DataError(f"{cid} is no piece CID")
        length, at = varint.decode(cid.multihash, at)
        padding, at = varint.decode(cid.multihash, at)
        if length != len(cid.multihash) - 2 - len(varint.encode(length)) or len(cid.multihash) - at != 1 + NODE_BYTES:
            raise DataError(f"{cid} is no piece CID: its digest is not padding, height and 32 bytes")
        height = cid.multihash[at]
        if not MIN_HEIGHT <= height <= MAX_HEIGHT or padding > compute_capacity(height):
            raise DataError(f"{cid} is no piece CID: {padding} bytes of padding do not fit into height {height}")
        return PieceCid(cid.multihash[at + 1 :], height, compute_capacity(height) - padding)

    @staticmethod
    def from_v1(value: str | bytes | Cid, padded_bytes: int, size_bytes: int | None = None) -> PieceCid:
        """From a version 1 CID with the padded size that a deal or a provider named. Raises DataError.

        Whoever names a wrong size can pass inner nodes off as data: take it from where you would take the CID.
        """
        cid = value if isinstance(value, Cid) else Cid.parse(value)
        if not is_v1(cid):
            raise DataError(f"{cid} is no piece CID of version 1")
        height = get_height(padded_bytes)
        size = compute_capacity(height) if size_bytes is None else size_bytes
        return PieceCid(cid.multihash[len(_V1_PREFIX) :], height, size)

    @property
    def v1(self) -> Cid:
        """The root alone."""
        return Cid(1, FIL_COMMITMENT_UNSEALED, _V1_PREFIX + self.root)

    @property
    def v2(self) -> Cid:
        """Padding, height and root."""
        digest = varint.encode(self.padding_bytes) + bytes((self.height,)) + self.root
        code = varint.encode(FR32_SHA2_256_TRUNC254_PADDED_BINARY_TREE)
        return Cid(1, RAW, code + varint.encode(len(digest)) + digest)

    @property
    def padding_bytes(self) -> int:
        """Zeros after the raw bytes, before the expansion."""
        return compute_capacity(self.height) - self.size_bytes

    @property
    def padded_bytes(self) -> int:
        """Size of a deal: a power of two."""
        return NODE_BYTES << self.height


def is_v1(cid: Cid) -> bool:
    """Whether it is a piece CID of version 1."""
    return (
        cid.codec == FIL_COMMITMENT_UNSEALED
        and cid.multihash.startswith(_V1_PREFIX)
        and len(cid.multihash) == len(_V1_PREFIX) + NODE_BYTES
    )


def is_piece(cid: Cid) -> bool:
    """Whether it is a piece CID of either version, by its codes."""
    return is_v1(cid) or (
        cid.version == 1
        and cid.codec == RAW
        and varint.decode(cid.multihash)[0] == FR32_SHA2_256_TRUNC254_PADDED_BINARY_TREE
    )


def compute_capacity(height: int) -> int:
    """Raw bytes that fit under a node of a height ≥ 2."""
    return QUAD_BYTES << (height - MIN_HEIGHT)


def compute_height(size_bytes: int) -> int:
    """Least height under which so many raw bytes fit; of nothing it is 2, too. Raises DataError for too many."""
    height = MIN_HEIGHT + (max(-(-size_bytes // QUAD_BYTES), 1) - 1).bit_length()
    if height > MAX_HEIGHT:
        raise DataError(f"{size_bytes} bytes are more than a piece can hold: {compute_capacity(MAX_HEIGHT)}")
    return height


def get_height(padded_bytes: int) -> int:
    """Height of a padded size. Raises DataError unless it is a power of two from 128 on."""
    height = padded_bytes.bit_length() - 6
    if padded_bytes <= 0 or padded_bytes & (padded_bytes - 1) or not MIN_HEIGHT <= height <= MAX_HEIGHT:
        raise DataError(f"a padded size is a power of two from 128 to 2^{MAX_HEIGHT + 5} bytes, not {padded_bytes}")
    return height
