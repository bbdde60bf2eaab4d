"""Filecoin's signatures: secp256k1 over blake2b-256, recoverable, and BLS12-381 with signatures in G2.

On the wire a signature is a byte for its type, then 65 bytes r ‖ s ‖ recovery id, or 96 bytes of a point of G2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b

from coincurve import PrivateKey, PublicKey

from quorate.chain.signing import SECP256K1_ORDER
from quorate.filecoin.addresses import FilecoinAddress, Kind
from quorate.protocol.errors import DataError, ValidationError

SECP256K1_SIGNATURE_BYTES = 65
BLS_SIGNATURE_BYTES = 96
BLS_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001


class SignatureType(IntEnum):
    """First byte of a signature."""

    SECP256K1 = 1
    BLS = 2


_SIZES = {SignatureType.SECP256K1: SECP256K1_SIGNATURE_BYTES, SignatureType.BLS: BLS_SIGNATURE_BYTES}


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature of known type and length; whether it is right, `verify` says."""

    type: SignatureType
    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != _SIZES[self.type]:
            wanted = _SIZES[self.type]
            raise DataError(f"a {self.type.name} signature has {wanted} bytes, not {len(self.data)}")

    @staticmethod
    def from_bytes(data: bytes) -> Signature:
        """Raises DataError for another type or length."""
        if not data or data[0] not in (SignatureType.SECP256K1, SignatureType.BLS):
            found = f"type {data[0]}" if data else "no byte"
            raise DataError(f"a signature starts with 1 (secp256k1) or 2 (BLS); this one has {found}")
        return Signature(SignatureType(data[0]), bytes(data[1:]))

    def to_bytes(self) -> bytes:
        """Type and data."""
        return bytes((self.type,)) + self.data


def hash_message(message: bytes) -> bytes:
    """The 32 bytes of blake2b that a secp256k1 key signs."""
    return blake2b(message, digest_size=32).digest()


def compute_secp256k1_address(key: bytes) -> FilecoinAddress:
    """f1 of a private key of 32 bytes. Raises ValidationError when the bytes are no key."""
    return FilecoinAddress.from_secp256k1(_load_key(key).public_key.format(compressed=False))


def sign(message: bytes, key: bytes) -> Signature:
    """Sign with a secp256k1 key, deterministically (RFC 6979). Raises ValidationError when the bytes are no key."""
    made = _load_key(key).sign_recoverable(hash_message(message), hasher=None)
    return Signature(SignatureType.SECP256K1, made)


def verify(signature: Signature, message: bytes, signer: FilecoinAddress) -> bool:
    """Whether the key behind an f1 or f3 address signed; other addresses have no key of their own here.

    Of two secp256k1 signatures that differ by the sign of s only the one with the lower is taken. BLS takes a second.
    """
    if signature.type is SignatureType.BLS:
        return signer.kind is Kind.BLS and _verify_bls(signature.data, message, signer.payload)
    return signer.kind is Kind.SECP256K1 and recover(signature, message) == signer


def recover(signature: Signature, message: bytes) -> FilecoinAddress | None:
    """The f1 address that signed, or None where there is none."""
    if signature.type is not SignatureType.SECP256K1 or signature.data[64] > 3:
        return None
    r, s = int.from_bytes(signature.data[:32], "big"), int.from_bytes(signature.data[32:64], "big")
    if not 0 < r < SECP256K1_ORDER or not 0 < s <= SECP256K1_ORDER // 2:
        return None
    try:
        public = PublicKey.from_signature_and_message(signature.data, hash_message(message), hasher=None)
    except Exception:  # coincurve raises a bare Exception when there is no such point
        return None
    return FilecoinAddress.from_secp256k1(public.format(compressed=False))


def compute_bls_address(key: bytes) -> FilecoinAddress:
    """f3 of a private key: 32 bytes, little-endian, as Lotus writes it. Raises ValidationError when they are no key."""
    from py_ecc.bls.ciphersuites import G2Basic  # takes a second to import, and few have a BLS key

    scalar = int.from_bytes(key, "little")
    if len(key) != 32 or not 0 < scalar < BLS_ORDER:
        raise ValidationError("not a BLS private key: 32 bytes little-endian, neither 0 nor above the group's order")
    return FilecoinAddress.from_bls(bytes(G2Basic.SkToPk(scalar)))


def _verify_bls(signature: bytes, message: bytes, public_key: bytes) -> bool:
    from eth_typing import BLSPubkey, BLSSignature
    from py_ecc.bls.ciphersuites import G2Basic

    return bool(G2Basic.Verify(BLSPubkey(public_key), message, BLSSignature(signature)))


def _load_key(key: bytes) -> PrivateKey:
    wrong = len(key) != 32 or not 0 < int.from_bytes(key, "big") < SECP256K1_ORDER
    if wrong:
        raise ValidationError("not a secp256k1 private key: 32 bytes, neither 0 nor above the group's order")
    return PrivateKey(key)
