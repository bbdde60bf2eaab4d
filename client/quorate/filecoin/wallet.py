"""The wallet that pays for data: FOLDER/wallet.json, a keystore of version 3 and mode 0600, and what is public of it.

It is made of a keystore, or of what `lotus wallet export` prints. Payments are Ethereum transactions and EIP-712
signatures, so the key is one of secp256k1 and its account the f410 address.

A key that was read is held by `Wallet` alone, which signs with it and never shows it: no repr, no pickle. Errors about
a file never quote it, and are raised where no other error that quotes it hangs on them.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from quorate.chain.account import SCRYPT_N, SigningAccount, encrypt_keystore, load_keystore
from quorate.chain.types import write_atomically
from quorate.filecoin import signatures
from quorate.filecoin.addresses import FilecoinAddress, to_checksummed
from quorate.protocol.errors import ConfigurationError, DataError
from quorate.protocol.types import Address

KEYSTORE, ABOUT = "wallet.json", "about.json"
MAX_FILE_BYTES = 1 << 16
_SECRET = re.compile(r"[0-9a-fA-F]{64,}|[A-Za-z0-9+/]{43}=|\s*[{\[].*", re.DOTALL)
Passphrase = Callable[[bool], bytes]
"""Gives the passphrase; True where a new one is chosen, which is to be asked for twice."""


@dataclass(frozen=True, slots=True)
class About:
    """What may be shown of a wallet: `ethereum` and `f410` are its account, `f1` where the key's funds were so far."""

    ethereum: str
    f410: str
    origin: str
    f1: str | None = None
    passphrase_file: str | None = None

    @property
    def note(self) -> str | None:
        """What its owner has to do before it can pay."""
        if self.f1 is None:
            return None
        return (
            f"{self.f1} and {self.f410} are two accounts of one key, and payments come from the second: funds must "
            f"move, as by `lotus send --from {self.f1} {self.f410} AMOUNT`"
        )


class Wallet:
    """An open wallet. It signs, and gives its key to nobody."""

    __slots__ = ("_account",)

    def __init__(self, account: SigningAccount) -> None:
        self._account = account

    @property
    def address(self) -> Address:
        """The account that pays, as contracts know it."""
        return self._account.address

    @property
    def filecoin_address(self) -> FilecoinAddress:
        """The account that pays: f410."""
        return FilecoinAddress.from_ethereum(self._account.address)

    def sign(self, digest: bytes) -> bytes:
        """65 bytes r ‖ s ‖ v over 32 bytes. Whoever calls this has reserved the money before: see the ledger."""
        return self._account.sign(digest)

    def __repr__(self) -> str:
        return f"Wallet({to_checksummed(self.address)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a wallet stays in its process")


def attach(
    folder: Path,
    source: str | Path,
    passphrase: Passphrase,
    *,
    content: bytes | None = None,
    passphrase_file: Path | None = None,
    scrypt_n: int = SCRYPT_N,
) -> About:
    """Make a folder's wallet of a keystore or of a Lotus export: a file, or `content` where that was piped in.

    Raises ConfigurationError for a file that is missing or that others can read, and where another wallet is attached;
    DataError for one that is no key, a wrong passphrase, and a key that cannot pay.
    """
    data = _read(source) if content is None else content
    parsed = parse_export(data)
    if parsed is None:
        file = "-" if content is not None else str(source)
        raise DataError(f"{file} is neither a keystore of version 3 nor what `lotus wallet export` prints")
    if isinstance(parsed, dict) and content is not None:
        raise ConfigurationError("a keystore is opened where it lies: name its file instead of piping it in")
    if isinstance(parsed, dict):
        account, keystore, about = _take_keystore(Path(source), parsed, passphrase(False))
    else:
        account, about = _take_lotus(*parsed)
        keystore = None
    about = About(**(asdict(about) | {"passphrase_file": str(passphrase_file.absolute()) if passphrase_file else None}))
    if (folder / KEYSTORE).exists():
        return _check_same(folder, about)
    keystore = keystore or encrypt_keystore(account, passphrase(True), scrypt_n)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(folder / ABOUT, json.dumps(asdict(about), indent=1) + "\n")
    _write_new(folder / KEYSTORE, json.dumps(keystore | {"address": account.address.hex()}, indent=1))
    return about


def parse_export(data: bytes) -> dict[str, Any] | tuple[str, bytes] | None:
    """A keystore's JSON, or type and key of a Lotus export; None for anything else, with no word about what it was."""
    try:
        text = data.decode("ascii").strip()
        values = json.loads(text if text.startswith("{") else bytes.fromhex(text))
        if not isinstance(values, dict):
            return None
        if "crypto" in values or "Crypto" in values:
            return values
        return str(values["Type"]), base64.b64decode(values["PrivateKey"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        return None


def read_about(folder: Path) -> About:
    """What may be shown of a folder's wallet. Raises ConfigurationError when there is none."""
    if not (folder / KEYSTORE).exists():
        raise ConfigurationError(f"no wallet in {folder}: `filecoin wallet attach FILE` makes one")
    try:
        return About(**json.loads((folder / ABOUT).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{folder / ABOUT} cannot be read ({error!r}): attach the wallet again") from None


def open_wallet(folder: Path, passphrase: bytes) -> Wallet:
    """Raises ConfigurationError for no wallet or one that others can read, DataError for a wrong passphrase."""
    about = read_about(folder)
    check_private(folder / KEYSTORE)
    account = load_keystore(folder / KEYSTORE, passphrase)
    if to_checksummed(account.address) != about.ethereum:
        raise DataError(f"{folder / KEYSTORE} is not the key of {about.ethereum}: one of the two files was changed")
    return Wallet(account)


def check_private(path: Path) -> None:
    """ConfigurationError for a file that others than its owner can read or write."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ConfigurationError(f"{path} can be read by others (mode {mode:o}): chmod 600 {path}")


def _read(source: str | Path) -> bytes:
    path = Path(source).expanduser()
    if _SECRET.fullmatch(str(source)):
        raise ConfigurationError(
            "this looks like a key, not like a file: whoever lists processes, or reads your shell's history, has seen "
            "it. Move what it owns to a new key; give a file, or - and the key on standard input"
        )
    try:
        if path.is_file():
            check_private(path)
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {source}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"{source} is longer than any key: {MAX_FILE_BYTES} bytes are the most")
    return data


def _take_keystore(
    path: Path, values: dict[str, Any], passphrase: bytes
) -> tuple[SigningAccount, dict[str, Any], About]:
    account = load_keystore(path.expanduser(), passphrase)
    return account, values, _describe(account, "keystore")


def _take_lotus(kind: str, key: bytes) -> tuple[SigningAccount, About]:
    if kind == "bls":
        raise DataError(
            f"{signatures.compute_bls_address(key)} is a BLS key, which cannot pay: payments are signed as Ethereum "
            "signs, with secp256k1. Make a secp256k1 account and send to its f410 address what you want to spend"
        )
    if kind not in ("secp256k1", "delegated"):
        raise DataError("the export's Type is none of secp256k1, delegated and bls")
    f1 = str(signatures.compute_secp256k1_address(key))  # refuses what is no key, also a short one
    account = SigningAccount.from_key(key)
    return account, _describe(account, f"lotus {kind}", f1 if kind == "secp256k1" else None)


def _describe(account: SigningAccount, origin: str, f1: str | None = None) -> About:
    ethereum = to_checksummed(account.address)
    return About(ethereum, str(FilecoinAddress.from_ethereum(account.address)), origin, f1)


def _check_same(folder: Path, about: About) -> About:
    there = read_about(folder)
    if there.ethereum != about.ethereum:
        raise ConfigurationError(
            f"{there.ethereum} is attached, and its limits and receipts with it: give another --home for "
            f"{about.ethereum}, or move {folder} away"
        )
    return there


def _write_new(path: Path, text: str) -> None:
    """A file of mode 0600 that is there whole or not at all, and takes no other's place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    write_atomically(temporary, text, 0o600)
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise ConfigurationError(f"{path} exists: a key is never overwritten") from None
    finally:
        temporary.unlink()
