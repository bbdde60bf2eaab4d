"""Filecoin addresses: f0 (a number), f1 (secp256k1), f2 (actor), f3 (BLS), f4 (delegated; f410 are Ethereum's).

Source: the address format of Filecoin's specification, FIP-0048 (f4) and FIP-0055 (Ethereum's addresses). A text has
one spelling here: what differs from it by a digit, a case, a leading zero or a spare bit is refused, for a typing error
must never become somebody else's address. The text's first letter, f or t, names the network and is no part of the
address. Numbers go up to 2^64 - 1, as the specification's vectors do; Lotus stops at 2^63 - 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from hashlib import blake2b

from quorate.protocol.errors import DataError
from quorate.protocol.hashing import keccak
from quorate.protocol.types import Address
from quorate.storage import varint

CHECKSUM_BYTES = 4
HASH_BYTES = 20
BLS_KEY_BYTES = 48
SECP256K1_KEY_BYTES = 65
MAX_SUBADDRESS_BYTES = 54
ETHEREUM_NAMESPACE = 10
"""Actor number of the Ethereum address manager: f410."""
MAX_NUMBER = (1 << 64) - 1

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_DIGITS = {letter: number for number, letter in enumerate(_ALPHABET)}
_MASKED_PREFIX = b"\xff" + bytes(11)  # Ethereum's spelling of a number: then 8 bytes, big-endian
_MAX_TEXT = 128
_ETHEREUM = re.compile(r"0x[0-9a-fA-F]{40}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,19}")


class AddressError(DataError):
    """A text or bytes that are no Filecoin address; the message says what is wrong with them."""


class Network(StrEnum):
    """First letter of an address."""

    MAINNET = "f"
    TESTNET = "t"


class Kind(IntEnum):
    """What stands behind an address; the number is the text's second character."""

    ID = 0
    SECP256K1 = 1
    ACTOR = 2
    BLS = 3
    DELEGATED = 4


_PAYLOAD_BYTES = {Kind.SECP256K1: HASH_BYTES, Kind.ACTOR: HASH_BYTES, Kind.BLS: BLS_KEY_BYTES}


@dataclass(frozen=True, slots=True)
class FilecoinAddress:
    """An address without its network.

    `number` is an f0's number or an f4's namespace, else 0; `payload` an f1's or f2's 20-byte hash, an f3's 48-byte
    key, an f4's sub-address of up to 54 bytes, and empty for an f0.
    """

    kind: Kind
    number: int
    payload: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.number <= MAX_NUMBER:
            raise AddressError(f"an address holds a number from 0 to 2^64 - 1, not {self.number}")
        wanted = _PAYLOAD_BYTES.get(self.kind)
        if wanted is not None and len(self.payload) != wanted:
            raise AddressError(f"an f{self.kind} address has {wanted} bytes, not {len(self.payload)}")
        if self.kind is Kind.DELEGATED and len(self.payload) > MAX_SUBADDRESS_BYTES:
            raise AddressError(f"an f4 address ends in at most {MAX_SUBADDRESS_BYTES} bytes, not {len(self.payload)}")
        if self.kind is Kind.ID and self.payload:
            raise AddressError("an f0 address is a number and nothing else")
        if self.kind not in (Kind.ID, Kind.DELEGATED) and self.number:
            raise AddressError(f"an f{self.kind} address has no number")

    @staticmethod
    def from_secp256k1(public_key: bytes) -> FilecoinAddress:
        """f1 of an uncompressed public key of 65 bytes."""
        if len(public_key) != SECP256K1_KEY_BYTES or public_key[0] != 4:
            raise AddressError("an f1 address follows from an uncompressed public key: 65 bytes, the first of them 4")
        return FilecoinAddress(Kind.SECP256K1, 0, blake2b(public_key, digest_size=HASH_BYTES).digest())

    @staticmethod
    def from_bls(public_key: bytes) -> FilecoinAddress:
        """f3 of a compressed public key of 48 bytes."""
        return FilecoinAddress(Kind.BLS, 0, bytes(public_key))

    @staticmethod
    def from_ethereum(address: bytes) -> FilecoinAddress:
        """f410 of 20 bytes, or the f0 whose spelling on Ethereum's side they are (0xff, 11 zeros, the number)."""
        if len(address) != HASH_BYTES:
            raise AddressError(f"an Ethereum address has 20 bytes, not {len(address)}")
        if address.startswith(_MASKED_PREFIX):
            return FilecoinAddress(Kind.ID, int.from_bytes(address[12:], "big"), b"")
        return FilecoinAddress(Kind.DELEGATED, ETHEREUM_NAMESPACE, bytes(address))

    @staticmethod
    def from_bytes(data: bytes) -> FilecoinAddress:
        """From the form that messages carry: the kind, then the number or the payload. Raises AddressError."""
        if not data:
            raise AddressError("an address has at least 2 bytes; there is none")
        if data[0] > Kind.DELEGATED:
            raise AddressError(f"address kind {data[0]} is not known; there are 0 to 4")
        kind = Kind(data[0])
        if kind not in (Kind.ID, Kind.DELEGATED):
            return FilecoinAddress(kind, 0, bytes(data[1:]))
        number, end = _read_number(data, 1)
        if kind is Kind.ID and end != len(data):
            raise AddressError(f"{len(data) - end} bytes follow after an f0 address; give the address alone")
        return FilecoinAddress(kind, number, bytes(data[end:]))

    def to_bytes(self) -> bytes:
        """The form that messages carry."""
        number = varint.encode(self.number) if self.kind in (Kind.ID, Kind.DELEGATED) else b""
        return bytes((self.kind,)) + number + self.payload

    def to_text(self, network: Network = Network.MAINNET) -> str:
        """The one spelling on a network."""
        if self.kind is Kind.ID:
            return f"{network}0{self.number}"
        tail = _encode_base32(self.payload + _compute_checksum(self.to_bytes()))
        return f"{network}4{self.number}f{tail}" if self.kind is Kind.DELEGATED else f"{network}{self.kind:d}{tail}"

    def to_ethereum(self) -> Address:
        """The 20 bytes under which contracts know it. Raises AddressError where there are none."""
        if self.kind is Kind.ID:
            return Address(_MASKED_PREFIX + self.number.to_bytes(8, "big"))
        if self.kind is not Kind.DELEGATED or self.number != ETHEREUM_NAMESPACE:
            raise AddressError(f"{self} has no Ethereum address: only f0 and f410 have one")
        if len(self.payload) != HASH_BYTES:
            raise AddressError(f"{self} has {len(self.payload)} bytes; an Ethereum address has 20")
        if self.payload.startswith(_MASKED_PREFIX):
            raise AddressError(f"{self} spells the number of an f0 address, which no f410 address may")
        return Address(self.payload)

    def __str__(self) -> str:
        return self.to_text()


def parse(text: str) -> tuple[FilecoinAddress, Network | None]:
    """An address from any spelling, and the network that it names: None of 0x…, which is the same on all.

    Raises AddressError, which says what is wrong.
    """
    shown = text if len(text) <= _MAX_TEXT else text[:40] + "…"
    try:
        if len(text) > _MAX_TEXT:
            raise AddressError(f"{len(text)} characters are too long; an address has at most {_MAX_TEXT}")
        if text[:2] in ("0x", "0X"):
            return FilecoinAddress.from_ethereum(_parse_ethereum(text)), None
        return _parse_native(text), Network(text[0])
    except AddressError as error:
        raise AddressError(f"{shown!r} is not an address: {error}") from None


def to_checksummed(address: bytes) -> str:
    """0x and 40 hex digits whose case is their checksum (EIP-55)."""
    digits = address.hex()
    marks = keccak(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if int(mark, 16) > 7 else digit for digit, mark in zip(digits, marks, strict=False)
    )


def _parse_ethereum(text: str) -> bytes:
    if not _ETHEREUM.fullmatch(text):
        raise AddressError(f"after 0x it needs 40 hex digits; these are {len(text) - 2} characters, or others")
    address, digits = bytes.fromhex(text[2:]), text[2:]
    if digits not in (digits.lower(), digits.upper()) and text != (right := to_checksummed(address)):
        raise AddressError(f"its capitals are a checksum that does not fit; if the digits are right it is {right}")
    return address


def _parse_native(text: str) -> FilecoinAddress:
    if len(text) < 3:
        raise AddressError("it is too short; an address starts with f0 to f4 (t0 to t4 on test networks), or 0x")
    if text[0] not in ("f", "t"):
        small = ": write it in small letters" if text[0] in ("F", "T") else ""
        raise AddressError(f"it starts with {text[0]!r}; f is the main network, t a test network{small}")
    if text[1] not in "01234":
        raise AddressError(f"kind {text[1]!r} is not known; there are 0 to 4")
    kind, rest = Kind(int(text[1])), text[2:]
    if kind is Kind.ID:
        return FilecoinAddress(kind, _parse_number(rest, "the number"), b"")
    number = 0
    if kind is Kind.DELEGATED:
        namespace, mark, rest = rest.partition("f")
        if not mark:
            raise AddressError("an f4 address has an f between its namespace's number and the rest, as in f410f…")
        number = _parse_number(namespace, "the namespace")
    return _parse_checked(kind, number, rest)


def _parse_number(text: str, what: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise AddressError(f"{what} {text!r} is not written in digits")
    if not _NUMBER.fullmatch(text) or int(text) > MAX_NUMBER:
        fault = "starts with zeros: leave them out" if text[0] == "0" else "is above 2^64 - 1"
        raise AddressError(f"{what} {text} {fault}")
    return int(text)


def _parse_checked(kind: Kind, number: int, text: str) -> FilecoinAddress:
    wanted = _PAYLOAD_BYTES.get(kind)
    if wanted is not None and len(text) != (length := _count_digits(wanted + CHECKSUM_BYTES)):
        raise AddressError(f"an f{kind:d} address has {2 + length} characters; this one has {2 + len(text)}")
    data = _decode_base32(text)
    if len(data) < CHECKSUM_BYTES:
        raise AddressError("it is cut off: its checksum has 4 bytes")
    address = FilecoinAddress(kind, number, data[:-CHECKSUM_BYTES])
    if data[-CHECKSUM_BYTES:] != _compute_checksum(address.to_bytes()):
        raise AddressError("its checksum does not fit: a character is wrong, copy it again")
    return address


def _compute_checksum(data: bytes) -> bytes:
    return blake2b(data, digest_size=CHECKSUM_BYTES).digest()


def _count_digits(size: int) -> int:
    return -(-size * 8 // 5)


def _encode_base32(data: bytes) -> str:
    length = _count_digits(len(data))
    value = int.from_bytes(data, "big") << (length * 5 - len(data) * 8)
    return "".join(_ALPHABET[value >> shift & 31] for shift in range((length - 1) * 5, -1, -5))


def _decode_base32(text: str) -> bytes:
    value = 0
    for place, letter in enumerate(text):
        digit = _DIGITS.get(letter)
        if digit is None:
            small = "; write it in small letters" if letter.lower() in _DIGITS else ""
            raise AddressError(f"character {letter!r}, {len(text) - place} from its end, is none of a-z and 2-7{small}")
        value = value << 5 | digit
    size, spare = divmod(len(text) * 5, 8)
    if spare >= 5:
        raise AddressError("it has a character too many, or lacks some")
    if value & ((1 << spare) - 1):
        raise AddressError("its last character has bits that belong to nothing: it is wrong, copy it again")
    return (value >> spare).to_bytes(size, "big")


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    """LEB128 of up to 64 bits in its shortest form: one more than multiformats' varint holds."""
    value = 0
    for place, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if byte == 0 and place:
                raise AddressError("its number is not written in its shortest form")
            if value > MAX_NUMBER:
                raise AddressError("its number is above 2^64 - 1")
            return value, at + place + 1
    raise AddressError("its number is cut off or above 2^64 - 1")
