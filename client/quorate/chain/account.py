"""Keys that sign: in memory, and in keystore files (Web3 Secret Storage v3).

Written on hashlib and cryptography: eth_account takes a second to import, and every node opens a keystore at its start.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from quorate.chain import signing
from quorate.protocol.errors import ConfigurationError, DataError
from quorate.protocol.hashing import keccak
from quorate.protocol.types import Address

SCRYPT_N = 1 << 18
"""Cost of opening a keystore that holds real money: half a second and 256 MiB."""
DEVNET_SCRYPT_N = 1 << 12
MAX_SCRYPT_BYTES = 1 << 30


class Signer(Protocol):
    """Whoever signs for an address, and need not show the key."""

    @property
    def address(self) -> Address: ...

    def sign(self, digest: bytes) -> bytes:
        """65 bytes r ‖ s ‖ v over 32 bytes."""
        ...


@dataclass(frozen=True, slots=True)
class SigningAccount:
    """A private key with its address; the key is never shown."""

    key: bytes = field(repr=False)
    address: Address

    @classmethod
    def from_key(cls, key: bytes) -> SigningAccount:
        """Raises ValidationError when the bytes are no key."""
        return cls(key, signing.compute_address(key))

    @classmethod
    def create(cls) -> SigningAccount:
        """A fresh random key."""
        while True:
            key = secrets.token_bytes(32)
            if 0 < int.from_bytes(key, "big") < signing.SECP256K1_ORDER:
                return cls.from_key(key)

    def derive(self, index: int) -> SigningAccount:
        """Key of operator `index` of a farm: index 0 is this key, all others follow from it and nothing else."""
        if index == 0:
            return self
        for attempt in range(256):
            text = b"quorate-operator-v1" + index.to_bytes(4, "big") + bytes((attempt,))
            key = hmac.digest(self.key, text, "sha256")
            if 0 < int.from_bytes(key, "big") < signing.SECP256K1_ORDER:
                return SigningAccount.from_key(key)
        raise AssertionError("256 hashes in a row are no key")

    def sign(self, digest: bytes) -> bytes:
        """65 bytes r ‖ s ‖ v over 32 bytes."""
        return signing.sign(digest, self.key)


def encrypt_keystore(account: SigningAccount, passphrase: bytes, scrypt_n: int = SCRYPT_N) -> dict[str, Any]:
    """Keystore v3 with scrypt and AES-128-CTR."""
    salt, iv = os.urandom(32), os.urandom(16)
    kdf = {"dklen": 32, "n": scrypt_n, "r": 8, "p": 1, "salt": salt.hex()}
    derived = _derive(passphrase, kdf)
    ciphertext = _aes_ctr(derived[:16], iv, account.key)
    crypto = {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": iv.hex()},
        "ciphertext": ciphertext.hex(),
        "kdf": "scrypt",
        "kdfparams": kdf,
        "mac": keccak(derived[16:32] + ciphertext).hex(),
    }
    return {"address": account.address.hex(), "crypto": crypto, "id": str(uuid.uuid4()), "version": 3}


def save_keystore(path: Path, account: SigningAccount, passphrase: bytes, scrypt_n: int = SCRYPT_N) -> None:
    """Write a new keystore, readable by its owner alone. Raises ConfigurationError when the file exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigurationError(f"{path} exists: a key is never overwritten; choose another file") from error
    with os.fdopen(descriptor, "w") as file:
        json.dump(encrypt_keystore(account, passphrase, scrypt_n), file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def check_readable(path: Path) -> None:
    """Raise ConfigurationError unless there is a keystore file that can be read."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise _no_keystore(path, error) from error


def _no_keystore(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"cannot read the keystore {path}: {error.strerror}; make one first, or name another")


def load_keystore(path: Path, passphrase: bytes) -> SigningAccount:
    """Open a keystore v3. Raises ConfigurationError when it is missing, DataError for a wrong passphrase or file."""
    try:
        crypto = (content := json.loads(path.read_text())).get("crypto") or content["Crypto"]
        ciphertext = bytes.fromhex(crypto["ciphertext"])
        if crypto["cipher"] != "aes-128-ctr":
            raise DataError(f"{path} uses cipher {crypto['cipher']!r}; only aes-128-ctr is known")
        derived = _derive(passphrase, crypto["kdfparams"], crypto["kdf"])
        mac = bytes.fromhex(crypto["mac"])
        iv = bytes.fromhex(crypto["cipherparams"]["iv"])
    except OSError as error:
        raise _no_keystore(path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a keystore of version 3 ({error!r})") from error
    if not hmac.compare_digest(mac, keccak(derived[16:32] + ciphertext)):
        raise DataError(f"the passphrase does not open {path}")
    return SigningAccount.from_key(_aes_ctr(derived[:16], iv, ciphertext))


def read_passphrase(path: Path) -> bytes:
    """A passphrase file's first line. Raises ConfigurationError when there is none."""
    try:
        return path.read_bytes().split(b"\n", 1)[0].rstrip(b"\r")
    except OSError as error:
        raise ConfigurationError(f"cannot read the passphrase file {path}: {error.strerror}") from error


def _derive(passphrase: bytes, params: dict[str, Any], kdf: str = "scrypt") -> bytes:
    salt, size = bytes.fromhex(params["salt"]), int(params["dklen"])
    if size < 32:
        raise ValueError(f"dklen {size} is below 32")
    if kdf == "pbkdf2":
        return hashlib.pbkdf2_hmac("sha256", passphrase, salt, int(params["c"]), size)
    if kdf != "scrypt":
        raise ValueError(f"key derivation {kdf!r} is unknown")
    n, r, p = int(params["n"]), int(params["r"]), int(params["p"])
    memory = 128 * r * (n + p + 2)
    if memory > MAX_SCRYPT_BYTES:
        raise ValueError(f"it wants {memory} bytes to open")
    return hashlib.scrypt(passphrase, salt=salt, n=n, r=r, p=p, dklen=size, maxmem=memory + (1 << 20))


def _aes_ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    worker = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return worker.update(data) + worker.finalize()
