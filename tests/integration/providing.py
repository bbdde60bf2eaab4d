"""A retrieval provider as a process of its own, and a reader that signs whatever a test wants, honest or not."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx

from quorate.chain.account import DEVNET_SCRYPT_N, SigningAccount, save_keystore
from quorate.devnet.filecoin import FilecoinDevnet
from quorate.filecoin import rails, x402
from quorate.filecoin.pay import PayChain
from quorate.filecoin.payments import SignedTransfer, SignedVoucher, Voucher, hash_transfer, hash_voucher
from quorate.filecoin.piecetree import CHUNK_BYTES
from quorate.filecoin.spending import Target
from quorate.filecoin.terms import ExactOffer, PaymentRequired, VoucherOffer
from quorate.filecoin.x402 import ExactPayment, VoucherPayment
from quorate_node.cli import filecoin_providing

PERIOD = 1200
PRICE = 1000
FUNDS = 10**6
START_S = 60.0
STOP_S = 60.0


def run_command(*args: str) -> subprocess.CompletedProcess[str]:
    """`quorate-node filecoin-provider …`."""
    command = [sys.executable, "-m", "quorate_node.cli.main", "filecoin-provider", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


class Provider:
    """`quorate-node filecoin-provider run` on a home; `program` is run in its place where a test says so."""

    def __init__(self, home: Path, network: Path | None = None, key: SigningAccount | None = None) -> None:
        self.home, self.key = home, key
        self._args = ["--home", str(home)]
        if network is not None and key is not None:
            home.mkdir(parents=True, exist_ok=True)
            keystore, secret = home.with_name(f"{home.name}.key"), home.with_name(f"{home.name}.secret")
            if not keystore.exists():
                save_keystore(keystore, key, b"secret", DEVNET_SCRYPT_N)
                secret.write_text("secret\n")
            self._args += ["--network", str(network), "--key-file", str(keystore), "--passphrase-file", str(secret)]
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.lines: list[str] = []

    def add(self, path: Path, price: int = 0, *, is_piece: bool = False) -> dict[str, Any]:
        """What `add` prints."""
        return filecoin_providing.add(self.home, str(path), str(price), None, is_piece=is_piece)

    def set_price(self, cid: str, price: int) -> None:
        """As `price` does."""
        filecoin_providing.set_price(self.home, cid, str(price))

    def describe(self) -> dict[str, Any]:
        """What `status` prints."""
        return filecoin_providing.describe(self.home)

    def start(self, *args: str, program: Sequence[str] = ("-m", "quorate_node.cli.main"), port: int = 0) -> Provider:
        """Until it is ready."""
        command = [sys.executable, *program, "filecoin-provider", "run", "--listen", f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(
            [*command, *self._args, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.lines = []
        threading.Thread(target=self._drain, args=(self.process.stderr,), daemon=True).start()
        word, _, rest = self.process.stdout.readline().partition(" ")
        if word != "ready":
            self.process.wait(START_S)
            raise AssertionError(f"the provider did not start: {''.join(self.lines)}")
        self.url = rest.split()[0]
        return self

    def _drain(self, output: IO[str]) -> None:
        with output:
            self.lines.extend(output)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self) -> int:
        """As an operator stops it: vouchers are redeemed. Its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self._end()

    def kill(self) -> int:
        """As a power cut does."""
        assert self.process is not None
        self.process.kill()
        return self._end()

    def wait(self) -> int:
        """Until it ends by itself."""
        return self._end()

    def _end(self) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        code = self.process.wait(STOP_S)
        self.process.stdout.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


@dataclass(slots=True)
class Buyer:
    """Asks and pays by hand; nothing is checked that a test wants wrong."""

    chain: PayChain
    account: SigningAccount
    client: httpx.Client

    def quote(self, url: str) -> PaymentRequired:
        """The 402 of an unpaid request."""
        answer = self.client.get(url)
        assert answer.status_code == 402, answer.text
        return x402.parse_required(answer.headers[x402.REQUIRED])

    def get_voucher_offer(self, url: str) -> VoucherOffer:
        """What vouchers cost."""
        offer = self.quote(url).voucher
        assert offer is not None
        return offer

    def sign(self, offer: VoucherOffer, rail_id: int, cumulative: int, **changes: Any) -> str:
        """PAYMENT-SIGNATURE; `chain_id` or `by` are what it is signed for and by whom, where they are others."""
        voucher = Voucher(rail_id, cumulative, offer.terms_hash)
        by, chain_id = changes.get("by", self.account), changes.get("chain_id", self.chain.contracts.chain_id)
        operator = changes.get("operator", self.chain.contracts.operator)
        signature = by.sign(hash_voucher(voucher, chain_id, operator))
        return x402.encode_payment(VoucherPayment(offer, SignedVoucher(voucher, signature)))

    def get_chunk(self, url: str, header: str, index: int, size: int) -> httpx.Response:
        """Ask for a chunk, showing a voucher."""
        first = index * CHUNK_BYTES
        last = min(first + CHUNK_BYTES, size) - 1
        return self.client.get(url, headers={"Range": f"bytes={first}-{last}", x402.SIGNATURE: header})

    def sign_single(self, offer: ExactOffer, nonce: bytes, valid_before: int, **changes: Any) -> ExactPayment:
        """A single payment."""
        value, by = changes.get("value", offer.amount), changes.get("by", self.account)
        target = Target(offer.currency, offer.payee)
        signed_for = changes.get("target", target)
        digest = hash_transfer(offer.domain, signed_for, self.account.address, value, 0, valid_before, nonce)
        transfer = SignedTransfer(self.account.address, target, value, 0, valid_before, nonce, by.sign(digest))
        return ExactPayment(replace(offer, **changes.get("claims", {})), transfer)

    def pay_single(self, url: str, payment: ExactPayment, **headers: str) -> httpx.Response:
        """Ask, showing it."""
        return self.client.get(url, headers={x402.SIGNATURE: x402.encode_payment(payment), **headers})

    def open_rail(self, payee: SigningAccount, lockup: int) -> int:
        """A rail on which so much can be spent."""
        return rails.open_rail(self.chain, self.account, payee.address, lockup)


def find(provider: Provider, path: Path) -> dict[str, str]:
    found: dict[str, str] = next(each for each in provider.describe()["datasets"] if each["path"] == str(path))
    return found


def url_of(provider: Provider, path: Path) -> str:
    return f"{provider.url}/piece/{find(provider, path)['piece']}"


def make_bytes(size: int, seed: str = "") -> bytes:
    return hashlib.shake_128(seed.encode()).digest(size)


def make_account(devnet: FilecoinDevnet, tokens: int) -> SigningAccount:
    made = SigningAccount.create()
    devnet.endow(made.address, tokens)
    return made
