"""`filecoin limit set | show | top-up | revoke`, and `receipts`: what may be spent, and what was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.cli.filecoin.chain import NETWORK_FILE, revoke_on_chain
from quorate.cli.filecoin.places import HomeOption, PassphraseOption, find_folder
from quorate.cli.showing import Output, OutputOption, show, show_table
from quorate.filecoin.ledger import Ledger
from quorate.filecoin.networks import DEVNET_CHAIN_ID, NETWORKS, Settings
from quorate.filecoin.spending import Currency, Receipt, Scope, Usage, parse_amount
from quorate.protocol.errors import ConfigurationError, ValidationError

ScopeArgument = Annotated[
    str, typer.Argument(metavar="SCOPE", help="total, day, job, dataset, provider; or KIND=NAME for one alone.")
]
AmountArgument = Annotated[
    str, typer.Argument(metavar="AMOUNT", help="Base units of the token, in digits alone: 10^18 are 1 USDFC.")
]


def set_(
    scope: ScopeArgument,
    amount: AmountArgument,
    network: Annotated[
        str | None,
        typer.Option(
            help="The first time: mainnet, calibration, or devnet; else that of `network set`.", show_default=False
        ),
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="The first time, on a devnet: the token's address.", show_default=False)
    ] = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Limit what a scope may spend; `day`, `job`, `dataset` and `provider` mean each of them. The first one is made
    with the token that all limits are in."""
    found, cap = Scope.parse(scope), parse_amount("the limit", amount)
    path = get_path(home)
    if not path.exists():
        Ledger.create(path, choose_currency(network, token, path.with_name(NETWORK_FILE)))
    with _opened(home) as ledger:
        check_same(ledger.currency, find_currency(network, token, ledger.currency.token), path)
        ledger.set_cap(found, cap)
        _show(describe(ledger), output)


def top_up(
    scope: ScopeArgument, amount: AmountArgument, home: HomeOption = None, output: OutputOption = Output.TEXT
) -> None:
    """Raise a limit that there is by an amount."""
    with _opened(home) as ledger:
        ledger.top_up(Scope.parse(scope), parse_amount("the amount", amount))
        _show(describe(ledger), output)


def show_(home: HomeOption = None, output: OutputOption = Output.TEXT) -> None:
    """Show limits, and what is reserved and charged, in base units: 10^18 are 1 USDFC."""
    with _opened(home) as ledger:
        _show(describe(ledger), output)


def revoke(
    passphrase_file: PassphraseOption = None, home: HomeOption = None, output: OutputOption = Output.TEXT
) -> None:
    """Set the total to 0: nothing is reserved any more, and nothing signed of what is, in any process of this home.
    Where it has a network, allow nothing on the chain either, and close every rail; what was signed before is still
    paid until a rail's end_epoch, for nothing can take a signature back."""
    with _opened(home) as ledger:
        ledger.revoke()
        told = describe(ledger)
    _show(told | {"rails": revoke_on_chain(home, passphrase_file)}, output)


def receipts(
    after: Annotated[int, typer.Option(min=0, help="Only those behind this number.")] = 0,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 1000,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what came of payments, oldest first; rows are only ever added."""
    with _opened(home) as ledger:
        show({"receipts": [describe_receipt(each) for each in ledger.list_receipts(after, count)]}, output)


def get_path(home: Path | None) -> Path:
    """The ledger of a home."""
    return find_folder(home) / "ledger.db"


def choose_currency(network: str | None, token: str | None, settings: Path) -> Currency:
    """The token of a new ledger: that of the network's file `settings` where there is one.

    Raises ValidationError, or ConfigurationError when nothing tells the token, or the file is about another one.
    """
    if settings.exists():
        kept = Settings.load(settings).contracts.currency
        check_same(kept, find_currency(network, token, kept.token), settings)
        return kept
    if (given := find_currency(network, token)) is None:
        raise ConfigurationError("which token? give --network calibration or mainnet, or --token 0x… of a devnet")
    return given


def find_currency(network: str | None, token: str | None, known: str = "") -> Currency | None:
    """What options say, where a devnet's token may be `known` without being given. Raises ValidationError."""
    if network in NETWORKS:
        if token is not None:
            raise ValidationError(f"on {network} limits are in USDFC: give no --token")
        return NETWORKS[network].currency
    if network not in (None, "devnet"):
        raise ValidationError(f"{network!r} is no network: give mainnet, calibration or devnet")
    address = token if network is None else token or known
    return Currency(DEVNET_CHAIN_ID, address.lower()) if address else None


def check_same(kept: Currency, given: Currency | None, path: Path) -> None:
    """Raise ConfigurationError when a limit is meant for another chain or token than a file is about."""
    if given not in (None, kept):
        raise ConfigurationError(
            f"{path} is about token {kept.token} of chain {kept.chain_id}, not {given.token} of chain {given.chain_id}:"
            " leave out --network and --token, or give another --home"
        )


def describe(ledger: Ledger) -> dict[str, Any]:
    """Caps with what is used, as decimal text: they do not fit the numbers of JSON."""
    caps, usage = ledger.list_caps(), ledger.list_usage()
    scopes = sorted(caps.keys() | usage.keys())
    rows = [_describe_scope(scope, caps.get(scope, caps.get(Scope(scope.kind))), usage.get(scope)) for scope in scopes]
    currency = ledger.currency
    return {"chain_id": currency.chain_id, "token": currency.token, "scopes": rows, "open": len(ledger.list_open())}


def _show(told: dict[str, Any], output: Output) -> None:
    """As JSON, or with a line for each scope and each rail that can still pay."""
    if output is Output.JSON:
        show(told, output)
        return
    show({"chain_id": told["chain_id"], "token": told["token"], "open": told["open"]}, output)
    for name in ("scopes", "rails"):
        show_table(told.get(name, ()))


def _describe_scope(scope: Scope, cap: int | None, usage: Usage | None) -> dict[str, Any]:
    used = usage or Usage()
    rest = None if cap is None else str(max(0, cap - used.used))
    amounts = {"reserved": str(used.reserved), "charged": str(used.charged), "used": str(used.used)}
    return {"scope": str(scope), "cap": None if cap is None else str(cap)} | amounts | {"remaining": rest}


def describe_receipt(receipt: Receipt) -> dict[str, Any]:
    """A receipt, with amounts as decimal text."""
    entry = receipt.entry
    return {
        "number": receipt.number,
        "at": receipt.at,
        "reservation": entry.id,
        "state": str(entry.state),
        "charged": str(entry.charged),
        "reserved": str(entry.amount),
        "job": entry.purpose.job,
        "dataset": entry.purpose.dataset,
        "provider": entry.purpose.provider,
        "payee": entry.target.payee,
        "rail": entry.target.rail or None,
        "day": entry.day,
        "note": receipt.note,
    }


@contextmanager
def _opened(home: Path | None) -> Iterator[Ledger]:
    with closing(Ledger(get_path(home))) as ledger:
        yield ledger
