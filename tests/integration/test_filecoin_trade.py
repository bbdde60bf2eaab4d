"""The shipped reader buys from the shipped provider, on a real chain: what is read is right, what is paid adds up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.providing import Provider

from quorate.chain.account import DEVNET_SCRYPT_N, SigningAccount, save_keystore
from quorate.devnet.filecoin import FilecoinDevnet
from quorate.filecoin import rails, wallet
from quorate.filecoin.ledger import Ledger
from quorate.filecoin.pay import PayChain
from quorate.filecoin.piecetree import CHUNK_BYTES
from quorate.filecoin.retrieval import dags
from quorate.filecoin.retrieval.book import ProvidersBook
from quorate.filecoin.retrieval.opening import open_reader
from quorate.filecoin.retrieval.options import ReaderOptions
from quorate.filecoin.retrieval.paying import TooLittleMoney
from quorate.filecoin.retrieval.reader import Reader
from quorate.filecoin.retrieval.wanted import parse_wanted
from quorate.filecoin.spending import Scope, ScopeKind, Usage
from quorate.filecoin.terms import compute_price, compute_total
from quorate.storage.memory import MemoryStore

PRICE, MONEY = 1000, 10**6
SECRET = b"secret"


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilecoinDevnet]:
    with FilecoinDevnet(tmp_path_factory.mktemp("filecoin"), block_time_s=0.05, lockup_period=1200) as made:
        yield made


@pytest.fixture(scope="module")
def chain(devnet: FilecoinDevnet) -> Iterator[PayChain]:
    with closing(devnet.connect()) as made:
        yield made


class Market:
    """A provider with a key of its own, and a reader with a wallet and a limit in `folder`."""

    def __init__(self, folder: Path, devnet: FilecoinDevnet, chain: PayChain) -> None:
        self.folder, self.key, self.payer = folder / "filecoin", SigningAccount.create(), SigningAccount.create()
        devnet.endow(self.key.address, 0)
        devnet.endow(self.payer.address, 2 * MONEY)
        rails.fund(chain, self.payer, MONEY)
        rails.allow(chain, self.payer, MONEY)
        self.provider = Provider(folder / "home", devnet.network_file, self.key)
        save_keystore(folder / "key", self.payer, SECRET, DEVNET_SCRYPT_N)
        wallet.attach(self.folder, folder / "key", lambda is_new: SECRET)
        devnet.settings.save(self.folder / "network.json")
        Ledger.create(self.folder / "ledger.db", chain.contracts.currency)
        with closing(self.open_ledger()) as ledger:
            ledger.set_cap(Scope(ScopeKind.TOTAL), MONEY)

    def open_ledger(self) -> Ledger:
        return Ledger(self.folder / "ledger.db")

    def open_reader(self, on_step: Callable[[str], None] = lambda step: None) -> Reader:
        """One that asks the provider."""
        ProvidersBook(self.folder).add(self.provider.url)
        reader = open_reader(self.folder, ReaderOptions(), lambda file: SECRET)
        return replace(reader, on_step=on_step, pauses_s=(0.1,))

    def check_paid(self, chain: PayChain, vouchers: int, singles: int) -> None:
        """Ledger, receipts, provider and chain say the same, to the unit."""
        assert self.provider.stop() == 0
        found = self.provider.describe()
        sums = {name: int(value) for name, value in found["sums"].items()}
        assert (sums["taken"], sums["delivered"], sums["redeemed"], sums["owed"]) == (vouchers, vouchers, vouchers, 0)
        assert found["single_payments"]["sum"] == str(singles)
        with closing(self.open_ledger()) as ledger:
            assert sum(each.entry.charged for each in ledger.list_receipts(0, 1000)) == vouchers + singles
            assert ledger.list_usage().get(Scope(ScopeKind.TOTAL), Usage()).used == vouchers + singles
            assert ledger.list_open() == []
        has = chain.balances(self.key.address)
        assert (has.tokens, has.deposited) == (singles, vouchers - rails.compute_fee(vouchers) if vouchers else 0)


@pytest.fixture
def market(tmp_path: Path, devnet: FilecoinDevnet, chain: PayChain) -> Iterator[Market]:
    made = Market(tmp_path, devnet, chain)
    with made.provider:
        yield made


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiles")
    for name in ("one", "two"):
        (folder / name).write_bytes(hashlib.shake_128(name.encode()).digest(2_000_000))
    return folder


def test_a_folder_by_its_root_is_paid_chunk_by_chunk(
    market: Market, chain: PayChain, tiles: Path, tmp_path: Path
) -> None:
    sold = market.provider.add(tiles, PRICE)
    market.provider.start()
    store = MemoryStore()
    report = dags.bring(market.open_reader(), parse_wanted(sold["root"]), store, tmp_path)
    root = parse_wanted(sold["root"]).cid
    assert {each.name: store.read(each.cid) for each in store.list(root)} == {
        name: (tiles / name).read_bytes() for name in ("one", "two")
    }
    price = compute_total(sold["piece_bytes"], PRICE)
    assert report.paid == price
    market.check_paid(chain, price, 0)


def test_a_small_file_by_its_root_is_paid_in_one_shot(market: Market, chain: PayChain, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"small" * 1000)
    sold = market.provider.add(tmp_path / "small", PRICE)
    market.provider.start()
    store = MemoryStore()
    report = dags.bring(market.open_reader(), parse_wanted(sold["root"]), store, tmp_path)
    assert store.read(parse_wanted(sold["root"]).cid) == b"small" * 1000
    assert report.paid == compute_price(sold["car_bytes"], PRICE)
    market.check_paid(chain, 0, report.paid)


def test_a_provider_that_is_started_anew_under_way_is_paid_once(
    market: Market, chain: PayChain, tmp_path: Path
) -> None:
    data = hashlib.shake_128(b"piece").digest(4 * CHUNK_BYTES + 5)
    (tmp_path / "data").write_bytes(data)
    sold = market.provider.add(tmp_path / "data", PRICE, is_piece=True)
    market.provider.start()
    port, left = int(market.provider.url.rpartition(":")[2]), 3

    def on_step(step: str) -> None:
        nonlocal left
        left -= step == "signed"
        if not left:
            left = -1
            market.provider.kill()
            market.provider.start(port=port)

    report = market.open_reader(on_step).bring_piece(parse_wanted(sold["piece"]), tmp_path / "got")
    assert left < 0
    assert (tmp_path / "got").read_bytes() == data
    assert report.paid == compute_total(len(data), PRICE)
    market.check_paid(chain, report.paid, 0)


@pytest.mark.parametrize("lacking", ["allowance", "deposit"])
def test_with_too_little_money_on_the_chain_nothing_is_signed(
    market: Market, chain: PayChain, tmp_path: Path, lacking: str
) -> None:
    (tmp_path / "data").write_bytes(hashlib.shake_128(b"dear").digest(2 * CHUNK_BYTES))
    sold = market.provider.add(tmp_path / "data", PRICE, is_piece=True)
    market.provider.start()
    if lacking == "allowance":
        rails.allow(chain, market.payer, 10)
    else:
        rails.withdraw(chain, market.payer, MONEY - 10)
    before = chain.balances(market.payer.address)
    with pytest.raises(TooLittleMoney, match="1986"):
        market.open_reader().bring_piece(parse_wanted(sold["piece"]), tmp_path / "got")
    assert not (tmp_path / "got").exists()
    assert chain.balances(market.payer.address) == before, "no transaction was sent, for its gas would be gone"
    assert chain.list_rails(market.payer.address) == []
    market.check_paid(chain, 0, 0)
