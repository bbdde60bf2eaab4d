"""A client's configuration: one frozen object, loaded and checked once.

Each setting comes from the first of: an argument, the environment, QUORATE_HOME/config.json, and the config that
`quorate devnet up` wrote to QUORATE_HOME/devnet. A passphrase is never an argument: other users see command lines.
A file's passphrase file opens that file's keystore and no other. Relative paths of the environment are relative to
where the command runs, those of a config file to QUORATE_HOME.

    QUORATE_HOME             folder of keys, jobs and content; ~/.quorate
    QUORATE_RPC_URL          the chain's JSON-RPC endpoint
    QUORATE_DEPLOYMENT       file with the contracts' addresses
    QUORATE_KEYSTORE         keystore file (Web3 Secret Storage v3) of the requester
    QUORATE_PASSPHRASE_FILE  file whose first line opens it
    QUORATE_PASSPHRASE       or the passphrase itself; without both it is asked for
    QUORATE_COLLATORS        URLs to send orders to, separated by commas
    QUORATE_STORE            folder of the embedded content store, QUORATE_HOME/store; or the API of a Kubo daemon,
                             like http://127.0.0.1:5001 or /ip4/127.0.0.1/tcp/5001, which then keeps our content
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.chain.account import SigningAccount, check_readable, load_keystore, read_passphrase
from quorate.chain.gateway import JsonRpcGateway
from quorate.chain.types import Deployment
from quorate.protocol.errors import ConfigurationError
from quorate.storage.opening import is_address

PASSPHRASE = "QUORATE_PASSPHRASE"
PATHS = ("deployment", "keystore", "passphrase_file", "store")
HINT = "start a local network with `quorate devnet up`, or set"


@dataclass(frozen=True, slots=True)
class Config:
    """Where a client finds its chain, key, collators and content. None and empty: not configured."""

    home: Path
    store: Path | str  # a folder, or the address of a Kubo daemon
    rpc_url: str | None = None
    deployment: Path | None = None
    keystore: Path | None = None
    passphrase_file: Path | None = None
    collators: tuple[str, ...] = ()
    class_id: int = 1
    profiles: tuple[str, ...] = ()  # descriptions of classes; on chain they are hashes

    @property
    def jobs(self) -> Path:
        """Folder of the records of our jobs."""
        return self.home / "jobs"

    @property
    def devnet(self) -> Path:
        """Folder of the local network."""
        return self.home / "devnet"

    def connect(self) -> JsonRpcGateway:
        """The chain, checked. Raises ConfigurationError when it is not configured, ChainUnavailable without answer."""
        if self.rpc_url is None:
            raise ConfigurationError(f"no chain is configured: {HINT} QUORATE_RPC_URL")
        if self.deployment is None:
            raise ConfigurationError(f"no contracts are configured: {HINT} QUORATE_DEPLOYMENT to their file")
        gateway = JsonRpcGateway(self.rpc_url, Deployment.load(self.deployment))
        gateway.check()
        return gateway

    def open_account(self) -> SigningAccount:
        """The requester's key. Raises ConfigurationError or, for a wrong passphrase, DataError."""
        if self.keystore is None:
            raise ConfigurationError(f"no key is configured: {HINT} QUORATE_KEYSTORE to a keystore file")
        check_readable(self.keystore)  # before anybody is asked for its passphrase
        return load_keystore(self.keystore, self._passphrase(self.keystore))

    def _passphrase(self, keystore: Path) -> bytes:
        if self.passphrase_file is not None:
            return read_passphrase(self.passphrase_file)
        if (given := os.environ.get(PASSPHRASE)) is not None:
            return given.encode()
        if not sys.stdin.isatty():
            raise ConfigurationError("no passphrase: set QUORATE_PASSPHRASE_FILE, or QUORATE_PASSPHRASE")
        return getpass.getpass(f"Passphrase of {keystore}: ", stream=sys.stderr).encode()


def load_config(home: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read the configuration. `overrides` maps names of Config's fields to arguments; None there means not given."""
    environment = os.environ
    home = (home or Path(environment.get("QUORATE_HOME") or Path.home() / ".quorate")).expanduser().absolute()
    named: dict[str, Any] = {}
    for name in ("rpc_url", *PATHS):
        if text := environment.get(f"QUORATE_{name.upper()}"):
            is_path = name in PATHS and not is_address(text)
            named[name] = str(Path(text).expanduser().absolute()) if is_path else text
    if collators := environment.get("QUORATE_COLLATORS"):
        named["collators"] = [url.strip() for url in collators.split(",") if url.strip()]
    # The environment's passphrase stays with an option's keystore: whoever named both means both.
    named |= {name: value for name, value in (overrides or {}).items() if value is not None}
    values = _put_over(_read(home / "devnet" / "config.json"), _read(home / "config.json"))
    values = _put_over(values, named)
    if "passphrase_file" not in named and PASSPHRASE in environment:
        values.pop("passphrase_file", None)
    return _build(home, values)


def _put_over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those that come first put over the others; a passphrase file stays with its keystore."""
    kept = {name: lower[name] for name in lower if name != "passphrase_file" or "keystore" not in upper}
    return {**kept, **upper}


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}; repair or remove it") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path} must hold a JSON object")
    return {name: values[name] for name in values if values[name] is not None}


def _build(home: Path, values: Mapping[str, Any]) -> Config:
    def path(name: str) -> Path | None:
        # Relative names in a config file are relative to the home, not to where a command happens to run.
        return home / Path(str(values[name])).expanduser() if name in values else None

    collators, class_id = values.get("collators", ()), values.get("class_id", 1)
    profiles = values.get("profiles", ())
    if not isinstance(profiles, list | tuple) or not all(isinstance(each, str) for each in profiles):
        raise ConfigurationError(f"profiles must be a list of classes' descriptions, not {profiles!r}")
    if isinstance(collators, str) or not all(str(url).startswith(("http://", "https://")) for url in collators):
        raise ConfigurationError(f"collators must be a list of http:// URLs, not {collators!r}")
    return Config(
        home=home,
        store=str(values["store"]) if is_address(str(values.get("store"))) else path("store") or home / "store",
        rpc_url=values.get("rpc_url"),
        deployment=path("deployment"),
        keystore=path("keystore"),
        passphrase_file=path("passphrase_file"),
        collators=tuple(str(url).rstrip("/") for url in collators),
        class_id=int(class_id),
        profiles=tuple(profiles),
    )
