"""What the shipped provider takes and refuses, and what becomes of it on the chain: vouchers and single payments."""

from __future__ import annotations

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.providing import FUNDS, PRICE, Buyer, Provider, find, make_account, url_of

from quorate.chain.account import SigningAccount
from quorate.chain.types import to_hex
from quorate.devnet.filecoin import FilecoinDevnet
from quorate.filecoin import rails, x402
from quorate.filecoin.pay import PayChain
from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.piecetree import CHUNK_BYTES, ChunkVerifier
from quorate.filecoin.spending import Target
from quorate.filecoin.terms import ExactOffer, Terms, VoucherOffer
from quorate.filecoin.x402 import VoucherPayment
from quorate.storage.cid import DAG_CBOR, Cid
from quorate_node.filecoin.provider.desk import MAX_REPEATS, Desk, Shop
from quorate_node.filecoin.provider.offers import Seller
from quorate_node.filecoin.provider.railbook import PaymentRefused, RailBook
from quorate_node.filecoin.provider.service import read_domain
from quorate_node.filecoin.provider.till import SingleState, Till

# vouchers -------------------------------------------------------------------------------------------------------------


def test_a_piece_is_paid_chunk_by_chunk_and_redeemed_to_the_unit(
    tmp_path: Path, devnet: FilecoinDevnet, buyer: Buyer, raw: Path
) -> None:
    key = make_account(devnet, 0)
    with Provider(tmp_path / "home", devnet.network_file, key) as provider:
        piece = PieceCid.parse(provider.add(raw, PRICE, is_piece=True)["piece"])
        url = f"{provider.start().url}/piece/{piece.v2}"
        rail = buyer.open_rail(key, 10_000)
        offer = buyer.get_voucher_offer(url)
        verifier = ChunkVerifier(piece, buyer.client.get(f"{url}/nodes").content)
        terms = offer.get_terms(str(piece.v2))
        up_to, got = 0, b""
        for index in range(verifier.count):
            up_to += terms.price_chunk(index)
            answer = buyer.get_chunk(url, buyer.sign(offer, rail, up_to), index, piece.size_bytes)
            assert answer.status_code == 206, answer.text
            verifier.verify(index, answer.content)
            got += answer.content
        assert got == raw.read_bytes()
        assert up_to == offer.amount
        sums = provider.describe()["sums"]
        assert sums == {"taken": str(up_to), "delivered": str(up_to), "redeemed": "0", "owed": str(up_to), "lost": "0"}
        assert provider.stop() == 0
        assert provider.describe()["sums"]["redeemed"] == str(up_to)
        assert buyer.chain.rail(rail).redeemed == up_to
        assert buyer.chain.balances(key.address).deposited == up_to - rails.compute_fee(up_to)


def test_what_is_paid_stays_paid_across_kill_and_start(
    tmp_path: Path, devnet: FilecoinDevnet, key: SigningAccount, buyer: Buyer, raw: Path
) -> None:
    with Provider(tmp_path / "home", devnet.network_file, key) as provider:
        piece = provider.add(raw, PRICE, is_piece=True)["piece"]
        url = f"{provider.start().url}/piece/{piece}"
        rail, offer = buyer.open_rail(key, 5000), buyer.get_voucher_offer(url)
        first = buyer.sign(offer, rail, 993)
        data = buyer.get_chunk(url, first, 0, offer.size).content
        provider.kill()
        provider.set_price(piece, 10 * PRICE)  # and raised meanwhile
        url = f"{provider.start().url}/piece/{piece}"
        again = buyer.get_chunk(url, first, 0, offer.size)
        assert (again.status_code, again.content) == (206, data)
        assert provider.describe()["sums"]["taken"] == "993"
        more = buyer.get_chunk(url, first, 1, offer.size)
        assert (more.status_code, "1986 is needed" in more.json()["error"]) == (402, True)
        second = buyer.get_chunk(url, buyer.sign(offer, rail, 1986), 1, offer.size)  # the terms that were begun hold
        assert second.status_code == 206
        assert buyer.get_voucher_offer(url).price_per_mib == 10 * PRICE


def test_a_larger_voucher_is_credit(provider: Provider, buyer: Buyer, key: SigningAccount, raw: Path) -> None:
    url = url_of(provider, raw)
    rail, offer = buyer.open_rail(key, 5000), buyer.get_voucher_offer(url)
    large = buyer.sign(offer, rail, 2000)
    assert [buyer.get_chunk(url, large, index, offer.size).status_code for index in (0, 1, 2)] == [206, 206, 402]
    account = next(each for each in provider.describe()["rails"] if each["rail"].endswith(f":{rail}"))
    assert (account["taken"], account["delivered"]) == ("2000", "1986")


def test_vouchers_that_are_not_taken(
    provider: Provider, devnet: FilecoinDevnet, buyer: Buyer, key: SigningAccount, raw: Path
) -> None:
    """Each is told why; what was sent and what is redeemable stays as it was."""
    url = url_of(provider, raw)
    offer, rail = buyer.get_voucher_offer(url), buyer.open_rail(key, 2500)
    thief = make_account(devnet, FUNDS)
    elsewhere = buyer.open_rail(thief, 5000)
    poor = buyer.open_rail(key, 500)
    closed = buyer.open_rail(key, 5000)
    rails.close_rail(buyer.chain, buyer.account, closed)
    piece = find(provider, raw)["piece"]
    cheap = make_offer(offer, piece, price_per_mib=1)
    late = make_offer(offer, piece, expires=offer.expires + 12 * 3600)
    small = make_offer(offer, piece, size=offer.size - 1000)
    assert buyer.get_chunk(url, buyer.sign(offer, rail, 993), 0, offer.size).status_code == 206
    wrong = {
        "1986 is needed": buyer.sign(offer, rail, 993),
        "and 1986 is needed: 993 were delivered": buyer.sign(offer, rail, 1985),
        "insufficient lockup": buyer.sign(offer, rail, 2501),
        "insufficient lockup: the rail can pay 500": buyer.sign(offer, poor, 993),
        "not this provider": buyer.sign(offer, elsewhere, 5000),
        "did not sign it": buyer.sign(offer, rail, 1986, by=thief),
        "not for this chain": buyer.sign(offer, rail, 1986, chain_id=314),
        "and contract": buyer.sign(offer, rail, 1986, operator=buyer.chain.contracts.pay),
        "none of the operator contract's": buyer.sign(offer, 10**9, 1986),
        "was closed": buyer.sign(offer, closed, 993),
        "the price is 1000": buyer.sign(cheap, rail, 1986),
        "their end is another": buyer.sign(late, rail, 1986),
        "the piece has": buyer.sign(small, rail, 1986),
        "payload.voucher.cumulative": change_voucher(buyer.sign(offer, rail, 1986)),
    }
    found = {}
    for reason, header in wrong.items():
        answer = buyer.get_chunk(url, header, 1, offer.size)
        assert answer.status_code == 402
        assert x402.parse_required(answer.headers[x402.REQUIRED]).offers
        found[reason] = reason in answer.json()["error"] or answer.json()["error"]
    assert found == dict.fromkeys(wrong, True)
    stranger = buyer.get_chunk(url, buyer.sign(offer, rail, 993, by=thief), 0, offer.size)
    assert stranger.status_code == 402  # paid by another
    account = next(each for each in provider.describe()["rails"] if each["rail"].endswith(f":{rail}"))
    assert (account["taken"], account["delivered"]) == ("993", "993")


def make_offer(offer: VoucherOffer, piece: str, **changes: Any) -> VoucherOffer:
    """An offer that was never made, with the hash that it would have."""
    made = replace(offer, **changes)
    named = (made.currency, made.payee, made.pay, made.operator, made.price_per_mib)
    return VoucherOffer.of(Terms(*named, piece, made.size, made.expires), made.timeout_s)


def change_voucher(header: str) -> str:
    """Another sum under the same signature, in a spelling that is not canonical."""
    payment = x402.parse_payment(header)
    assert isinstance(payment, VoucherPayment)
    values = json.loads(base64.b64decode(header))
    values["payload"]["voucher"]["cumulative"] = "01986"
    return base64.b64encode(json.dumps(values).encode()).decode()


def test_blocks_below_a_paid_root_are_not_free(provider: Provider, buyer: Buyer, tiles: Path) -> None:
    """Each way to a byte of the paid folder costs; what is given away elsewhere is free by its own name."""
    root = find(provider, tiles)["root"]
    piece = find(provider, tiles)["piece"]
    leaf = Cid.of((tiles / "one").read_bytes()[: 1 << 20])
    small = Cid.of((tiles / "far" / "small.txt").read_bytes())
    for path in (
        f"{root}?format=raw",
        f"{root}?format=car",
        f"{root}/one?format=car&dag-scope=block",
        f"{root}/far/small.txt?format=raw",
        f"{leaf}?format=raw",
        f"{leaf}?format=car",
        f"{root}/one?format=car&entity-bytes=0:99",
    ):
        answer = buyer.client.get(f"{provider.url}/ipfs/{path}")
        assert answer.status_code == 402, path
        exact = x402.parse_required(answer.headers[x402.REQUIRED]).exact
        assert exact is not None
        assert exact.amount == -(-(exact.size or 0) * PRICE // 2**20)
        assert buyer.client.head(f"{provider.url}/ipfs/{path}").status_code == 402
    assert buyer.client.get(f"{provider.url}/ipfs/{small}?format=raw").status_code == 200
    assert buyer.client.get(f"{provider.url}/ipfs/{root}/none?format=car").status_code == 404
    hint = buyer.get_voucher_offer(f"{provider.url}/ipfs/{root}?format=car").piece
    assert hint == piece
    assert buyer.get_voucher_offer(f"{provider.url}/piece/{piece}").piece == ""


def test_ranges_over_chunk_edges_and_none_are_not_sold_by_voucher(
    provider: Provider, buyer: Buyer, key: SigningAccount, raw: Path
) -> None:
    url = url_of(provider, raw)
    offer, rail = buyer.get_voucher_offer(url), buyer.open_rail(key, 5000)
    header = buyer.sign(offer, rail, 3000)
    for span in (None, "bytes=0-1040384", "bytes=-1200000", "bytes=1040383-1040384", "bytes=0-1,5-6"):
        answer = buyer.client.get(url, headers={x402.SIGNATURE: header} | ({"Range": span} if span else {}))
        assert (answer.status_code, "within one" in answer.json()["error"]) == (402, True)
    inner = buyer.client.get(url, headers={x402.SIGNATURE: header, "Range": "bytes=1040384-1040390"})
    assert (inner.status_code, inner.content) == (206, raw.read_bytes()[1040384:1040391])
    assert buyer.client.head(url, headers={x402.SIGNATURE: header}).status_code == 402
    account = next(each for each in provider.describe()["rails"] if each["rail"].endswith(f":{rail}"))
    assert account["delivered"] == "993"


def test_two_readers_on_one_rail_get_no_more_than_was_paid(
    provider: Provider, buyer: Buyer, key: SigningAccount, raw: Path, tiles: Path
) -> None:
    urls = [url_of(provider, raw), url_of(provider, tiles)]
    offers = [buyer.get_voucher_offer(url) for url in urls]
    rail = buyer.open_rail(key, 5000)

    def read(number: int) -> tuple[int, str]:
        with httpx.Client(timeout=60) as client:
            one = replace(buyer, client=client)
            answer = one.get_chunk(urls[number], one.sign(offers[number], rail, 993), 0, offers[number].size)
            return answer.status_code, answer.json()["error"] if answer.status_code == 402 else ""

    with ThreadPoolExecutor(2) as pool:
        (one, why), (two, why_two) = pool.map(read, (0, 1))
    assert sorted((one, two)) == [206, 402]
    assert "993 were delivered" in why + why_two


def test_a_rail_that_its_reader_closes_is_redeemed_before_its_end(
    tmp_path: Path, devnet: FilecoinDevnet, buyer: Buyer, raw: Path
) -> None:
    key = make_account(devnet, 0)
    with Provider(tmp_path / "home", devnet.network_file, key) as provider:
        piece = provider.add(raw, PRICE, is_piece=True)["piece"]
        url = f"{provider.start('--watch-every', '0.2').url}/piece/{piece}"
        rail, offer = buyer.open_rail(key, 5000), buyer.get_voucher_offer(url)
        assert buyer.get_chunk(url, buyer.sign(offer, rail, 993), 0, offer.size).status_code == 206
        rails.close_rail(buyer.chain, buyer.account, rail)
        until = time.monotonic() + 30
        while provider.describe()["sums"]["redeemed"] != "993":
            assert time.monotonic() < until, provider.describe()
            time.sleep(0.1)
        assert buyer.chain.rail(rail).redeemed == 993
        assert provider.stop() == 0


def test_a_chunk_is_sent_again_for_who_lost_it_and_not_for_everybody(
    provider: Provider, buyer: Buyer, key: SigningAccount, raw: Path
) -> None:
    """A redeemed voucher is in a transaction for everybody to copy: it must not give a dataset to the world."""
    url = url_of(provider, raw)
    offer, rail = buyer.get_voucher_offer(url), buyer.open_rail(key, 5000)
    price = offer.get_terms(url.rpartition("/")[2]).price_chunk(2)
    copied = buyer.sign(offer, rail, price)
    answers = [buyer.get_chunk(url, copied, 2, offer.size) for _ in range(1 + MAX_REPEATS)]
    assert {answer.content for answer in answers} == {raw.read_bytes()[2 * CHUNK_BYTES :]}
    often = buyer.get_chunk(url, copied, 2, offer.size)
    assert (often.status_code, "often enough" in often.json()["error"]) == (402, True)
    assert buyer.get_chunk(url, buyer.sign(offer, rail, 2 * price), 2, offer.size).status_code == 206  # paid anew
    assert buyer.get_chunk(url, copied, 2, offer.size).status_code == 206


def test_bytes_that_are_given_away_do_not_open_what_is_sold(
    provider: Provider, buyer: Buyer, tiles: Path, tmp_path: Path
) -> None:
    """Bytes of somebody else's free file that are a list of links, if they are read as one."""
    root = Cid.parse(find(provider, tiles)["root"])
    links = b"\x81\xd8\x2a\x58\x25\x00" + root.to_v1().to_bytes()
    path = tmp_path / "note.txt"
    path.write_bytes(links)
    provider.add(path)
    free, alias = Cid.of(links), Cid.of(links, DAG_CBOR)
    assert buyer.client.get(f"{provider.url}/ipfs/{free}?format=raw").content == links
    for query in ("format=car", "format=car&dag-scope=block", "format=raw"):
        assert buyer.client.get(f"{provider.url}/ipfs/{alias}?{query}").status_code == 404
    assert buyer.client.get(f"{provider.url}/ipfs/{alias}/0/one?format=car").status_code == 404


# single payments ------------------------------------------------------------------------------------------------------


def get_exact(buyer: Buyer, url: str) -> ExactOffer:
    offer = buyer.quote(url).exact
    assert offer is not None
    return offer


def get_now(buyer: Buyer) -> int:
    return max(buyer.chain.head().timestamp, int(time.time()))


def test_one_payment_buys_one_resource(provider: Provider, buyer: Buyer, key: SigningAccount, tiles: Path) -> None:
    root = find(provider, tiles)["root"]
    url = f"{provider.url}/ipfs/{root}/two?format=car&dag-scope=entity"
    offer = get_exact(buyer, url)
    before = buyer.chain.balances(key.address).tokens
    payment = buyer.sign_single(offer, b"\x01" * 32, get_now(buyer) + 60)
    answer = buyer.pay_single(url, payment)
    assert (answer.status_code, len(answer.content)) == (200, offer.size)
    settled = x402.parse_settlement(answer.headers[x402.RESPONSE])
    assert settled.is_success
    assert buyer.chain.wait(settled.transaction).find("Transfer").fields["value"] == offer.amount
    again = buyer.pay_single(url, payment)  # a reader whose connection was cut
    assert (again.content, again.headers[x402.RESPONSE]) == (answer.content, answer.headers[x402.RESPONSE])
    assert buyer.chain.balances(key.address).tokens == before + offer.amount
    assert buyer.pay_single(url, payment).status_code == 200
    often = buyer.pay_single(url, payment)
    assert (often.status_code, "often enough" in often.json()["error"]) == (402, True)
    other = buyer.pay_single(f"{provider.url}/ipfs/{root}/one?format=car&dag-scope=entity", payment)
    assert (other.status_code, "another resource" in other.json()["error"]) == (402, True)


def test_a_small_piece_is_sold_whole_and_in_ranges(provider: Provider, buyer: Buyer, raw: Path) -> None:
    url, data = url_of(provider, raw), raw.read_bytes()
    offer = get_exact(buyer, url)
    payment = buyer.sign_single(offer, b"\x02" * 32, get_now(buyer) + 60)
    assert buyer.pay_single(url, payment, Range="bytes=0-99").content == data[:100]
    assert buyer.pay_single(url, payment, Range="bytes=100-").content == data[100:]
    assert buyer.pay_single(url, payment).content == data


def test_single_payments_that_are_not_taken(
    provider: Provider, devnet: FilecoinDevnet, buyer: Buyer, raw: Path
) -> None:
    url, now = url_of(provider, raw), get_now(buyer)
    offer, thief = get_exact(buyer, url), make_account(devnet, 0)
    foreign = replace(offer.currency, chain_id=314)
    poor = replace(buyer, account=thief)
    wrong = {
        "in one payment": buyer.sign_single(offer, b"\x10" * 32, now + 60, value=offer.amount - 1),
        "the price is": buyer.sign_single(offer, b"\x11" * 32, now + 60, claims={"amount": 1}, value=1),
        "ask for the offer again": buyer.sign_single(offer, b"\x12" * 32, now + 60, claims={"currency": foreign}),
        "too soon": buyer.sign_single(offer, b"\x13" * 32, now + 1),
        "its payer did not sign": buyer.sign_single(offer, b"\x14" * 32, now + 60, by=thief),
        "or not for this chain": buyer.sign_single(offer, b"\x15" * 32, now + 60, target=Target(foreign, offer.payee)),
        "insufficient funds": poor.sign_single(offer, b"\x16" * 32, now + 60),
    }
    found = {}
    for reason, payment in wrong.items():
        answer = buyer.pay_single(url, payment)
        assert answer.status_code == 402
        found[reason] = reason in answer.json()["error"] or answer.json()["error"]
    assert found == dict.fromkeys(wrong, True)
    used = buyer.sign_single(offer, b"\x17" * 32, now + 60)
    rails.transfer(buyer.chain, buyer.account, used.transfer)
    answer = buyer.pay_single(url, used)
    assert (answer.status_code, "was used" in answer.json()["error"]) == (402, True)
    assert provider.describe()["single_payments"]["pending"] == 0
    assert provider.describe()["single_payments"]["failed"] == 0


def test_a_nonce_that_its_payer_used_for_another_payment_buys_nothing(
    tmp_path: Path, devnet: FilecoinDevnet, chain: PayChain, key: SigningAccount
) -> None:
    """The payer is faster than the provider, with a payment to itself that has the same nonce."""
    payer = make_account(devnet, FUNDS)
    domain, contracts = read_domain(chain), chain.contracts
    assert domain is not None
    places = (to_hex(key.address), to_hex(contracts.pay), to_hex(contracts.operator))
    seller = Seller(contracts.currency, *places, domain)
    offer = seller.make_exact(10**6, PRICE)
    assert offer is not None
    with closing(Till(tmp_path / "till.db")) as till, httpx.Client() as client:
        buyer = Buyer(chain, payer, client)
        before = chain.balances(key.address).tokens
        desk = Desk(Shop(till, chain, RailBook(chain, key.address), seller, key))
        for number, value in enumerate((1, offer.amount)):
            nonce, ends = bytes((0x40 + number,)) * 32, get_now(buyer) + 60
            payment = buyer.sign_single(offer, nonce, ends)
            to_itself = buyer.sign_single(replace(offer, payee=to_hex(payer.address)), nonce, ends, value=value)
            till.begin_single(payment.transfer, "x", chain.head().number, get_now(buyer))
            rails.transfer(chain, payer, to_itself.transfer)
            with pytest.raises(PaymentRefused, match="another one"):
                desk.take_single(payment, offer, "x", 10**6)
        again = buyer.sign_single(offer, b"\x42" * 32, get_now(buyer) + 60)
        till.begin_single(again.transfer, "x", chain.head().number, get_now(buyer))
        rails.transfer(chain, payer, again.transfer)  # somebody else sent it: it is paid all the same
        assert desk.take_single(again, offer, "x", 10**6).is_success
        assert len(till.list_singles(SingleState.FAILED)) == 2
        assert chain.balances(key.address).tokens == before + offer.amount
