"""`quorate account`: the requester's money."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from quorate.cli.common import get_config
from quorate.cli.output import OutputFormat, OutputOption, format_ether, guarded, parse_amount, print_result
from quorate.sdk import Balance, QuorateClient

app = typer.Typer(help="Deposit, withdraw, and see what is there.", no_args_is_help=True)
AmountArgument = Annotated[str, typer.Argument(metavar="AMOUNT", help="Wei, or ether as in 1.5ether.")]


@app.command(epilog="Example: quorate account deposit 1.5ether")
@guarded
def deposit(amount: AmountArgument, output: OutputOption = OutputFormat.TEXT) -> None:
    """Move ether from the wallet to the deposit that pays for jobs."""
    wei = parse_amount(amount)
    with QuorateClient.open(get_config()) as client:
        client.deposit(wei)
        _print(client.balance(), output)


@app.command(epilog="Example: quorate account withdraw 1.5ether")
@guarded
def withdraw(amount: AmountArgument, output: OutputOption = OutputFormat.TEXT) -> None:
    """Move ether from the free deposit back to the wallet."""
    wei = parse_amount(amount)
    with QuorateClient.open(get_config()) as client:
        client.withdraw(wei)
        _print(client.balance(), output)


@app.command(epilog="Example: quorate account balance --output json")
@guarded
def balance(output: OutputOption = OutputFormat.TEXT) -> None:
    """Show the wallet, the free deposit, and what running jobs have locked."""
    with QuorateClient.open(get_config()) as client:
        _print(client.balance(), output)


def _print(found: Balance, output: OutputFormat) -> None:
    amounts = {"wallet": found.wallet, "free": found.free, "escrow": found.escrow}
    values: dict[str, Any] = {"address": f"0x{found.address.hex()}"}
    values |= {f"{name}_wei": amount for name, amount in amounts.items()}
    lines = [f"address {values['address']}", *(f"{name:<7} {format_ether(amount)}" for name, amount in amounts.items())]
    print_result(values, output, "\n".join(lines))
