"""Content identifiers: what they say and whether a block is what they say.

Source: multiformats' CID, multihash and multibase specifications. Any well-formed CID can be parsed, so that a
directory with a foreign link can still be listed; only sha2-256 and identity can be verified, others are refused there.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import libipld

from quorate.protocol.errors import DataError
from quorate.storage import varint

RAW = 0x55
DAG_PB = 0x70
DAG_CBOR = 0x71
CBOR = 0x51
DAG_JSON = 0x0129
JSON = 0x0200
LIBP2P_KEY = 0x72

SHA2_256 = 0x12
IDENTITY = 0x00
MAX_IDENTITY_BYTES = 128  # an identity CID carries its content: a longer one is a way to smuggle data past block limits
MAX_DIGEST_BYTES = 128

_SHA2_256_PREFIX = bytes((SHA2_256, 32))
_COMMON = {bytes((1, codec)) + _SHA2_256_PREFIX: codec for codec in (RAW, DAG_PB, DAG_CBOR)}
_MAX_TEXT = 512


@dataclass(frozen=True, slots=True)
class Cid:
    """A content identifier.

    `version` is 0 or 1, `codec` a multicodec number, `multihash` the hash code, the digest's length and the digest.
    """

    version: int
    codec: int
    multihash: bytes

    @staticmethod
    def parse(value: str | bytes) -> Cid:
        """From text (base58btc of a CIDv0, any multibase of a CIDv1) or from its binary form; DataError on rubbish."""
        if isinstance(value, str):
            return _parse_text(value)
        cid, end = Cid.read(value, 0)
        if end != len(value):
            raise DataError(f"{len(value) - end} bytes follow after a CID; give the CID alone")
        return cid

    @staticmethod
    def read(data: bytes | memoryview, at: int) -> tuple[Cid, int]:
        """The CID that starts at byte `at` of `data`, and the position after it."""
        codec = _COMMON.get(bytes(data[at : at + 4]))  # nearly every CID that we meet; five times faster
        if codec is not None:
            return Cid(1, codec, _slice(data, at + 2, at + 36)), at + 36
        if bytes(data[at : at + 2]) == _SHA2_256_PREFIX:
            return Cid(0, DAG_PB, _slice(data, at, at + 34)), at + 34
        version, position = varint.decode(data, at)
        if version != 1:
            raise DataError(f"CID version {version} is not known; only 0 and 1 are")
        codec, position = varint.decode(data, position)
        code, after_code = varint.decode(data, position)
        length, after_length = varint.decode(data, after_code)
        if code == IDENTITY and length > MAX_IDENTITY_BYTES:
            raise DataError(f"an identity CID carries {length} bytes; at most {MAX_IDENTITY_BYTES} are accepted")
        if length > MAX_DIGEST_BYTES:
            raise DataError(f"a CID's digest has {length} bytes; at most {MAX_DIGEST_BYTES} are accepted")
        if code == SHA2_256 and length != 32:
            raise DataError(f"a sha2-256 CID has {length} bytes of digest instead of 32; cut digests are refused")
        end = after_length + length
        return Cid(1, codec, _slice(data, position, end)), end

    @staticmethod
    def of(data: bytes | memoryview, codec: int = RAW) -> Cid:
        """CIDv1 with sha2-256 of a block."""
        return Cid(1, codec, _SHA2_256_PREFIX + sha256(data).digest())

    @staticmethod
    def from_digest(digest: bytes, codec: int = RAW) -> Cid:
        """CIDv1 from 32 bytes of sha2-256."""
        if len(digest) != 32:
            raise DataError(f"a sha2-256 digest has 32 bytes, not {len(digest)}")
        return Cid(1, codec, _SHA2_256_PREFIX + bytes(digest))

    @property
    def is_identity(self) -> bool:
        return self.multihash[0] == IDENTITY

    @property
    def digest(self) -> bytes:
        """The 32 bytes of sha2-256; DataError when the CID uses another hash."""
        if self.multihash[:2] != _SHA2_256_PREFIX:
            raise DataError(f"{self} does not use sha2-256; add the content again with sha2-256")
        return self.multihash[2:]

    @property
    def inline(self) -> bytes:
        """The content that an identity CID carries; DataError for any other CID."""
        if not self.is_identity:
            raise DataError(f"{self} is not an identity CID")
        return self.multihash[2 if len(self.multihash) < 130 else 3 :]

    def check_supported(self) -> None:
        """DataError unless the CID's hash can be verified here."""
        if self.multihash[:2] != _SHA2_256_PREFIX and not self.is_identity:
            code, _ = varint.decode(self.multihash)
            raise DataError(f"{self} uses hash 0x{code:x}; only sha2-256 and identity are verified here")

    def verify(self, block: bytes | memoryview) -> None:
        """DataError unless `block` is what the CID says."""
        if self.multihash[:2] == _SHA2_256_PREFIX:
            if sha256(block).digest() != self.multihash[2:]:
                raise DataError(f"{len(block)} bytes are not what {self} says; refuse whoever sent them")
            return
        self.check_supported()
        if self.inline != block:
            raise DataError(f"{len(block)} bytes are not what {self} carries; refuse whoever sent them")

    def to_bytes(self) -> bytes:
        """Binary form; a CIDv0 is its bare multihash."""
        if self.version == 0:
            return self.multihash
        return b"\x01" + varint.encode(self.codec) + self.multihash

    def to_v1(self) -> Cid:
        """The same content under version 1."""
        return Cid(1, self.codec, self.multihash)

    def __str__(self) -> str:
        text: str = libipld.encode_multibase("z" if self.version == 0 else "b", self.to_bytes())
        return text[1:] if self.version == 0 else text


def _slice(data: bytes | memoryview, start: int, end: int) -> bytes:
    if end > len(data):
        raise DataError("a CID is cut off; the data is malformed")
    return bytes(data[start:end])


def _parse_text(text: str) -> Cid:
    shown = text if len(text) <= 80 else text[:77] + "…"
    if len(text) > _MAX_TEXT:
        raise DataError(f"{shown!r} is too long for a CID")
    is_v0 = len(text) == 46 and text.startswith("Qm")
    try:
        _, data = libipld.decode_multibase("z" + text if is_v0 else text)
    except ValueError as error:
        raise DataError(f"{shown!r} is not a CID: {error}") from None
    if not is_v0 and data[:1] != b"\x01":
        raise DataError(f"{shown!r} is not a CID; a CIDv1 starts with its base's letter, a CIDv0 with Qm")
    try:
        return Cid.parse(bytes(data))
    except DataError as error:
        raise DataError(f"{shown!r} is not a CID: {error}") from None
