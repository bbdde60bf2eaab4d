"""Messages of the Filecoin chain: their CBOR, CIDs and signatures.

A message's CID is of dag-cbor with blake2b-256; what is signed is the bytes of that CID. A message signed with
secp256k1 has a CID of its own, over message and signature; one signed with BLS keeps the unsigned message's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from quorate.filecoin import addresses, cborcodec, signatures
from quorate.filecoin.addresses import FilecoinAddress
from quorate.filecoin.signatures import Signature, SignatureType
from quorate.protocol.errors import DataError
from quorate.storage.cid import DAG_CBOR, Cid

BLAKE2B_256 = 0xB220
_BLAKE2B_PREFIX = b"\xa0\xe4\x02\x20"
MAX_AMOUNT = 2 * 10**27
"""Attofil: 2·10^9 FIL, more than there will be."""
_FIELDS = ("Version", "To", "From", "Nonce", "Value", "GasLimit", "GasFeeCap", "GasPremium", "Method", "Params")


@dataclass(frozen=True, slots=True)
class Message:
    """An unsigned message. Amounts (`value`, `gas_fee_cap`, `gas_premium`) in attofil, `gas_limit` in units of gas."""

    to: FilecoinAddress
    sender: FilecoinAddress
    nonce: int
    value: int
    gas_limit: int
    gas_fee_cap: int
    gas_premium: int
    method: int
    params: bytes = b""
    version: int = 0

    def __post_init__(self) -> None:
        if self.version != 0:
            raise DataError(f"message version {self.version} is not known; only 0 is")
        for name, bits in (("nonce", 64), ("gas_limit", 63), ("method", 64)):
            if not 0 <= getattr(self, name) < 1 << bits:
                raise DataError(f"{name} is a number from 0 to 2^{bits} - 1, not {getattr(self, name)}")
        for name in ("value", "gas_fee_cap", "gas_premium"):
            if not 0 <= getattr(self, name) <= MAX_AMOUNT:
                raise DataError(f"{name} is from 0 to {MAX_AMOUNT} attofil, not {getattr(self, name)}")

    @staticmethod
    def from_bytes(data: bytes) -> Message:
        """From CBOR. Raises DataError."""
        return _from_item(cborcodec.decode(data))

    def to_bytes(self) -> bytes:
        """CBOR."""
        return cborcodec.encode(_to_item(self))

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Message:
        """From the JSON of Lotus: amounts are strings of digits, `Params` base64 or null. Raises DataError."""
        if lacking := [name for name in _FIELDS if name not in values and name not in ("Version", "Params")]:
            raise DataError(f"a message needs {', '.join(lacking)}")
        if unknown := set(values) - {*_FIELDS, "CID"}:
            raise DataError(f"a message has no field {', '.join(sorted(map(repr, unknown)))}")
        amounts = [_parse_amount(name, values[name]) for name in ("Value", "GasFeeCap", "GasPremium")]
        numbers = [_parse_number(name, values.get(name, 0)) for name in ("Nonce", "GasLimit", "Method", "Version")]
        to, sender = (_parse_address(name, values[name]) for name in ("To", "From"))
        nonce, gas_limit, method, version = numbers
        params = _parse_params(values.get("Params"))
        return Message(to, sender, nonce, amounts[0], gas_limit, amounts[1], amounts[2], method, params, version)

    def to_json(self, network: addresses.Network = addresses.Network.MAINNET) -> dict[str, Any]:
        """The JSON of Lotus."""
        return {
            "Version": self.version,
            "To": self.to.to_text(network),
            "From": self.sender.to_text(network),
            "Nonce": self.nonce,
            "Value": str(self.value),
            "GasLimit": self.gas_limit,
            "GasFeeCap": str(self.gas_fee_cap),
            "GasPremium": str(self.gas_premium),
            "Method": self.method,
            "Params": base64.b64encode(self.params).decode() if self.params else None,
        }

    @property
    def cid(self) -> Cid:
        """Of the unsigned message."""
        return compute_cid(self.to_bytes())

    def sign(self, key: bytes) -> SignedMessage:
        """With a secp256k1 key. Raises DataError when the sender's address is not the key's."""
        if signatures.compute_secp256k1_address(key) != self.sender:
            raise DataError(f"the message is from {self.sender}, which is not the address of the key that would sign")
        return SignedMessage(self, signatures.sign(self.cid.to_bytes(), key))


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A message with its signature, which `is_valid` judges."""

    message: Message
    signature: Signature

    @staticmethod
    def from_bytes(data: bytes) -> SignedMessage:
        """From CBOR. Raises DataError."""
        item = cborcodec.decode(data)
        if not isinstance(item, list) or len(item) != 2 or not isinstance(item[1], bytes):
            raise DataError("a signed message is an array of a message and a signature")
        return SignedMessage(_from_item(item[0]), Signature.from_bytes(item[1]))

    def to_bytes(self) -> bytes:
        """CBOR."""
        return cborcodec.encode([_to_item(self.message), self.signature.to_bytes()])

    @property
    def cid(self) -> Cid:
        """The CID under which the chain lists it."""
        return self.message.cid if self.signature.type is SignatureType.BLS else compute_cid(self.to_bytes())

    @property
    def is_valid(self) -> bool:
        """Whether the sender signed."""
        return signatures.verify(self.signature, self.message.cid.to_bytes(), self.message.sender)


def compute_cid(data: bytes) -> Cid:
    """CIDv1 of dag-cbor with blake2b-256."""
    return Cid(1, DAG_CBOR, _BLAKE2B_PREFIX + blake2b(data, digest_size=32).digest())


def _to_item(message: Message) -> list[cborcodec.Item]:
    amounts = [cborcodec.encode_bigint(each) for each in (message.value, message.gas_fee_cap, message.gas_premium)]
    places: list[cborcodec.Item] = [message.version, message.to.to_bytes(), message.sender.to_bytes(), message.nonce]
    return [*places, amounts[0], message.gas_limit, amounts[1], amounts[2], message.method, message.params]


def _from_item(item: cborcodec.Item) -> Message:
    if not isinstance(item, list) or len(item) != len(_FIELDS):
        raise DataError(f"a message is an array of {len(_FIELDS)} items")
    types = (int, bytes, bytes, int, bytes, int, bytes, bytes, int, bytes)
    for name, value, wanted in zip(_FIELDS, item, types, strict=True):
        if not isinstance(value, wanted):
            raise DataError(f"{name} of a message has the wrong type")
    version, to, sender, nonce, value, gas_limit, fee_cap, premium, method, params = item
    return Message(
        FilecoinAddress.from_bytes(to),
        FilecoinAddress.from_bytes(sender),
        nonce,
        cborcodec.decode_bigint(value),
        gas_limit,
        cborcodec.decode_bigint(fee_cap),
        cborcodec.decode_bigint(premium),
        method,
        params,
        version,
    )


def _parse_amount(name: str, value: object) -> int:
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 40:
        raise DataError(f"{name} of a message is a string of digits, in attofil")
    return int(value)


def _parse_number(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{name} of a message is a whole number")
    return value


def _parse_address(name: str, value: object) -> FilecoinAddress:
    if not isinstance(value, str):
        raise DataError(f"{name} of a message is an address")
    return addresses.parse(value)[0]


def _parse_params(value: object) -> bytes:
    if value is None:
        return b""
    try:
        return base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"Params of a message are base64: {error}") from None
