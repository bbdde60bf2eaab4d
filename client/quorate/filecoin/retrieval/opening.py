"""A reader out of a folder: HOME/filecoin with its providers, and what pays where there is a limit.

providers.json   who is asked and who is banned        network.json  endpoint and contracts of the chain
ledger.db        limits and what was spent             wallet.json   the key, opened when something is to be paid
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from quorate.chain.types import to_hex
from quorate.filecoin import wallet
from quorate.filecoin.ledger import Ledger
from quorate.filecoin.networks import DEVNET_CHAIN_ID, Settings
from quorate.filecoin.pay import PayChain
from quorate.filecoin.payments import PaymentSigner
from quorate.filecoin.piecetree import ComputeNode, compute_node
from quorate.filecoin.retrieval.asking import Market
from quorate.filecoin.retrieval.book import ProvidersBook
from quorate.filecoin.retrieval.chainrails import ChainRails
from quorate.filecoin.retrieval.options import ReaderOptions
from quorate.filecoin.retrieval.paying import Purse
from quorate.filecoin.retrieval.quoting import Buyer
from quorate.filecoin.retrieval.reader import Reader
from quorate.protocol.errors import ConfigurationError, DataError

LEDGER, NETWORK = "ledger.db", "network.json"


def open_reader(
    folder: Path, options: ReaderOptions, get_passphrase: Callable[[Path | None], bytes],
    compute: ComputeNode = compute_node, on_bytes: Callable[[int], None] = lambda count: None,
) -> Reader:  # fmt: skip
    """A reader that pays where the folder has a limit, else one that reads free data alone.

    `get_passphrase` is called with the file that the wallet names, when the first payment is to be made. Raises
    ConfigurationError for files that cannot be read.
    """
    market = Market(ProvidersBook(folder), options.index_urls)
    if not (folder / LEDGER).exists() and not (folder / f"{LEDGER}.id").exists():
        return Reader(market, compute=compute, on_bytes=on_bytes)
    settings = Settings.load(folder / NETWORK)
    contracts = settings.contracts
    buyer = Buyer(
        contracts.currency, to_hex(contracts.pay), to_hex(contracts.operator), options.max_per_mib or None,
        options.exact_bytes,
    )  # fmt: skip
    market = Market(ProvidersBook(folder), options.index_urls, is_local=contracts.chain_id == DEVNET_CHAIN_ID)
    purses = _Purses(folder, settings, options.least_lockup, get_passphrase)
    return Reader(market, buyer, purses.open, compute, on_bytes=on_bytes)


class _Purses:
    """The purse of a folder, opened once."""

    def __init__(
        self, folder: Path, settings: Settings, least_lockup: int, get_passphrase: Callable[[Path | None], bytes]
    ) -> None:
        self._folder, self._settings, self._least, self._get = folder, settings, least_lockup, get_passphrase
        self._purse: Purse | None = None

    def open(self) -> Purse:
        """Raises ConfigurationError, also for a wrong passphrase, LedgerLost, LedgerDamaged, ChainUnavailable."""
        if self._purse is None:
            ledger = Ledger(self._folder / LEDGER)
            if ledger.currency != self._settings.contracts.currency:
                raise ConfigurationError(
                    f"the limits are in token {ledger.currency.token} of chain {ledger.currency.chain_id}, and "
                    f"{self._folder / NETWORK} is about another: set the network, or the limits, anew"
                )
            named = wallet.read_about(self._folder).passphrase_file
            try:
                opened = wallet.open_wallet(self._folder, self._get(Path(named) if named else None))
            except DataError as error:  # which would else count as a fault of the provider that is to be paid
                raise ConfigurationError(str(error)) from None
            chain = PayChain(self._settings.rpc_url, self._settings.contracts)
            chain.check()
            self._purse = Purse(ledger, PaymentSigner(opened), ChainRails(chain, opened, ledger, self._least))
        return self._purse
