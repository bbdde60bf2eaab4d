"""Every line of "Bad input" of the design, with what was signed and what a provider could be paid.

`redeemable` is what a provider got into its hands, `signed` all that left the key, `charged` what the ledger counts as
spent. A base unit is a byte here. What a liar can get is one chunk's price, and a ban.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.adversarial import lying_seller as liars
from tests.adversarial.buying import ACCOUNT, CAP, CHUNK, PRICE, Client, create_ledger, make_bytes
from tests.adversarial.selling import OPERATOR, FixedRails, Seller
from tests.conftest import ROOT

from quorate.filecoin.ledger import LedgerBusy, LedgerDamaged, LedgerFull, LedgerLost
from quorate.filecoin.payments import Voucher, VoucherProblem, VoucherRefused, check_voucher
from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.retrieval.dags import bring
from quorate.filecoin.retrieval.paying import TooLittleMoney
from quorate.filecoin.retrieval.transport import Pace
from quorate.filecoin.retrieval.wanted import of_piece, parse_wanted
from quorate.filecoin.spending import Currency, Purpose, Scope, ScopeKind, SpendingLimitExceeded, Target
from quorate.protocol.errors import ChainUnavailable, ContentUnavailable, QuorateError
from quorate.storage.embedded import EmbeddedStore

SIZE = 3 * CHUNK + 1000
DATA = make_bytes(SIZE)
OTHER = "0x" + "99" * 20


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    create_ledger(tmp_path)
    with Client(tmp_path) as made:
        yield made


def refuse(client: Client, seller: Seller, match: str, data: bytes = DATA) -> PieceCid:
    """Retrieval fails for a reason; nothing is at its place."""
    piece = seller.add_piece(data, PRICE)
    client.ask(seller)
    with pytest.raises(ContentUnavailable, match=match):
        client.get(piece)
    assert not client.path.exists()
    return piece


def check_unpaid(client: Client, seller: Seller) -> None:
    """Nothing was signed, and nothing could be paid."""
    assert (client.signer.signed, client.charged, seller.redeemable) == (0, 0, 0)
    assert not any(each.is_paid for each in seller.asked)


def check_one_chunk_lost(client: Client, seller: Seller) -> None:
    """One chunk came and was paid for; a second one's price went to the liar, which is asked no more."""
    assert client.charged == client.signer.signed == seller.redeemable == 2 * CHUNK
    assert client.is_banned
    before = len(seller.asked)
    with pytest.raises(ContentUnavailable, match="banned"):
        client.get(PieceCid.parse(seller.asked[0].path.split("/")[2]))
    assert len(seller.asked) == before, "nobody asks it anything"
    assert client.charged == 2 * CHUNK


# offers ---------------------------------------------------------------------------------------------------------------


def edit(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Change an offer's fields; those of `extra` by extra_NAME."""

    def apply(offer: dict[str, Any]) -> None:
        for name, value in changes.items():
            if name.startswith("extra_"):
                offer["extra"][name.removeprefix("extra_")] = value
            else:
                offer[name] = value

    return apply


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (edit(network="eip155:314"), "network.*31415926 is expected"),
        (edit(asset=OTHER), "asset.*is expected"),
        (edit(extra_pay=OTHER), "pay.*is expected"),
        (edit(extra_operator=OTHER), "operator.*is expected"),
        (edit(payTo=OTHER), "termsHash"),
        (edit(extra_expires=1), "expires"),
        (edit(extra_size=SIZE + 1), "amount|size"),
        (edit(amount="-5"), "amount"),
        (edit(amount="0.5"), "amount"),
        (edit(amount="1e6"), "amount"),
        (edit(amount=str(2**256)), "amount"),
        (edit(amount="9" * 400), "amount"),
        (edit(amount=5), "amount"),
        (edit(amount="007"), "amount"),
        (edit(extra_pricePerMib=str(2**255)), "amount"),
        (edit(scheme="upto"), "no way to pay"),
    ],
)
def test_an_offer_that_is_wrong_is_not_paid(
    client: Client, change: Callable[[dict[str, Any]], None], match: str
) -> None:
    with liars.Editing(change) as seller:
        refuse(client, seller, match)
        check_unpaid(client, seller)


def test_a_provider_is_paid_at_the_account_that_its_operator_named(client: Client) -> None:
    with Seller() as seller:
        piece = seller.add_piece(DATA, PRICE)
        client.book.add(seller.url, OTHER)
        with pytest.raises(ContentUnavailable, match="payTo"):
            client.get(piece)
        check_unpaid(client, seller)
        client.book.add(seller.url, seller.payee)
        assert client.get(piece).paid == SIZE


def test_a_price_above_the_ceiling_is_not_paid(client: Client) -> None:
    client.max_per_mib = PRICE // 2
    with Seller() as seller:
        refuse(client, seller, "ceiling")
        check_unpaid(client, seller)


@pytest.mark.parametrize(
    "garble",
    [
        lambda header: header[:-1],
        lambda header: header.replace("A", "-", 1),
        lambda header: header + "=",
        lambda header: "",
        lambda header: base64.b64encode(b"[]").decode(),
        lambda header: base64.b64encode(b'{"x402Version":2').decode(),
        lambda header: base64.b64encode(b'{"x402Version":1,"accepts":[]}').decode(),
        lambda header: "A" * 60_000,
    ],
)
def test_malformed_headers_are_not_paid(client: Client, garble: Callable[[str], str]) -> None:
    with liars.Garbled(garble) as seller:
        refuse(client, seller, "nobody serves")
        check_unpaid(client, seller)


def test_an_offer_for_something_else_is_not_paid(client: Client) -> None:
    with liars.Swapped() as seller:
        refuse(client, seller, "resource.url")
        check_unpaid(client, seller)


def test_wrong_nodes_are_noticed_before_anything_is_paid(client: Client) -> None:
    with liars.WrongNodes() as seller:
        refuse(client, seller, "nodes")
        check_unpaid(client, seller)
        assert client.is_banned


# in mid-stream --------------------------------------------------------------------------------------------------------


def flip(body: bytes) -> bytes:
    return body[:777] + bytes((body[777] ^ 1,)) + body[778:]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (liars.Raising, "changes its offer in mid-stream"),
        (liars.Refusing, "does not take the payment"),
        (lambda: liars.Answering(404), "answered 404"),
        (lambda: liars.Answering(410), "answered 410"),
        (lambda: liars.Answering(500), "answered 500"),
        (lambda: liars.Answering(200), "answered 200"),
        (lambda: liars.Answering(302, {"Location": "http://127.0.0.1:1/"}), "took the payment and redirects"),
        (lambda: liars.Sending(flip), "is not what"),
        (lambda: liars.Sending(lambda body: bytes(len(body))), "is not what"),
        (lambda: liars.Sending(lambda body: make_bytes(len(body), 99)), "is not what"),
        (lambda: liars.Sending(lambda body: body[:5000]), "cut off after 5000"),
        (lambda: liars.Sending(lambda body: b""), "cut"),
        (lambda: liars.Stalling(4.0), "sent nothing for"),
        (lambda: liars.Stalling(2.0, is_dripping=True), "bytes a second"),
    ],
)  # fmt: skip
def test_who_breaks_its_word_gets_one_chunk_and_a_ban(client: Client, make: Callable[[], Seller], match: str) -> None:
    with make() as seller:
        if isinstance(seller, liars.Stalling):
            client.pace = Pace(connect_s=5.0, stall_s=1.0)
        refuse(client, seller, match)
        check_one_chunk_lost(client, seller)


def test_the_honest_gives_the_rest_after_the_liar(client: Client) -> None:
    with liars.Sending(flip) as liar, Seller(payee="0x" + "55" * 20) as honest:
        piece = liar.add_piece(DATA, PRICE)
        honest.add_piece(DATA, 2 * PRICE)
        client.ask(liar, honest)
        report = client.get(piece)
        assert client.path.read_bytes() == DATA
        assert (liar.redeemable, honest.redeemable) == (2 * CHUNK, 2 * (SIZE - CHUNK))
        assert report.paid == client.charged == liar.redeemable + honest.redeemable
        assert {ban.name for ban in client.book.bans()} == {liar.url, liar.payee}


def test_a_liar_under_another_name_is_known_by_its_account(client: Client) -> None:
    with liars.Sending(flip) as liar, Seller(payee=liar.payee) as renamed:
        piece = liar.add_piece(DATA, PRICE)
        renamed.add_piece(DATA, PRICE)
        client.ask(liar)
        with pytest.raises(ContentUnavailable):
            client.get(piece)
        client.ask(renamed)
        with pytest.raises(ContentUnavailable, match=f"paid at {liar.payee}, which is banned"):
            client.get(piece)
        assert renamed.redeemable == 0


def test_a_stranger_that_lies_does_not_get_an_honest_providers_account_banned(client: Client) -> None:
    """It asks to be paid there, less than the honest one, and sends rubbish."""
    with liars.Sending(flip) as liar, Seller() as honest, Seller() as renamed:
        assert liar.payee == honest.payee == renamed.payee
        piece, other = honest.add_piece(DATA, PRICE), honest.add_piece(DATA[1:], PRICE)
        liar.add_piece(DATA, PRICE // 2)
        renamed.add_piece(DATA[1:], PRICE // 2)
        client.ask(honest)
        reader = replace(client.reader, market=replace(client.reader.market, is_local=True))
        reader.bring_piece(of_piece(piece), client.path, strangers=[liar.url])
        assert {ban.name for ban in client.book.bans()} == {liar.url, liar.payee}
        report = reader.bring_piece(of_piece(other), client.path, strangers=[renamed.url])
        assert report.providers == [honest.url]
        assert any("paid at" in reason and "banned" in reason for _, reason in report.rejected), "no other stranger is"
        assert renamed.redeemable == 0


def test_terms_that_end_in_mid_transfer_cost_nobody_anything(client: Client) -> None:
    """No voucher is signed that an honest provider has to refuse, and it is not banned for that."""
    with Seller() as seller:
        piece, ended = seller.add_piece(DATA, PRICE), list[float]()
        client.ask(seller)
        market = replace(client.reader.market, clock=lambda: ended[0] if ended else time.time())
        reader = replace(client.reader, market=market)
        with pytest.raises(ContentUnavailable, match="ended meanwhile"):
            reader.bring_piece(of_piece(piece), client.path, check=lambda chunk: ended.append(2.0**40))
        assert client.signer.signed == client.charged == seller.redeemable == CHUNK
        assert not client.is_banned
        client.get(piece)
        assert client.path.read_bytes() == DATA
        assert client.charged == seller.redeemable == SIZE


def test_a_car_that_is_not_the_dag_costs_one_chunk(client: Client, tmp_path: Path) -> None:
    with (
        liars.ForeignCar() as seller, closing(EmbeddedStore(tmp_path / "store")) as store,
        closing(EmbeddedStore(tmp_path / "donor")) as donor,
    ):  # fmt: skip
        wanted = str(donor.add_tree({"a": make_bytes(SIZE, 5)}).to_v1())
        other = donor.add_tree({"a": make_bytes(SIZE, 6)})
        seller.add_car(wanted, b"".join(donor.export_car(other)), PRICE)
        client.ask(seller)
        with pytest.raises(ContentUnavailable, match="CAR"):
            bring(client.reader, parse_wanted(wanted), store, tmp_path / "spool", "job")
        assert client.signer.signed == seller.redeemable == CHUNK
        assert client.is_banned


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:1/piece/x", "http://198.51.100.7/", "http://[::1]/", "//host/", ""]
)
def test_redirects_elsewhere_are_refused(client: Client, target: str) -> None:
    with liars.Redirecting(target) as seller:
        refuse(client, seller, "redirects to")
        check_unpaid(client, seller)


def test_a_redirect_to_another_port_of_loopback_is_not_followed(client: Client) -> None:
    with Seller() as inner, liars.Redirecting(inner.url + "/secret") as seller:
        refuse(client, seller, "which nobody named")
        assert not inner.asked


# processes that die ---------------------------------------------------------------------------------------------------


def run_reader(folder: Path, name: str, piece: PieceCid, step: str, count: int) -> subprocess.Popen[str]:
    words = [str(folder), name, str(piece.v2), step, str(count)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "client", ROOT / "node")))}
    command = [sys.executable, "-m", "tests.adversarial.killed_reader", *words]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("step", "count"), [("reserved", 1), ("signed", 1), ("signed", 3), ("verified", 2), ("settled", 1), ("whole", 1)]
)
def test_a_killed_reader_pays_nothing_twice(client: Client, step: str, count: int) -> None:
    with Seller() as seller:
        piece = seller.add_piece(DATA, PRICE)
        client.ask(seller)
        assert run_reader(client.folder, "piece", piece, step, count).wait(60) == -signal.SIGKILL
        assert not client.path.exists()
        assert seller.redeemable <= client.charged <= SIZE, "what it may have signed counts as spent"
        client.get(piece)
        assert client.path.read_bytes() == DATA
        assert client.charged == seller.redeemable == SIZE
        assert not client.ledger.list_open()


def test_many_processes_share_one_limit(tmp_path: Path) -> None:
    pieces, most = 4, 2 * SIZE + 100
    create_ledger(tmp_path, most)
    with Seller() as seller, Client(tmp_path) as client:
        found = [seller.add_piece(make_bytes(SIZE, 100 + each), PRICE) for each in range(pieces)]
        client.ask(seller)
        running = [run_reader(tmp_path, str(at + 1), piece, "never", 1) for at, piece in enumerate(found)]
        codes = sorted(process.wait(120) for process in running)
        assert codes == [0, 0, 2, 2]
        assert seller.redeemable == client.charged == 2 * SIZE <= most


# the ledger -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stocked(client: Client) -> Iterator[tuple[Client, Seller, PieceCid]]:
    with Seller() as seller:
        piece = seller.add_piece(DATA, PRICE)
        client.ask(seller)
        yield client, seller, piece


def check_unsigned(client: Client, seller: Seller) -> None:
    assert (client.signer.signed, seller.redeemable) == (0, 0)
    assert not client.path.exists()


def check_closed(client: Client, seller: Seller, piece: PieceCid, error: type[QuorateError]) -> None:
    with pytest.raises(error):
        client.get(piece)
    check_unsigned(client, seller)


def test_a_locked_ledger_signs_nothing(stocked: tuple[Client, Seller, PieceCid]) -> None:
    client, seller, piece = stocked
    with closing(sqlite3.connect(client.folder / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        check_closed(client, seller, piece, LedgerBusy)
        other.execute("ROLLBACK")
    assert client.get(piece).paid == SIZE


def test_a_full_disk_signs_nothing(stocked: tuple[Client, Seller, PieceCid]) -> None:
    client, seller, piece = stocked
    pages = client.ledger._db.execute("PRAGMA page_count").fetchone()[0]
    client.ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    number = 100
    with contextlib.suppress(LedgerFull):
        while number < 1000:  # until the last page is full
            number += 1
            target = Target(client.ledger.currency, seller.payee, OPERATOR, number)
            client.ledger.reserve(Purpose(str(number), str(piece.v2), seller.url), target, 1)
    assert number < 1000
    with pytest.raises(LedgerFull):
        client.get(piece)
    check_unsigned(client, seller)


def test_a_damaged_or_lost_ledger_signs_nothing(stocked: tuple[Client, Seller, PieceCid]) -> None:
    client, seller, piece = stocked
    path = client.folder / "ledger.db"
    client.ledger.close()
    client._ledger = None
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    check_closed(client, seller, piece, LedgerDamaged)
    path.unlink()
    check_closed(client, seller, piece, LedgerLost)


# vouchers -------------------------------------------------------------------------------------------------------------


def test_a_voucher_is_worth_nothing_elsewhere(stocked: tuple[Client, Seller, PieceCid]) -> None:
    """Replayed, stale, for another rail, for other terms, on another chain: each is refused, with the reason."""
    client, seller, piece = stocked
    client.get(piece)
    signed = client.signer.vouchers[-1]
    voucher, currency = signed.voucher, client.ledger.currency
    here = Target(currency, seller.payee, OPERATOR, voucher.rail_id)
    elsewhere = Target(Currency(314, currency.token), seller.payee, OPERATOR, voucher.rail_id)
    cases = [
        (here, voucher.cumulative, voucher.terms_hash, VoucherProblem.STALE),
        (here, voucher.cumulative + 1, voucher.terms_hash, VoucherProblem.STALE),
        (Target(currency, OTHER, OPERATOR, 77), 0, voucher.terms_hash, VoucherProblem.FOREIGN_RAIL),
        (here, 0, bytes(32), VoucherProblem.FOREIGN_TERMS),
        (elsewhere, 0, voucher.terms_hash, VoucherProblem.SIGNATURE),
        (Target(currency, seller.payee, OTHER, voucher.rail_id), 0, voucher.terms_hash, VoucherProblem.SIGNATURE),
    ]
    assert isinstance(voucher, Voucher)
    for target, taken, terms, problem in cases:
        with pytest.raises(VoucherRefused) as refused:
            check_voucher(signed, target, ACCOUNT.address, terms, taken, 1, CAP)
        assert refused.value.problem is problem
    assert check_voucher(signed, here, ACCOUNT.address, voucher.terms_hash, 0, SIZE, CAP) == SIZE


# while it goes on -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["signed", "verified"])
def test_a_limit_that_is_revoked_in_mid_transfer_stops_it(tmp_path: Path, step: str) -> None:
    create_ledger(tmp_path)
    size, seen = 12 * CHUNK, 0

    def revoke(reached: str) -> None:
        nonlocal seen
        seen += reached == step
        if seen == 2 and reached == step:
            client.ledger.revoke()

    with Seller() as seller, Client(tmp_path, on_step=revoke) as client:
        data = make_bytes(size, 8)
        piece = seller.add_piece(data, PRICE)
        client.ask(seller)
        with pytest.raises(SpendingLimitExceeded, match="total"):
            client.get(piece)
        paid = client.charged
        assert paid == client.signer.signed == seller.redeemable
        assert paid < size, "nothing was signed for what had not been noted before"
        client.ledger.set_cap(Scope(ScopeKind.TOTAL), size)
        client.get(piece)
        assert client.path.read_bytes() == data
        assert client.charged == seller.redeemable == size, "what came before was not paid again"


@pytest.mark.parametrize(
    "problem", [ChainUnavailable("http://127.0.0.1:1 does not answer"), TooLittleMoney("deposit 5 more")]
)
def test_without_the_chain_or_without_money_nothing_is_signed(client: Client, problem: QuorateError) -> None:
    client.rails = FixedRails(CAP, problem=problem)
    with Seller() as seller:
        piece = seller.add_piece(DATA, PRICE)
        client.ask(seller)
        with pytest.raises(type(problem)):
            client.get(piece)
        check_unpaid(client, seller)
        assert not client.ledger.list_open()


def test_a_rail_that_holds_too_little_is_not_promised_more(client: Client) -> None:
    client.rails = FixedRails(SIZE - 1)
    with Seller() as seller:
        piece = seller.add_piece(DATA, PRICE)
        client.ask(seller)
        with pytest.raises(TooLittleMoney, match=f"{SIZE} base units are needed"):
            client.get(piece)
        check_unpaid(client, seller)
