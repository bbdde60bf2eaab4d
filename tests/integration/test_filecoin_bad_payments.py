"""More of "Bad input" of the design: data that is paid in one shot, and a home whose chain or wallet cannot be reached.

As in `test_filecoin_bad_providers`: `signed` is all that left the key, `redeemable` what a provider could be paid.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.adversarial import lying_seller as liars
from tests.adversarial.buying import ACCOUNT, CHUNK, PRICE, Client, create_ledger, make_bytes
from tests.adversarial.selling import OPERATOR, PAY, Seller
from tests.integration.test_filecoin_bad_providers import OTHER, check_unpaid, edit, flip, refuse, run_reader

from quorate.chain.account import DEVNET_SCRYPT_N, save_keystore
from quorate.filecoin import wallet
from quorate.filecoin.networks import PaymentContracts, Settings
from quorate.filecoin.retrieval.opening import open_reader
from quorate.filecoin.retrieval.options import ReaderOptions
from quorate.filecoin.retrieval.transport import Pace
from quorate.filecoin.retrieval.wanted import of_piece
from quorate.protocol.errors import ChainUnavailable, ConfigurationError, ContentUnavailable, QuorateError
from quorate.protocol.types import Address

SMALL = make_bytes(5000, 41)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    create_ledger(tmp_path)
    with Client(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (edit(network="eip155:314"), "network.*31415926 is expected"),
        (edit(asset=OTHER), "asset.*is expected"),
        (edit(amount="-5"), "amount"),
        (edit(amount="0.5"), "amount"),
        (edit(amount=str(2**256)), "amount"),
        (edit(extra_size=CHUNK + 1), "size|amount"),
    ],
)
def test_a_wrong_offer_of_one_payment_is_not_paid(
    client: Client, change: Callable[[dict[str, Any]], None], match: str
) -> None:
    with liars.Editing(change, is_exact=True) as seller:
        refuse(client, seller, match, SMALL)
        check_unpaid(client, seller)


@pytest.mark.parametrize(
    "make",
    [
        lambda: liars.Answering(404),
        lambda: liars.Answering(302, {"Location": "http://127.0.0.1:1/"}),
        lambda: liars.Sending(flip),
        lambda: liars.Sending(lambda body: body[:999]),
        lambda: liars.Stalling(4.0),
    ],
)
def test_who_breaks_its_word_after_one_payment_gets_that_and_a_ban(client: Client, make: Callable[[], Any]) -> None:
    with make() as seller:
        seller.is_exact, seller.first = True, 0
        if isinstance(seller, liars.Stalling):
            client.pace = Pace(connect_s=5.0, stall_s=1.0)
        piece = refuse(client, seller, "127.0.0.1", SMALL)
        assert client.charged == client.signer.signed == seller.redeemable == len(SMALL) <= CHUNK
        assert len(client.signer.transfers) == 1, "shown again, it is the same payment"
        with pytest.raises(ContentUnavailable, match="banned"):
            client.get(piece)
        assert client.charged == len(SMALL)


@pytest.mark.parametrize(("step", "most"), [("reserved", 2), ("signed", 2), ("verified", 1), ("settled", 1)])
def test_a_reader_killed_with_one_payment_pays_once(client: Client, step: str, most: int) -> None:
    """What it may have signed, and nobody got, counts as spent until the chain or its expiry tells."""
    with Seller(is_exact=True) as seller:
        piece = seller.add_piece(SMALL, PRICE)
        client.ask(seller)
        assert run_reader(client.folder, "piece", piece, step, 1).wait(60) == -signal.SIGKILL
        assert seller.redeemable <= client.charged
        client.get(piece)
        assert client.path.read_bytes() == SMALL
        assert seller.redeemable == len(SMALL)
        assert client.charged == most * len(SMALL)


@pytest.mark.parametrize(("passphrase", "error"), [(b"pass", ChainUnavailable), (b"wrong", ConfigurationError)])
def test_with_a_dead_endpoint_or_a_wrong_passphrase_nothing_is_signed(
    client: Client, passphrase: bytes, error: type[QuorateError]
) -> None:
    """As a home is opened: with its wallet, and its network's file. Neither is the provider's fault."""
    addresses = [Address(bytes.fromhex(each[2:])) for each in (client.ledger.currency.token, PAY, OPERATOR)]
    contracts = PaymentContracts(client.ledger.currency.chain_id, *addresses)
    Settings("http://127.0.0.1:1", contracts).save(client.folder / "network.json")
    save_keystore(client.folder / "key.json", ACCOUNT, b"pass", DEVNET_SCRYPT_N)
    wallet.attach(client.folder, client.folder / "key.json", lambda is_new: b"pass")
    with Seller() as seller:
        piece = seller.add_piece(SMALL, PRICE)
        client.ask(seller)
        reader = open_reader(client.folder, ReaderOptions(), lambda file: passphrase)
        with pytest.raises(error, match=r"127\.0\.0\.1:1 |passphrase"):
            reader.bring_piece(of_piece(piece), client.path)
        check_unpaid(client, seller)
        assert (client.ledger.list_open(), client.ledger.list_receipts(), client.is_banned) == ([], [], False)
        assert client.get(piece).paid == len(SMALL), "with another's rails it is bought"
