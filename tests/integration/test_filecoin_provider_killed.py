"""A provider that is killed at any step: after its restart nothing was paid twice, and what was paid is not lost."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from tests.adversarial.killed_provider import STEPS
from tests.integration.providing import Buyer, Provider

from quorate.chain.account import SigningAccount
from quorate.devnet.filecoin import FilecoinDevnet
from quorate.filecoin import rails
from quorate.filecoin.piecetree import CHUNK_BYTES

PROGRAM = str(Path(__file__).parents[1] / "adversarial" / "killed_provider.py")
PRICE, FUNDS = 1000, 10**6


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilecoinDevnet]:
    with FilecoinDevnet(tmp_path_factory.mktemp("filecoin"), block_time_s=0.05, lockup_period=1200) as made:
        yield made


@pytest.fixture(scope="module")
def buyer(devnet: FilecoinDevnet) -> Iterator[Buyer]:
    account = SigningAccount.create()
    devnet.endow(account.address, 2 * FUNDS)
    with closing(devnet.connect()) as chain, httpx.Client(timeout=60) as client:
        rails.fund(chain, account, FUNDS)
        rails.allow(chain, account, FUNDS)
        yield Buyer(chain, account, client)


class Shop:
    """A provider with a key of its own that sells one piece; it is killed at a step, then started as it should be."""

    def __init__(self, folder: Path, devnet: FilecoinDevnet) -> None:
        self.data = hashlib.shake_128(b"piece").digest(2 * CHUNK_BYTES)
        (folder / "piece").write_bytes(self.data)
        self.key = SigningAccount.create()
        devnet.endow(self.key.address, 0)
        self.provider = Provider(folder / "home", devnet.network_file, self.key)
        self.piece = self.provider.add(folder / "piece", PRICE, is_piece=True)["piece"]

    def start(self, *program: str) -> str:
        """The piece's URL."""
        self.provider.start(program=program or ("-m", "quorate_node.cli.main"))
        return f"{self.provider.url}/piece/{self.piece}"


@pytest.fixture
def shop(tmp_path: Path, devnet: FilecoinDevnet) -> Iterator[Shop]:
    made = Shop(tmp_path, devnet)
    with made.provider:
        yield made


@pytest.mark.parametrize("step", [step for step in STEPS if "payment" not in step])
def test_a_voucher_is_worth_its_chunk_once(step: str, shop: Shop, buyer: Buyer) -> None:
    url = shop.start(PROGRAM, step)
    rail, offer = buyer.open_rail(shop.key, 5000), buyer.get_voucher_offer(url)
    header = buyer.sign(offer, rail, 993)
    if "redeemed" in step:
        assert buyer.get_chunk(url, header, 0, offer.size).status_code == 206
        assert shop.provider.stop() == -signal.SIGKILL
    else:
        with pytest.raises(httpx.TransportError):
            buyer.get_chunk(url, header, 0, offer.size)
        assert shop.provider.wait() == -signal.SIGKILL
    url = shop.start()
    again = buyer.get_chunk(url, header, 0, offer.size)
    assert (again.status_code, again.content) == (206, shop.data[:CHUNK_BYTES])
    assert buyer.get_chunk(url, header, 1, offer.size).status_code == 402
    assert shop.provider.stop() == 0
    sums = shop.provider.describe()["sums"]
    assert (sums["taken"], sums["delivered"], sums["redeemed"], sums["owed"]) == ("993", "993", "993", "0")
    assert buyer.chain.rail(rail).redeemed == 993
    assert buyer.chain.balances(shop.key.address).deposited == 993 - rails.compute_fee(993)


@pytest.mark.parametrize("step", [step for step in STEPS if "payment" in step])
def test_a_single_payment_is_made_once(step: str, shop: Shop, buyer: Buyer) -> None:
    url = shop.start(PROGRAM, step)
    offer = buyer.quote(url).exact
    assert offer is not None
    valid_before = max(buyer.chain.head().timestamp, int(time.time())) + 300
    payment = buyer.sign_single(offer, hashlib.sha256(step.encode()).digest(), valid_before)
    with pytest.raises(httpx.TransportError):
        buyer.pay_single(url, payment)
    assert shop.provider.wait() == -signal.SIGKILL
    url = shop.start()
    assert buyer.pay_single(url, payment).content == shop.data
    assert buyer.pay_single(url, payment).content == shop.data
    assert buyer.chain.balances(shop.key.address).tokens == offer.amount
    found = shop.provider.describe()["single_payments"]
    assert found == {"pending": 0, "settled": 1, "failed": 0, "sum": str(offer.amount)}
