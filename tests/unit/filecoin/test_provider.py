"""What the provider keeps: datasets whose CARs are written part by part; a till that gives no more than was paid."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from quorate.chain.account import SigningAccount
from quorate.chain.types import parse_address
from quorate.filecoin.payments import SignedVoucher, TokenDomain, Voucher, VoucherProblem, VoucherRefused, hash_voucher
from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.piecetree import CHUNK_BYTES
from quorate.filecoin.spending import Currency
from quorate.filecoin.terms import MAX_EXACT_BYTES, Resource, Terms, WireError
from quorate.protocol.errors import ConfigurationError, DataError
from quorate.storage.base import BlockNotFound
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate_node.cli import filecoin_providing
from quorate_node.cli.main import main
from quorate_node.filecoin.hashing import hash_stream
from quorate_node.filecoin.provider.adding import Home, Importer
from quorate_node.filecoin.provider.catalog import Catalog, Dataset, Kind
from quorate_node.filecoin.provider.indexing import load_identity, to_multiaddr
from quorate_node.filecoin.provider.offers import PERIOD_S, Seller, compute_expiry
from quorate_node.filecoin.provider.pieces import ContentChanged, PieceReader
from quorate_node.filecoin.provider.till import Till

CURRENCY = Currency(31415926, "0x" + "11" * 20)
PAYEE, OPERATOR, PAY = "0x" + "33" * 20, "0x" + "22" * 20, "0x" + "44" * 20
PAYER = SigningAccount.from_key(b"\x05" * 32)
SELLER = Seller(CURRENCY, PAYEE, PAY, OPERATOR, TokenDomain("Token", "1"))
SIZE = 10 * CHUNK_BYTES
TERMS = Terms(CURRENCY, PAYEE, PAY, OPERATOR, 1000, "piece", SIZE, 2_000_000_000)
NOW = 1_900_000_000


class Shelf:
    """A home with its store and catalogue."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.store, self.catalog = EmbeddedStore(self.home.store), Catalog(self.home.catalog)
        self.importer = Importer(self.home, self.store, self.catalog)
        self.reader = PieceReader(self.store, self.catalog)

    def close(self) -> None:
        self.store.close()
        self.catalog.close()


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with closing(Shelf(tmp_path / "home")) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """More blocks than are looked up at once, of which some are large, and one is there twice."""
    made, rng = tmp_path / "folder", random.Random(1)
    made.mkdir()
    for number in range(2200):
        (made / f"{number:04}").write_bytes(number.to_bytes(2, "big") * 3)
    for name in ("large", "twin"):
        (made / name).write_bytes(random.Random(2).randbytes(3_000_000))
    (made / "other").write_bytes(rng.randbytes(1_500_000))
    return made


def test_any_part_of_a_car_is_written_by_itself(shelf: Shelf, folder: Path) -> None:
    dataset = shelf.importer.add_path(folder, 7, is_piece=False)
    whole = b"".join(shelf.store.export_car(dataset.root))
    assert (dataset.kind, dataset.is_dag, dataset.car_size, dataset.path) == (Kind.CAR, True, len(whole), str(folder))
    assert dataset.piece == hash_stream([whole])
    assert shelf.home.nodes(dataset.piece).stat().st_size == 32 * -(-len(whole) // CHUNK_BYTES)
    assert shelf.reader.read_whole(dataset, 0, len(whole)) == whole
    rng = random.Random(3)
    for _ in range(150):
        start = rng.choice((rng.randrange(200), rng.randrange(len(whole))))
        end = min(len(whole), start + rng.choice((1, 40, 5000, 2_000_000)))
        assert shelf.reader.read_whole(dataset, start, end) == whole[start:end]


def test_a_dataset_is_found_by_every_name(shelf: Shelf, folder: Path) -> None:
    dataset = shelf.importer.add_path(folder, 7, is_piece=False)
    piece, leaf = dataset.piece, Cid.of((folder / "0005").read_bytes())
    for cid in (dataset.root, piece.v1, piece.v2):
        assert shelf.catalog.find(cid) == [dataset]
    assert shelf.catalog.find_holders(leaf.multihash) == [dataset]
    assert shelf.catalog.find_holders(Cid.of(b"another").multihash) == []
    assert shelf.catalog.find_piece(replace(piece, size_bytes=piece.size_bytes - 1).v2) == []
    assert [each.price_per_mib for each in shelf.catalog.set_price(piece.v1, 3)] == [3]
    free = shelf.importer.add_path(folder / "large", 0, is_piece=True)
    assert (free.kind, free.is_dag, free.piece.size_bytes) == (Kind.FILE, False, 3_000_000)
    block = next(iter(shelf.catalog.list_between(free, 0, 2**40)))
    assert [each.price_per_mib for each in shelf.catalog.find_holders(block.cid.multihash)] == [0, 3]
    again = shelf.importer.add_path(folder, 9, is_piece=False)  # the same: its price is new
    assert [each.price_per_mib for each in shelf.catalog.list_all()] == [0, 9]
    assert again.root == dataset.root


def test_a_dag_of_another_store(shelf: Shelf, folder: Path, tmp_path: Path) -> None:
    with closing(EmbeddedStore(tmp_path / "other")) as other:
        root = other.add_path(folder)
    with pytest.raises(BlockNotFound):
        shelf.importer.add_cid(root, 1, None, is_piece=False)
    assert shelf.catalog.list_all() == []
    dataset = shelf.importer.add_cid(root, 1, str(tmp_path / "other"), is_piece=False)
    assert shelf.reader.read_whole(dataset, 0, dataset.car_size) == b"".join(shelf.store.export_car(root))
    with pytest.raises(DataError, match="for files"):
        shelf.importer.add_cid(root, 1, None, is_piece=True)


def test_what_has_changed_is_noticed(shelf: Shelf, folder: Path) -> None:
    path = folder / "large"
    dataset = shelf.importer.add_path(path, 1, is_piece=True)
    shelf.reader.check(dataset)
    link = folder / "link"
    link.symlink_to(path)
    with pytest.raises(DataError, match="symbolic link"):
        shelf.importer.add_path(link, 1, is_piece=False)
    found = path.stat()
    path.write_bytes(b"x" * 3_000_000)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    for work in (shelf.reader.check, lambda each: shelf.reader.read_whole(each, 0, 10)):
        with pytest.raises(ContentChanged, match="has changed"):
            work(dataset)
    path.unlink()
    with pytest.raises(ContentChanged, match="cannot be read"):
        shelf.reader.check(dataset)


# the till -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def till(tmp_path: Path) -> Iterator[Till]:
    with closing(Till(tmp_path / "till.db")) as made:
        yield made


def sign(rail_id: int, cumulative: int, terms: Terms = TERMS) -> SignedVoucher:
    voucher = Voucher(rail_id, cumulative, terms.hash)
    digest = hash_voucher(voucher, CURRENCY.chain_id, parse_address(OPERATOR))
    return SignedVoucher(voucher, PAYER.sign(digest))


def take(till: Till, rail_id: int, cumulative: int, chunk: int, ceiling: int = 10**6, redeemed: int = 0) -> bool:
    return till.take(sign(rail_id, cumulative), TERMS, PAYER.address, chunk, ceiling, redeemed)


def test_the_till_never_gives_more_than_was_paid(till: Till) -> None:
    rng, price = random.Random(4), TERMS.price_chunk(0)
    given, best = 0, 0
    paid: set[int] = set()
    for _ in range(300):
        cumulative, chunk = rng.randrange(1, 12 * price), rng.randrange(10)
        is_new = chunk not in paid or cumulative > best
        if is_new and not given + price <= cumulative <= 8 * price:
            with pytest.raises(VoucherRefused) as refused:
                take(till, 1, cumulative, chunk, ceiling=8 * price)
            assert refused.value.problem in (VoucherProblem.STALE, VoucherProblem.UNPAID, VoucherProblem.UNCOVERED)
            continue
        assert take(till, 1, cumulative, chunk, ceiling=8 * price) == is_new
        paid.add(chunk)
        if is_new:
            given, best = given + price, max(best, cumulative)
        account = till.find(TERMS.get_target(1))
        assert account is not None
        assert (account.delivered, account.best.voucher.cumulative) == (given, best)
        assert given <= best <= 8 * price
    assert len(paid) > 3
    assert till.count_chunks() == len(paid)


def test_one_voucher_in_many_hands_buys_one_chunk(till: Till) -> None:
    taken: list[int] = []

    def run(chunk: int) -> None:
        try:
            take(till, 1, 993, chunk)
            taken.append(chunk)
        except VoucherRefused:
            return

    threads = [threading.Thread(target=run, args=(chunk,)) for chunk in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == till.count_chunks() == 1


def test_a_rail_that_is_new_here_is_no_credit_for_what_was_redeemed_elsewhere(till: Till) -> None:
    """Or whoever kept a voucher that the till has lost would be served for it again."""
    with pytest.raises(VoucherRefused):
        take(till, 1, 5000, 0, redeemed=5000)
    assert take(till, 1, 5993, 0, redeemed=5000)
    account = till.find(TERMS.get_target(1))
    assert account is not None
    assert (account.owed, account.credit, account.redeemed) == (993, 0, 5000)


def test_what_the_till_holds_outlives_it(till: Till, tmp_path: Path) -> None:
    other = replace(TERMS, resource="another")
    assert take(till, 7, 2000, 3)
    assert till.take(sign(7, 3000, other), other, PAYER.address, 3, 10**6, 0)
    till.note_redeemed(TERMS.get_target(7), 1500, is_over=False)
    with closing(Till(tmp_path / "till.db")) as again:
        (account,) = again.list_rails()
        assert account.best == sign(7, 3000, other)
        assert (account.target, account.payer) == (TERMS.get_target(7), PAYER.address)
        assert (account.delivered, account.owed, account.credit) == (2 * 993, 1500, 3000 - 2 * 993)
        assert again.is_paid(TERMS.get_target(7), TERMS.hash, 3)
        assert not again.is_paid(TERMS.get_target(7), TERMS.hash, 4)
        assert again.is_known(other.hash)


def test_repeats_are_counted_across_restarts(till: Till, tmp_path: Path) -> None:
    target, other = TERMS.get_target(1), TERMS.get_target(2)
    assert take(till, 1, 993, 0)
    assert [till.repeat(target, TERMS.hash, 0, 60, 100) for _ in range(2)] == [True, False]
    with closing(Till(tmp_path / "till.db")) as again:
        assert not again.repeat(target, TERMS.hash, 0, 60, 100)
        assert again.repeat(target, TERMS.hash, 0, 40, 100)
        assert not again.repeat(target, TERMS.hash, 0, 1, 100)
        assert again.repeat(target, TERMS.hash, 1, 100, 100)
        assert again.repeat(other, TERMS.hash, 0, 100, 100)
        assert take(again, 1, 2 * 993, 0)  # paid once more
        assert again.repeat(target, TERMS.hash, 0, 100, 100)


# offers ---------------------------------------------------------------------------------------------------------------


def make_dataset(size: int, price: int) -> Dataset:
    piece = PieceCid(bytes(32), 30, size)
    return Dataset(1, Cid.of(b"root"), piece, size, True, Kind.CAR, "", 0, price)


def test_offers_stay_the_same_for_half_a_day_and_end() -> None:
    dataset = make_dataset(SIZE, 1000)
    start = NOW // PERIOD_S * PERIOD_S
    offers = {SELLER.make_terms(dataset, "piece", now).hash for now in (start, start + 1, start + PERIOD_S - 1)}
    assert len(offers) == 1
    assert PERIOD_S < compute_expiry(start + PERIOD_S - 1) - (start + PERIOD_S - 1) <= compute_expiry(start) - start
    terms = SELLER.make_terms(dataset, "piece", start)
    assert SELLER.find_problem(terms, dataset, start + PERIOD_S, is_known=False) is None
    raised = replace(dataset, price_per_mib=1001)
    assert "1001" in str(SELLER.find_problem(terms, raised, start, is_known=False))
    assert SELLER.find_problem(terms, raised, start, is_known=True) is None
    assert "ended" in str(SELLER.find_problem(terms, dataset, terms.expires, is_known=True))
    elsewhere = replace(SELLER, operator=PAY)
    assert "another network" in str(elsewhere.find_problem(terms, dataset, start, is_known=True))


def test_only_what_is_small_is_sold_at_once() -> None:
    resource = Resource("http://127.0.0.1/piece/x")
    for size, schemes in ((MAX_EXACT_BYTES, 2), (MAX_EXACT_BYTES + 1, 1)):
        assert len(SELLER.offer_piece(make_dataset(size, 1000), "x", resource, NOW, "").offers) == schemes
    without = replace(SELLER, domain=None)
    assert without.offer_piece(make_dataset(5, 1000), "x", resource, NOW, "").exact is None


def test_prices_that_are_no_amounts_are_refused(shelf: Shelf, folder: Path) -> None:
    with pytest.raises(WireError, match="price"):
        shelf.importer.add_path(folder / "other", 2**256 - 1, is_piece=True)
    assert shelf.catalog.list_all() == []


def test_a_home_keeps_its_identity(tmp_path: Path) -> None:
    first = load_identity(tmp_path / "identity")
    assert first == load_identity(tmp_path / "identity") != load_identity(tmp_path / "another")
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o600
    (tmp_path / "identity").write_text("xyz")
    with pytest.raises(ConfigurationError, match="is no identity"):
        load_identity(tmp_path / "identity")


@pytest.mark.parametrize(
    ("url", "multiaddr"),
    [
        ("http://127.0.0.1:8300", "/ip4/127.0.0.1/tcp/8300/http"),
        ("https://data.example", "/dns/data.example/tcp/443/https"),
        ("http://[::1]:81/", "/ip6/::1/tcp/81/http"),
    ],
)
def test_urls_as_multiaddrs(url: str, multiaddr: str) -> None:
    assert to_multiaddr(url) == multiaddr


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["add", "no-such-path"], "neither a path that is here nor a CID"),
        (["add", "TILES", "--price-per-mib", "-1"], "digits alone"),
        (["add", "TILES", "--price-per-mib", "1.5"], "digits alone"),
        (["add", "TILES", "--price-per-mib", str(2**256)], "2^256"),
        (["add", "TILES", "--piece"], "is no file"),
        (["add", "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"], "does not have"),
        (["price", "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354", "1"], "neither root nor piece"),
        (["price", "nonsense", "1"], "not a CID"),
        (["run", "--listen", "nowhere"], "HOST:PORT"),
        (["run", "--listen", "127.0.0.1:0", "--rpc", "http://127.0.0.1:1"], "--network"),
        (["run", "--listen", "127.0.0.1:0", "--network", "no-such-file"], "no Filecoin network"),
        (["run", "--listen", "127.0.0.1:0", "--announce", "gopher://x"], "no http or https URL"),
    ],
)
def test_wrong_commands_say_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], reason: str
) -> None:
    home, tiles = tmp_path / "home", tmp_path / "tiles"
    tiles.mkdir()
    (tiles / "one").write_bytes(b"one")
    filecoin_providing.add(home, str(tiles / "one"), "0", None, is_piece=False)
    with pytest.raises(SystemExit) as ended:
        main(["filecoin-provider", *(str(tiles) if each == "TILES" else each for each in args), "--home", str(home)])
    assert ended.value.code in (2, 3)
    assert reason in capsys.readouterr().err
    assert len(filecoin_providing.describe(home)["datasets"]) == 1
