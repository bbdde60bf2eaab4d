"""`filecoin network | reconcile`, and those of `wallet` and `limit` that speak with the chain."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from quorate.chain.types import parse_address, to_hex
from quorate.cli.filecoin.places import HomeOption, PassphraseOption, find_folder, get_program
from quorate.cli.showing import Output, OutputOption, show
from quorate.filecoin import rails, wallet
from quorate.filecoin.addresses import FilecoinAddress, to_checksummed
from quorate.filecoin.deploying import LOCKUP_PERIOD, deploy_operator
from quorate.filecoin.ledger import Ledger
from quorate.filecoin.networks import NETWORKS, Settings, find_contracts
from quorate.filecoin.pay import PayChain, RailState
from quorate.filecoin.reconciling import Reconciliation, reconcile
from quorate.filecoin.secrecy import forbid_dumps
from quorate.filecoin.spending import Entry, parse_amount
from quorate.filecoin.wallet import Wallet
from quorate.protocol.errors import ConfigurationError, QuorateError, RecoverableError
from quorate.protocol.types import Address

NETWORK_FILE, LEDGER_FILE = "network.json", "ledger.db"
AmountArgument = Annotated[
    str, typer.Argument(metavar="AMOUNT", help="Base units of the token, in digits alone: 10^18 are 1 USDFC.")
]


def set_network(
    file: Annotated[
        Path | None, typer.Option(help="A network's file, as a local one writes it.", show_default=False)
    ] = None,
    network: Annotated[str | None, typer.Option(help="calibration or mainnet.", show_default=False)] = None,
    rpc_url: Annotated[str | None, typer.Option(help="Endpoint of its Ethereum RPC.", show_default=False)] = None,
    operator: Annotated[
        str | None, typer.Option(help="Address of the RetrievalOperator there, 0x….", show_default=False)
    ] = None,
    block: Annotated[int, typer.Option(min=0, help="Block in which that was deployed.")] = 0,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Keep endpoint and contracts in HOME/filecoin/network.json, once they are found on the chain."""
    if file is not None:
        settings = Settings.load(file.expanduser())
    elif network is not None and rpc_url is not None and operator is not None:
        settings = Settings(rpc_url, find_contracts(network, operator, block))
    else:
        names = " or ".join(NETWORKS)
        raise ConfigurationError(f"give --file of a local network, or --network ({names}), --rpc-url and --operator")
    with closing(PayChain(settings.rpc_url, settings.contracts)) as chain:
        chain.check()
    settings.save(find_folder(home) / NETWORK_FILE)
    show(_describe_network(settings), output)


def deploy(
    network: Annotated[str, typer.Option(help="calibration or mainnet.")],
    rpc_url: Annotated[str, typer.Option(help="Endpoint of its Ethereum RPC.")],
    lockup_period: Annotated[
        int, typer.Option(min=1, help="Epochs that a rail can be redeemed from after its reader closed it.")
    ] = LOCKUP_PERIOD,
    passphrase_file: PassphraseOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Deploy a RetrievalOperator with the wallet's FIL, once for all readers and providers that agree on it, and keep
    it as this home's network. It has no owner, and whoever deployed it no power."""
    settings = Settings(rpc_url, deploy_operator(rpc_url, network, _open_wallet(home, passphrase_file), lockup_period))
    settings.save(find_folder(home) / NETWORK_FILE)
    show(_describe_network(settings), output)


def local(
    folder: Annotated[Path, typer.Argument(help="Where its network.json and logs go.")],
    endow: Annotated[
        list[str] | None, typer.Option(help="Give this account FIL and tokens; can be repeated.", show_default=False)
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on loopback; 0 takes a free one.")] = 0,
    block_time: Annotated[float, typer.Option(min=0.05, max=60, help="Seconds from block to block.")] = 1.0,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run a chain without value on this computer, with token, Filecoin Pay and operator, until it is interrupted."""
    from quorate.devnet.filecoin import FilecoinDevnet  # Anvil is for this alone

    accounts = [parse_address(text) for text in endow or []]
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with FilecoinDevnet(folder.expanduser(), port=port, block_time_s=block_time) as devnet:
        for account in accounts:
            devnet.endow(account)
        show(_describe_network(devnet.settings) | {"file": str(devnet.network_file)}, output)
        sys.stdout.flush()
        signal.sigwait(signals)


def show_network(home: HomeOption = None, output: OutputOption = Output.TEXT) -> None:
    """Print endpoint and contracts."""
    show(_describe_network(Settings.load(find_folder(home) / NETWORK_FILE)), output)


def balance(home: HomeOption = None, output: OutputOption = Output.TEXT) -> None:
    """Print what the wallet has: FIL for gas, tokens, its account in Filecoin Pay, and its rails. Needs no key."""
    payer = _read_payer(find_folder(home))
    with _connected(find_folder(home)) as chain:
        show(describe_balances(chain, payer), output)


def deposit(
    amount: AmountArgument,
    passphrase_file: PassphraseOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Move tokens of the wallet into its account in Filecoin Pay, which rails are paid from."""
    with _opened(home, passphrase_file) as (chain, payer):
        rails.fund(chain, payer, parse_amount("the amount", amount))
        show(describe_balances(chain, payer.address), output)


def withdraw(
    amount: AmountArgument,
    passphrase_file: PassphraseOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take tokens that no rail has locked back out of Filecoin Pay; rails that have ended are settled before."""
    wanted = parse_amount("the amount", amount)
    with _opened(home, passphrase_file) as (chain, payer):
        for rail in _read_rails(chain, payer.address):
            if rail.has_ended and rail.block_number >= rail.end_epoch:
                rails.settle_rail(chain, payer, rail.rail_id)
        rails.withdraw(chain, payer, wanted)
        show(describe_balances(chain, payer.address), output)


def allow(
    amount: AmountArgument,
    passphrase_file: PassphraseOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Limit on the chain, too, what all rails can cost from now on; what they have locked already is included."""
    with _opened(home, passphrase_file) as (chain, payer):
        rails.allow(chain, payer, parse_amount("the amount", amount))
        show(describe_balances(chain, payer.address), output)


def reconcile_(home: HomeOption = None, output: OutputOption = Output.TEXT) -> None:
    """Compare the ledger with the chain, to the unit, and end reservations that the chain proves to be over.

    Needs no key. Ends with an error when the chain has paid what this ledger did not allow.
    """
    folder = find_folder(home)
    with closing(Ledger(folder / LEDGER_FILE)) as ledger, _connected(folder) as chain:
        found = reconcile(ledger, chain, _read_payer(folder))
    show(describe_reconciliation(found), output)
    found.check()


def revoke_on_chain(home: Path | None, passphrase_file: Path | None) -> list[dict[str, Any]]:
    """Allow nothing on the chain any more and close every rail; those that can still pay, and until when.

    Nothing, where the home has no network. Raises RecoverableError when the chain could not be told.
    """
    folder = find_folder(home)
    if not (folder / NETWORK_FILE).exists():
        return []
    try:
        with _opened(home, passphrase_file) as (chain, payer):
            closed = rails.revoke(chain, payer)
    except QuorateError as error:
        raise RecoverableError(
            f"nothing is signed here any more, but the chain was not told, and its rails stay open ({error}): run "
            "`limit revoke` again"
        ) from error
    return [_describe_rail(rail) for rail in closed if not rail.has_ended]


def describe_balances(chain: PayChain, payer: Address) -> dict[str, Any]:
    """Amounts as decimal text: they do not fit the numbers of JSON."""
    has = chain.balances(payer)
    return {
        "ethereum": to_checksummed(payer),
        "f410": str(FilecoinAddress.from_ethereum(payer)),
        "network": chain.contracts.caip2,
        "gas_attofil": str(has.gas_wei),
        "tokens": str(has.tokens),
        "deposited": str(has.deposited),
        "locked": str(has.locked),
        "free": str(has.free),
        "allowed": str(has.lockup_allowance) if has.is_approved else "0",
        "lockable": str(has.lockable),
        "rails": [_describe_rail(rail) for rail in _read_rails(chain, payer)],
    }


def describe_reconciliation(found: Reconciliation) -> dict[str, Any]:
    """Sums, then accounts; amounts as decimal text."""
    sums = {name: str(getattr(found, name)) for name in ("charged", "paid", "fees", "owed")}
    return {
        "block": found.block_number,
        "time": found.time,
        **sums,
        "rails": [_to_text(asdict(each) | {"owed": each.owed}) for each in found.rails],
        "payments": [_to_text(asdict(each)) for each in found.singles],
        "ended": [
            {"reservation": each.id, "state": str(each.state), "charged": str(each.charged)} for each in found.ended
        ],
        "waiting": [_to_text(asdict(each)) for each in found.waiting],
        "problems": list(found.problems),
    }


def _describe_entry(entry: Entry) -> dict[str, Any]:
    return {"reservation_id": entry.id, "state": str(entry.state), "charged": str(entry.charged)}


def _describe_rail(rail: RailState) -> dict[str, Any]:
    return {
        "rail": rail.rail_id,
        "payee": to_hex(rail.payee),
        "redeemed": str(rail.redeemed),
        "locked": str(rail.locked),
        "end_epoch": rail.end_epoch or None,
    }


def _describe_network(settings: Settings) -> dict[str, Any]:
    return {"rpc_url": settings.rpc_url, "network": settings.contracts.caip2} | settings.contracts.to_json()


def _to_text(row: dict[str, Any]) -> dict[str, Any]:
    is_amount = {name: isinstance(value, int) and not isinstance(value, bool) for name, value in row.items()}
    return {name: str(value) if is_amount[name] and name != "rail_id" else value for name, value in row.items()}


def _read_rails(chain: PayChain, payer: Address) -> list[RailState]:
    return [chain.rail(rail_id) for rail_id in chain.list_rails(payer)]


def _read_payer(folder: Path) -> Address:
    return Address(bytes.fromhex(wallet.read_about(folder).ethereum.removeprefix("0x")))


@contextmanager
def _connected(folder: Path) -> Iterator[PayChain]:
    settings = Settings.load(folder / NETWORK_FILE)
    with closing(PayChain(settings.rpc_url, settings.contracts)) as chain:
        chain.check()
        yield chain


@contextmanager
def _opened(home: Path | None, passphrase_file: Path | None) -> Iterator[tuple[PayChain, Wallet]]:
    """The chain, and the wallet's key in this process, which from now on leaves no dump."""
    with _connected(find_folder(home)) as chain:
        yield chain, _open_wallet(home, passphrase_file)


def _open_wallet(home: Path | None, passphrase_file: Path | None) -> Wallet:
    named = wallet.read_about(find_folder(home)).passphrase_file
    forbid_dumps()
    file = passphrase_file or (Path(named) if named else None)
    return wallet.open_wallet(find_folder(home), get_program().get_passphrase(file, False))
