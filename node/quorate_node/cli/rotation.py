"""Giving an operator another signing key: the owner's key keeps the stake, and need not be on the node any more.

The contracts take a new key into a class with its next table, and a class vote about an old batch wants the old one; so
it is changed while nothing can be asked of the operator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quorate.chain import calls
from quorate.chain.account import SigningAccount, save_keystore
from quorate.chain.gateway import JsonRpcGateway
from quorate.chain.types import to_hex
from quorate.protocol.errors import ConfigurationError
from quorate_node.cli.stakes import find_operator, send
from quorate_node.cli.transfers import send_on
from quorate_node.config import NodeConfig, change_config
from quorate_node.keystore import get_passphrase, open_key, read_address


def rotate(
    gateway: JsonRpcGateway, config: NodeConfig, owner: SigningAccount, owner_keystore: Path, fund_wei: int
) -> dict[str, Any]:
    """Make a key, give it to the operator, and have the node use it once it is started again.

    The key is on disk before the chain hears of it; who was interrupted in between does it again, and it goes on.
    """
    if config.operators > 1:
        raise ConfigurationError("the keys of a farm follow from its keystore: they are not changed one by one")
    operator_id = find_operator(gateway, owner)
    key = _find_prepared(config, gateway.operator(operator_id).signing_key) or _prepare(config)
    found: dict[str, Any] = {"operator_id": operator_id, "signing_key": to_hex(key.address)}
    if gateway.operator(operator_id).signing_key != key.address:
        found["transaction"] = send(gateway, owner, calls.set_signing_key(key.address))
    if fund_wei:
        found["funded_wei"], _ = send_on(gateway, owner, key.address, fund_wei)
    owner_keystore = owner_keystore.absolute()  # what is relative in a configuration is relative to HOME
    change_config(
        config.home, keystore=_name(key.address), owner=to_hex(owner.address), owner_keystore=str(owner_keystore)
    )
    return found | {"keystore": str(config.home / _name(key.address)), "owner_keystore": str(owner_keystore)}


def _name(address: bytes) -> str:
    return f"keystore-{address.hex()[:8]}.json"


def _find_prepared(config: NodeConfig, signing_key: bytes) -> SigningAccount | None:
    """The key that an interrupted rotation has given to the operator already."""
    if signing_key == read_address(config.keystore):
        return None
    path = config.home / _name(signing_key)
    if not path.exists():
        raise ConfigurationError(f"the operator signs with 0x{signing_key.hex()}, whose keystore is not here")
    return open_key(path, config.passphrase_file)


def _prepare(config: NodeConfig) -> SigningAccount:
    passphrase = get_passphrase(config.passphrase_file, confirm=True)
    account = SigningAccount.create()
    save_keystore(config.home / _name(account.address), account, passphrase)
    return account
