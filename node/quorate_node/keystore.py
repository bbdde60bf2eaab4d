"""The node's key: a keystore (Web3 Secret Storage v3) and the passphrase that opens it.

The passphrase comes from a file (that of the settings, or QUORATE_PASSPHRASE_FILE), the environment
(QUORATE_PASSPHRASE) or a prompt; never from an argument, which other users of the machine can read, and it is never
logged.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

from quorate.chain.account import SigningAccount, load_keystore, read_passphrase, save_keystore
from quorate.chain.types import parse_address, to_hex, write_atomically
from quorate.protocol.errors import ConfigurationError
from quorate.protocol.types import Address
from quorate_node.config import NodeConfig

PASSPHRASE_VARIABLE = "QUORATE_PASSPHRASE"
PASSPHRASE_FILE_VARIABLE = "QUORATE_PASSPHRASE_FILE"


def get_passphrase(file: Path | None, *, confirm: bool = False) -> bytes:
    """The passphrase. Raises ConfigurationError when there is none, or two prompts differ."""
    if file is None and (named := os.environ.get(PASSPHRASE_FILE_VARIABLE)):
        file = Path(named)
    if file is not None:
        passphrase = read_passphrase(file)
    elif (found := os.environ.get(PASSPHRASE_VARIABLE)) is not None:
        passphrase = found.encode()
    elif sys.stdin.isatty():
        passphrase = _prompt(confirm)
    else:
        raise ConfigurationError(
            f"no passphrase: set {PASSPHRASE_FILE_VARIABLE} or {PASSPHRASE_VARIABLE}, name passphrase_file in "
            "config.json (`init --passphrase-file`), or run it on a terminal"
        )
    if not passphrase:
        raise ConfigurationError("the passphrase is empty: choose one")
    return passphrase


def _prompt(confirm: bool) -> bytes:
    from getpass import getpass

    passphrase = getpass("Passphrase: ", stream=sys.stderr)
    if confirm and getpass("Again: ", stream=sys.stderr) != passphrase:
        raise ConfigurationError("the two passphrases differ: try again")
    return passphrase.encode()


def create_key(path: Path, passphrase: bytes, scrypt_n: int | None = None) -> SigningAccount:
    """A fresh key in a new keystore of mode 0600. Raises ConfigurationError when the file exists."""
    account = SigningAccount.create()
    if scrypt_n is None:
        save_keystore(path, account, passphrase)
    else:
        save_keystore(path, account, passphrase, scrypt_n)
    return account


def open_key(path: Path, passphrase_file: Path | None) -> SigningAccount:
    """The node's key. Raises ConfigurationError for a file that others can read, DataError for a wrong passphrase."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError as error:
        raise ConfigurationError(f"no keystore at {path}: make one with `quorate-node init`") from error
    if mode & 0o077:
        raise ConfigurationError(f"{path} can be read by others (mode {mode:o}): chmod 600 {path}")
    return load_keystore(path, get_passphrase(passphrase_file))


def derive_keys(key: SigningAccount, config: NodeConfig) -> list[SigningAccount]:
    """The key of each operator of a home, the keystore's own first; `read_addresses` needs no key from then on."""
    keys = [key.derive(index) for index in range(config.operators)]
    noted = json.dumps([to_hex(each.address) for each in keys], indent=1) + "\n"
    if len(keys) > 1 and not (config.addresses.exists() and config.addresses.read_text() == noted):
        write_atomically(config.addresses, noted)
    return keys


def read_address(path: Path) -> Address:
    """The address of a keystore's key, without opening it. Raises ConfigurationError."""
    try:
        return parse_address(str(json.loads(path.read_text())["address"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} is not a keystore: {error!r}") from error


def read_addresses(config: NodeConfig) -> list[Address]:
    """Addresses of a farm's operators, as they were noted; the keystore is opened where they were not."""
    try:
        noted = [parse_address(str(each)) for each in json.loads(config.addresses.read_text())]
    except (OSError, ValueError, TypeError, ConfigurationError):
        noted = []
    if len(noted) >= config.operators and noted[0] == read_address(config.keystore):
        return noted[: config.operators]
    return [key.address for key in derive_keys(open_key(config.keystore, config.passphrase_file), config)]
