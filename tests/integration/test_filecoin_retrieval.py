"""Paid and free data from providers that keep their word: what comes, what is paid, and what happens after a cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.adversarial.buying import CHUNK, PRICE, Client, create_ledger, make_bytes
from tests.adversarial.selling import Seller, reply

from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.retrieval.dags import bring
from quorate.filecoin.retrieval.paying import TooLittleMoney
from quorate.filecoin.retrieval.wanted import parse_wanted
from quorate.filecoin.spending import Scope, ScopeKind, SpendingLimitExceeded
from quorate.protocol.errors import ContentUnavailable
from quorate.storage.embedded import EmbeddedStore

SIZE = 3 * CHUNK + 1000


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    create_ledger(tmp_path)
    with Client(tmp_path) as made:
        yield made


def test_a_piece_is_paid_chunk_by_chunk_and_to_the_unit(client: Client) -> None:
    data = make_bytes(SIZE)
    with Seller() as seller:
        piece = seller.add_piece(data, PRICE)
        client.ask(seller)
        report = client.get(piece)
        assert client.path.read_bytes() == data
        assert report.paid == client.charged == client.signer.signed == seller.redeemable == SIZE
        steps = [each.voucher.cumulative for each in client.signer.vouchers]
        assert steps == [CHUNK, 2 * CHUNK, 3 * CHUNK, SIZE], "one chunk more, and only then the next"
        assert [receipt.entry.purpose.dataset for receipt in report.receipts] == [str(piece.v2)]
        assert not list(client.folder.glob(".piece*")), "neither a part nor a note is left"


def test_a_second_piece_goes_on_on_the_same_rail(client: Client) -> None:
    with Seller() as seller:
        first, second = seller.add_piece(make_bytes(CHUNK, 2), PRICE), seller.add_piece(make_bytes(500, 3), PRICE)
        client.ask(seller)
        client.get(first)
        client.path.unlink()
        client.get(second)
        assert seller.best == {1: CHUNK + 500}
        assert client.charged == CHUNK + 500


def test_free_data_needs_no_wallet_and_no_ledger(tmp_path: Path) -> None:
    data = make_bytes(SIZE)
    with Seller() as seller, Client(tmp_path) as client:
        piece = seller.add_piece(data, 0)
        client.ask(seller)
        report = client.get(piece)
        assert client.path.read_bytes() == data
        assert (client.purses, report.paid, client.signer.signed) == (0, 0, 0)
        assert not (tmp_path / "ledger.db").exists()


class Bare(Seller):
    """Serves no nodes, as a provider that knows FRC-0066 alone."""

    def change_nodes(self, nodes: bytes) -> bytes:
        return b""

    def answer(self, handler) -> None:  # type: ignore[no-untyped-def]
        if handler.path.endswith("/nodes"):
            handler.send_error(404)
            return
        super().answer(handler)


def test_free_data_without_nodes_is_verified_as_a_whole(client: Client) -> None:
    data = make_bytes(SIZE)
    with Bare() as bare:
        client.ask(bare)
        piece = bare.add_piece(data, 0)
        client.get(piece)
        assert client.path.read_bytes() == data
        client.path.unlink()
        bare.items[f"/piece/{piece.v2}"].data = data[:CHUNK] + make_bytes(SIZE - CHUNK, 7)
        with pytest.raises(ContentUnavailable, match="is not"):
            client.get(piece)
        assert client.is_banned
        assert not client.path.exists()


def test_paid_data_without_nodes_is_not_paid_for(client: Client) -> None:
    with Bare() as bare:
        client.ask(bare)
        piece = bare.add_piece(make_bytes(SIZE), PRICE)
        with pytest.raises(ContentUnavailable, match="nodes"):
            client.get(piece)
        assert client.signer.signed == 0


def test_the_cheapest_within_the_limit_wins(client: Client) -> None:
    data = make_bytes(SIZE)
    with Seller(payee="0x" + "55" * 20) as dear, Seller() as cheap:
        piece = dear.add_piece(data, 3 * PRICE)
        cheap.add_piece(data, PRICE)
        client.ask(dear, cheap)
        assert [quote.amount for quote in client.reader.quote(parse_wanted(str(piece.v2))).found] == [SIZE, 3 * SIZE]
        assert client.signer.signed == 0, "a quote costs nothing"
        report = client.get(piece)
        assert report.providers == [cheap.url]
        assert (dear.redeemable, cheap.redeemable) == (0, SIZE)
        client.path.unlink()
        client.ledger.set_cap(Scope(ScopeKind.PROVIDER, cheap.url), SIZE)
        assert client.get(piece).providers == [dear.url], "the cheap one's own cap is reached"


def test_above_the_limit_nothing_is_signed_and_raising_it_lets_it_through(client: Client) -> None:
    with Seller() as seller:
        piece = seller.add_piece(make_bytes(SIZE), PRICE)
        client.ask(seller)
        client.ledger.set_cap(Scope(ScopeKind.JOB), SIZE - 1)
        with pytest.raises(SpendingLimitExceeded) as refused:
            client.get(piece)
        error = refused.value
        assert (error.scope, error.cap, error.used, error.requested) == (
            Scope(ScopeKind.JOB, "job"), SIZE - 1, 0, SIZE,
        )  # fmt: skip
        assert (client.signer.signed, client.charged, seller.redeemable) == (0, 0, 0)
        assert not client.rails.opened, "no transaction was sent for it either"
        client.ledger.top_up(Scope(ScopeKind.JOB), 1)
        assert client.get(piece).paid == SIZE


class Cutting(Seller):
    """Cuts the connection in the middle of a chunk, once, or for as long as it is told."""

    at, times = CHUNK, 1

    def change_body(self, asked, body: bytes) -> bytes:  # type: ignore[no-untyped-def]
        if asked.is_paid and asked.range[0] == self.at and self.times:
            self.times -= 1
            return body[:4000]
        return body


def test_a_cut_costs_nothing_a_second_time(client: Client) -> None:
    data = make_bytes(SIZE)
    with Cutting() as seller:
        piece = seller.add_piece(data, PRICE)
        client.ask(seller)
        report = client.get(piece)
        assert client.path.read_bytes() == data
        assert report.paid == client.charged == seller.redeemable == SIZE
        assert len(client.signer.vouchers) == 4, "the one that was cut off was shown again, not signed anew"


def test_one_that_stays_away_in_mid_stream_is_taken_up_where_it_stopped(client: Client) -> None:
    data = make_bytes(SIZE)
    with Cutting() as seller:
        seller.times = 100
        piece = seller.add_piece(data, PRICE)
        client.ask(seller)
        with pytest.raises(ContentUnavailable, match="cut off"):
            client.get(piece)
        assert client.charged == client.signer.signed == 2 * CHUNK, "one chunk came, and one was signed for"
        assert client.is_banned
        seller.times = 0
        client.book.unban(seller.url)
        before = len(seller.asked)
        report = client.get(piece)
        assert client.path.read_bytes() == data
        assert client.charged == seller.redeemable == SIZE, "nothing was paid twice"
        assert report.paid == SIZE - 2 * CHUNK
        assert all(each.range[0] >= CHUNK for each in seller.asked[before:] if each.is_paid and each.range)


def test_another_provider_gives_the_rest_and_is_paid_for_the_rest(client: Client) -> None:
    data = make_bytes(SIZE)
    with Cutting() as first, Seller(payee="0x" + "55" * 20) as second:
        first.times = 100
        piece = first.add_piece(data, PRICE)
        second.add_piece(data, 2 * PRICE)
        client.ask(first, second)
        report = client.get(piece)
        assert client.path.read_bytes() == data
        assert (first.redeemable, second.redeemable) == (2 * CHUNK, 2 * (SIZE - CHUNK))
        assert client.charged == report.paid == first.redeemable + second.redeemable


def test_what_was_damaged_on_disk_comes_anew(client: Client) -> None:
    data = make_bytes(SIZE)
    with Cutting() as seller:
        seller.at, seller.times = 2 * CHUNK, 100
        piece = seller.add_piece(data, PRICE)
        client.ask(seller)
        with pytest.raises(ContentUnavailable):
            client.get(piece)
        part = client.folder / ".piece.part"
        part.write_bytes(part.read_bytes()[:CHUNK] + bytes(CHUNK))
        seller.times = 0
        client.book.unban(seller.url)
        client.get(piece)
        assert client.path.read_bytes() == data


def make_dag(folder: Path, size: int) -> tuple[EmbeddedStore, str, bytes]:
    store = EmbeddedStore(folder)
    root = store.add_tree({"a.bin": make_bytes(size, 11), "b/c.txt": b"text"})
    return store, str(root.to_v1()), b"".join(store.export_car(root))


def test_a_dag_is_read_as_the_piece_in_which_it_lies(client: Client, tmp_path: Path) -> None:
    donor, root, car = make_dag(tmp_path / "donor", SIZE)
    with Seller() as seller, closing(donor), closing(EmbeddedStore(tmp_path / "store")) as store:
        seller.add_car(root, car, PRICE)
        client.ask(seller)
        wanted = parse_wanted(root)
        report = bring(client.reader, wanted, store, tmp_path / "spool", "job")
        assert store.is_complete(wanted.cid)
        assert report.paid == client.charged == seller.redeemable == len(car)
        assert {receipt.entry.purpose.dataset for receipt in report.receipts} == {root}
        assert not list((tmp_path / "spool").iterdir())
        assert bring(client.reader, wanted, store, tmp_path / "spool", "job").paid == 0, "it is here"


def test_a_small_dag_is_paid_in_one_shot(client: Client, tmp_path: Path) -> None:
    donor, root, car = make_dag(tmp_path / "donor", 5000)
    with Seller(is_exact=True) as seller, closing(donor), closing(EmbeddedStore(tmp_path / "store")) as store:
        seller.add_car(root, car, PRICE, is_piece=False)
        client.ask(seller)
        report = bring(client.reader, parse_wanted(root), store, tmp_path / "spool", "job")
        assert store.is_complete(parse_wanted(root).cid)
        assert report.paid == seller.redeemable == len(car)
        assert len(client.signer.transfers) == 1


@pytest.mark.parametrize("tokens", [0, 10**9])
def test_without_tokens_of_its_own_a_wallet_pays_by_its_rails(client: Client, tmp_path: Path, tokens: int) -> None:
    client.rails.tokens = tokens
    donor, root, car = make_dag(tmp_path / "donor", 5000)
    with Seller(is_exact=True) as seller, closing(donor), closing(EmbeddedStore(tmp_path / "store")) as store:
        piece = seller.add_piece(make_bytes(700), PRICE)
        seller.add_car(root, car, PRICE)
        client.ask(seller)
        client.get(piece)
        bring(client.reader, parse_wanted(root), store, tmp_path / "spool", "job")
        assert client.charged == seller.redeemable == 700 + len(car)
        assert len(client.signer.transfers) == (2 if tokens else 0)


def test_without_tokens_and_vouchers_nothing_is_signed(client: Client, tmp_path: Path) -> None:
    client.rails.tokens = 0
    donor, root, car = make_dag(tmp_path / "donor", 5000)
    with Seller(is_exact=True) as seller, closing(donor), closing(EmbeddedStore(tmp_path / "store")) as store:
        seller.add_car(root, car, PRICE, is_piece=False)
        client.ask(seller)
        with pytest.raises(TooLittleMoney, match="own account"):
            bring(client.reader, parse_wanted(root), store, tmp_path / "spool", "job")
        assert (client.signer.signed, client.charged) == (0, 0)


@pytest.mark.parametrize("is_car", [True, False])
def test_a_piece_in_a_store_is_its_dag_or_a_file(client: Client, tmp_path: Path, is_car: bool) -> None:
    donor, root, car = make_dag(tmp_path / "donor", 5000)
    data = car if is_car else make_bytes(5000)
    with Seller() as seller, closing(donor), closing(EmbeddedStore(tmp_path / "store")) as store:
        piece = seller.add_piece(data, PRICE)
        client.ask(seller)
        report = bring(client.reader, parse_wanted(str(piece.v2)), store, tmp_path / "spool", "job")
        expected = root if is_car else str(donor.add_bytes(data).to_v1())
        assert report.root == expected
        assert store.is_complete(parse_wanted(expected).cid)
        assert not list((tmp_path / "spool").iterdir())


def test_a_free_dag_costs_nothing(tmp_path: Path) -> None:
    donor, root, car = make_dag(tmp_path / "donor", SIZE)
    stored = closing(EmbeddedStore(tmp_path / "store"))
    with Seller() as seller, closing(donor), stored as store, Client(tmp_path) as client:
        seller.add_car(root, car, 0)
        client.ask(seller)
        report = bring(client.reader, parse_wanted(root), store, tmp_path / "spool", "job")
        assert (report.paid, client.purses) == (0, 0)
        assert store.is_complete(parse_wanted(root).cid)


class Index(Seller):
    """An index that names another provider."""

    addresses: tuple[str, ...] = ()

    def answer(self, handler) -> None:  # type: ignore[no-untyped-def]
        rows = [{"Schema": "peer", "Protocols": ["transport-piece-http"], "Addrs": list(self.addresses)}]
        reply(handler, 200, {}, json.dumps({"Providers": rows}).encode())


def test_strangers_of_an_index_are_not_asked_on_our_own_network(client: Client) -> None:
    with Seller() as seller, Index() as index:
        piece = seller.add_piece(make_bytes(5000), 0)
        port = seller.url.rpartition(":")[2]
        index.addresses = (f"/ip4/127.0.0.1/tcp/{port}/http", f"/dns4/localhost/tcp/{port}/http")
        client.index_urls = (index.url,)
        with pytest.raises(ContentUnavailable, match="not a public address"):
            client.get(piece)
        assert not seller.asked
        local = replace(client.reader, market=replace(client.reader.market, is_local=True))
        local.bring_piece(parse_wanted(str(piece.v2)), client.path)
        assert client.path.exists(), "but on a local chain they are"


def test_an_empty_piece_and_one_of_a_whole_chunk(client: Client) -> None:
    with Seller() as seller:
        client.ask(seller)
        for size in (1, CHUNK, 2 * CHUNK):
            data = make_bytes(size, size)
            piece: PieceCid = seller.add_piece(data, PRICE)
            client.get(piece)
            assert client.path.read_bytes() == data
            client.path.unlink()
        assert client.charged == 1 + 3 * CHUNK
