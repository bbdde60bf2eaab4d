"""The `filecoin` commands as they hang below a program's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from quorate.cli.filecoin import basics, chain, limits, providers, reading, wallets
from quorate.cli.filecoin.places import Program, register

Commands = dict[str, tuple[Callable[..., Any], str]]
"""Name → function, and arguments of its example."""
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
TOP: Commands = {
    "address": (basics.address, "f410f2oekwcmo2pueydmaq53eic2i62crtbeyuzx2gmy"),
    "piece-cid": (basics.piece_cid, "tiles.car --output json"),
    "quote": (reading.quote, "bafk… --output json"),
    "retrieve": (reading.retrieve, "bafk… -o tiles.car"),
    "receipts": (limits.receipts, "--output json"),
    "reconcile": (chain.reconcile_, "--output json"),
}
GROUPS: dict[str, tuple[str, Commands]] = {
    "wallet": (
        "The key that pays for data. It stays in its process, and no job or container gets it.",
        {
            "attach": (wallets.attach, "key.json --passphrase-file secret"),
            "show": (wallets.show_, "--output json"),
            "balance": (chain.balance, ""),
            "deposit": (chain.deposit, "1000000000000000000"),
            "withdraw": (chain.withdraw, "1000000000000000000"),
            "allow": (chain.allow, "1000000000000000000"),
        },
    ),
    "limit": (
        "What may be spent on data. Without a limit for `total`, nothing is.",
        {
            "set": (limits.set_, "total 5000000000000000000 --network calibration"),
            "top-up": (limits.top_up, "total 1000000000000000000"),
            "show": (limits.show_, "--output json"),
            "revoke": (limits.revoke, ""),
        },
    ),
    "providers": (
        "Who is asked for data: those that are named here, and who broke its word is not asked any more.",
        {
            "list": (providers.list_, "--output json"),
            "add": (providers.add, "https://provider.example --payee 0x…"),
            "remove": (providers.remove, "https://provider.example"),
            "ban": (providers.ban, "https://provider.example --reason slow"),
            "unban": (providers.unban, "https://provider.example"),
        },
    ),
    "network": (
        "The chain that data is paid on: its endpoint and contracts.",
        {
            "set": (chain.set_network, "--file devnet/network.json"),
            "show": (chain.show_network, "--output json"),
            "deploy": (chain.deploy, "--network calibration --rpc-url URL"),
            "local": (chain.local, "devnet --endow 0x…"),
        },
    ),
}


def build_app(program: Program, wrap: Wrap = lambda each: each) -> typer.Typer:
    """The commands for a program; `wrap` is put around each."""

    def use() -> None:
        register(program)

    app = typer.Typer(
        help="Filecoin: addresses, pieces, data from its providers, and the wallet that pays for it within limits.",
        no_args_is_help=True,
        rich_markup_mode=None,
        callback=use,
    )
    _add(app, TOP, f"{program.name} filecoin", wrap)
    for name, (text, commands) in GROUPS.items():
        group = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
        _add(group, commands, f"{program.name} filecoin {name}", wrap)
        app.add_typer(group, name=name)
    return app


def _add(app: typer.Typer, commands: Commands, prefix: str, wrap: Wrap) -> None:
    for name, (function, example) in commands.items():
        app.command(name, epilog=f"Example: {prefix} {name} {example}".rstrip())(wrap(function))
