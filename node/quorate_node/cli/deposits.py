"""`quorate-node deposit`: the money in the market of a node's own key, from which a collator's bonds come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quorate.chain import calls
from quorate.chain.gateway import JsonRpcGateway
from quorate.chain.types import Deployment, to_hex
from quorate.cli.output import format_ether
from quorate.protocol.errors import ValidationError
from quorate_node.cli.stakes import send
from quorate_node.config import NodeConfig, load_config
from quorate_node.keystore import open_key, read_address


def change(home: Path, wei: int | None, *, is_back: bool = False) -> dict[str, Any]:
    """Add to the deposit of the node's signing key, take out of it, or (None) only look; what it is afterwards."""
    config = load_config(home)
    gateway = JsonRpcGateway(config.rpc_url, Deployment.load(config.deployment))
    gateway.check()
    return change_on(gateway, config, wei, is_back=is_back)


def change_on(gateway: JsonRpcGateway, config: NodeConfig, wei: int | None, *, is_back: bool) -> dict[str, Any]:
    """The same on this chain. Raises ValidationError for what is not there, before anything is sent."""
    address, found = read_address(config.keystore), dict[str, Any]()
    if wei is None and is_back:
        raise ValidationError("--back wants an amount: how much to take out")
    if wei is not None:
        held = gateway.account(address).free if is_back else gateway.balance(address)
        if wei > held:
            where = "of the deposit is free" if is_back else f"is what {to_hex(address)} holds: send it more first"
            raise ValidationError(f"{format_ether(wei)} is too much: {format_ether(held)} {where}")
        key = open_key(config.keystore, config.passphrase_file)
        call, value = (calls.withdraw_deposit(wei), 0) if is_back else (calls.deposit(), wei)
        found["transaction"] = send(gateway, key, call, value)
    free, bond = gateway.account(address).free, gateway.params().batch_bond
    return found | {"address": to_hex(address), "free_wei": free, "bond_wei": bond, "batches_at_once": free // bond}
