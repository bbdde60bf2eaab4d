"""secp256k1 signatures as the contracts want them: 65 bytes r ‖ s ‖ v, s in the lower half, v 27 or 28."""

from __future__ import annotations

from coincurve import PrivateKey, PublicKey

from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.types import Address

SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SIGNATURE_BYTES = 65


def compute_address(key: bytes) -> Address:
    """Address of a 32-byte private key; raises ValidationError when the bytes are no key."""
    try:
        return _address_of(PrivateKey(key).public_key)
    except ValueError as error:
        raise ValidationError("not a secp256k1 private key: 32 bytes, neither 0 nor above the group's order") from error


def sign(digest: bytes, key: bytes) -> bytes:
    """Sign 32 bytes with a 32-byte private key, deterministically (RFC 6979): 65 bytes r ‖ s ‖ v."""
    # libsecp256k1 gives s in the lower half, as the contracts demand.
    signature = PrivateKey(key).sign_recoverable(digest, hasher=None)
    return signature[:64] + bytes((27 + signature[64],))


def recover(digest: bytes, signature: bytes) -> Address | None:
    """Signer of a digest, or None where the contracts see no valid signature (also: s in the upper half)."""
    if len(signature) != SIGNATURE_BYTES or signature[64] not in (27, 28):
        return None
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if not 0 < r < SECP256K1_ORDER or not 0 < s <= SECP256K1_ORDER // 2:
        return None
    try:
        public = PublicKey.from_signature_and_message(
            signature[:64] + bytes((signature[64] - 27,)), digest, hasher=None
        )
    except Exception:  # coincurve raises a bare Exception when the point is not on the curve
        return None
    return _address_of(public)


def _address_of(public: PublicKey) -> Address:
    return Address(keccak(public.format(compressed=False)[1:])[12:])
