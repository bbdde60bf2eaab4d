"""Options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.config import Config, load_config
from quorate.storage.opening import is_address

_settings: dict[str, Any] = {}

HomeOption = Annotated[
    Path | None, typer.Option("--home", envvar="QUORATE_HOME", help="Folder of keys, jobs and content (~/.quorate).")
]
RpcOption = Annotated[str | None, typer.Option("--rpc-url", help="The chain's JSON-RPC endpoint (QUORATE_RPC_URL).")]
KeystoreOption = Annotated[
    Path | None, typer.Option("--keystore", help="Keystore file of the requester (QUORATE_KEYSTORE).")
]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="Folder of our content, or the API of a Kubo daemon (QUORATE_STORE)."),
]


def remember(home: Path | None, rpc_url: str | None, keystore: Path | None, store: str | None) -> None:
    """Options that stand before the command."""
    _settings.update(home=home, rpc_url=rpc_url, keystore=keystore, store=store)


def get_config() -> Config:
    """The configuration with these options."""
    overrides = {name: value for name, value in _settings.items() if name != "home"}
    if overrides.get("keystore") is not None:
        overrides["keystore"] = Path(overrides["keystore"]).absolute()
    if (store := overrides.get("store")) is not None and not is_address(store):
        overrides["store"] = Path(store).expanduser().absolute()
    return load_config(_settings.get("home"), overrides)
