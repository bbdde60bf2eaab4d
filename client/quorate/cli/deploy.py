"""`quorate deploy`: contracts of one's own on any EVM chain."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.chain.types import to_hex
from quorate.cli.common import get_config
from quorate.cli.output import OutputFormat, OutputOption, format_ether, guarded, parse_amount, print_result, say
from quorate.protocol.errors import ConfigurationError, ValidationError
from quorate.protocol.params import PRESETS, Params
from quorate.protocol.profiles import Description
from quorate.protocol.spec import WASM_PROFILE

MINED_S = 600.0


class Preset(StrEnum):
    """Names of quorate.protocol.params.PRESETS."""

    LOCAL = "local"
    PRODUCTION = "production"


@guarded
def deploy(
    preset: Annotated[Preset, typer.Option(help="Parameters: seconds for trials, or hours and days.")],
    unit: Annotated[str, typer.Option(help="Stake of a unit of class 1: wei, or ether as in 1.5ether.")] = "1ether",
    price: Annotated[int, typer.Option(help="First price of class 1, in wei for 1e9 fuel.")] = 10**9,
    to: Annotated[Path | None, typer.Option(help="File for the addresses; deployment.json in --home.")] = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Create the contracts and class 1, for WebAssembly, with the keystore's key; nobody owns them after that."""
    config, params = get_config(), PRESETS[preset.value]
    unit_wei = parse_amount(unit)
    _check_class(params, unit_wei, price)
    if config.rpc_url is None:
        raise ConfigurationError("no chain is configured: set QUORATE_RPC_URL, or give --rpc-url")
    path = (to or config.home / "deployment.json").expanduser().absolute()
    if path.exists():
        raise ConfigurationError(f"{path} exists: name another file with --to, or move it away")
    account = config.open_account()
    say(f"deploying with the parameters `{preset.value}` from {to_hex(account.address)}")

    from quorate.chain import calls
    from quorate.chain.deploy import deploy as create
    from quorate.chain.gateway import JsonRpcGateway

    deployment = create(config.rpc_url, account, params, timeout_s=MINED_S)
    deployment.save(path)  # before anything else can fail: the contracts are there
    gateway = JsonRpcGateway(config.rpc_url, deployment)
    creation = calls.create_class(Description(WASM_PROFILE).digest, unit_wei, price, True)
    gateway.wait(gateway.send(account, creation, value=params.class_deposit), MINED_S)
    gateway.close()
    say(f"next: export QUORATE_DEPLOYMENT={path}; operators need that file for `quorate-node init --deployment`")
    values: dict[str, Any] = {"deployment": str(path), "preset": preset.value, "class": 1, **deployment.to_json()}
    print_result(values, output)


def _check_class(params: Params, unit_wei: int, price: int) -> None:
    """Raise ValidationError for a class that the contracts would refuse once they stand."""
    if unit_wei < params.least_unit_wei:
        raise ValidationError(f"--unit is below {format_ether(params.least_unit_wei)}, the least of this preset")
    if not 0 < price <= params.max_price:
        raise ValidationError(f"--price must be 1 to {params.max_price} of this preset")
