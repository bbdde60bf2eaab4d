"""The ledger against the chain: equal to the unit, orphans that end by proof alone, payments that nobody allowed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.paying import PASSPHRASE, TERMS, Reader, make_provider, make_reader

from quorate.chain.abi import Contract
from quorate.chain.account import SigningAccount
from quorate.chain.types import to_hex
from quorate.devnet.filecoin import FilecoinDevnet
from quorate.filecoin import rails
from quorate.filecoin.ledger import Ledger, Reservation
from quorate.filecoin.networks import NETWORKS, Network, Settings
from quorate.filecoin.pay import PayChain
from quorate.filecoin.payments import SignedVoucher, TokenDomain, Voucher, hash_transfer, hash_voucher
from quorate.filecoin.rails import compute_fee
from quorate.filecoin.reconciling import BooksDiffer, Reconciliation, reconcile
from quorate.filecoin.spending import Scope, ScopeKind, State
from quorate.protocol.errors import ChainUnavailable
from quorate_node.cli.main import app, report

pytestmark = pytest.mark.anvil
PERIOD = 1200  # a minute at least, on a machine that is busy
FUNDS = 100_000


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilecoinDevnet]:
    with FilecoinDevnet(tmp_path_factory.mktemp("filecoin"), block_time_s=0.05, lockup_period=PERIOD) as made:
        yield made


@pytest.fixture
def chain(devnet: FilecoinDevnet) -> Iterator[PayChain]:
    with closing(devnet.connect()) as made:
        yield made


@pytest.fixture
def reader(devnet: FilecoinDevnet, chain: PayChain, tmp_path: Path) -> Iterator[Reader]:
    made = make_reader(devnet, chain, tmp_path / "home", FUNDS)
    yield made
    made.ledger.close()


@pytest.fixture
def provider(devnet: FilecoinDevnet) -> SigningAccount:
    return make_provider(devnet)


def look(reader: Reader) -> Reconciliation:
    return reconcile(reader.ledger, reader.chain, reader.wallet.address)


def used(reader: Reader) -> tuple[int, int]:
    usage = reader.ledger.list_usage()[Scope(ScopeKind.TOTAL)]
    return usage.reserved, usage.charged


def pay_once(reader: Reader, held: Reservation) -> Any:
    names = TokenDomain(*(reader.chain.read(Contract.TOKEN, name)[0] for name in ("name", "version")))
    return reader.signer.sign_transfer(held.authorize(), names)


def test_receipts_add_up_to_the_chains_payments_with_their_fee(reader: Reader, provider: SigningAccount) -> None:
    first, second = (reader.open_rail(provider, 5000) for _ in range(2))
    gross, fees = 0, 0
    for rail_id, parts in ((first, (1, 333, 1001)), (second, (777,))):
        held = reader.reserve(provider, sum(parts), rail_id)
        up_to = 0
        for part in parts:
            up_to += part
            redemption = rails.redeem(reader.chain, provider, reader.sign(held, up_to))
            assert (redemption.amount, redemption.fee) == (part, compute_fee(part))
            gross, fees = gross + part, fees + redemption.fee
        held.charge()
    later = reader.reserve(provider, 500, second)
    reader.sign(later, 400)
    later.charge()  # and its voucher is not redeemed yet
    single = reader.reserve(provider, 250, expires_at=reader.chain.head().timestamp + 600)
    receipt = rails.transfer(reader.chain, provider, pay_once(reader, single))
    single.charge()
    found = look(reader)
    assert (found.charged, found.paid, found.fees, found.owed) == (gross + 650, gross + 250, fees, 400)
    assert (found.problems, found.ended, found.waiting) == ((), (), ())
    assert sum(each.net for each in found.rails) == gross - fees
    assert found.singles[0].transaction == to_hex(receipt.transaction)
    has = reader.chain.balances(reader.wallet.address)
    assert (has.deposited, has.tokens) == (FUNDS - gross, FUNDS - 250)
    assert reader.chain.balances(provider.address).deposited == gross - fees
    assert sum(receipt.entry.charged for receipt in reader.ledger.list_receipts()) == found.charged


def test_a_rails_orphan_ends_when_the_rail_has(
    devnet: FilecoinDevnet, reader: Reader, provider: SigningAccount
) -> None:
    taken, lazy = reader.open_rail(provider, 5000), reader.open_rail(provider, 5000)
    before = reader.reserve(provider, 100, taken)
    reader.sign(before, 100)
    before.charge()
    orphans = [reader.reserve(provider, 1000, rail_id) for rail_id in (taken, lazy)]
    vouchers = [reader.sign(held, 600) for held in orphans]
    unsigned = reader.reserve(provider, 50, reader.open_rail(provider, 50))
    found = look(reader)
    assert {each.reservation_id for each in found.waiting} == {held.entry.id for held in (*orphans, unsigned)}
    assert all("is open" in each.reason for each in found.waiting)
    rails.revoke(reader.chain, reader.wallet)
    assert all("pays what was signed until block" in each.reason for each in look(reader).waiting)
    assert used(reader) == (2050, 100)
    rails.redeem(reader.chain, provider, vouchers[0])
    devnet.mine(PERIOD)
    found = look(reader)
    assert {entry.id: (entry.state, entry.charged) for entry in found.ended} == {
        orphans[0].entry.id: (State.CHARGED, 600),
        orphans[1].entry.id: (State.RELEASED, 0),  # its provider never redeemed, and cannot any more
        unsigned.entry.id: (State.RELEASED, 0),
    }
    assert used(reader) == (0, 700)
    assert (found.charged, found.paid, found.problems) == (700, 700, ())
    assert look(reader).ended == ()


def test_a_single_payments_orphan_ends_when_it_is_used_or_expired(
    devnet: FilecoinDevnet, reader: Reader, provider: SigningAccount
) -> None:
    until = reader.chain.head().timestamp + 600
    paid, unpaid = (reader.reserve(provider, amount, expires_at=until) for amount in (300, 40))
    transfer = pay_once(reader, paid)
    pay_once(reader, unpaid)
    found = look(reader)
    assert [each.reason.partition(" (")[0] for each in found.waiting] == [f"it can be used until {until}"] * 2
    assert used(reader) == (340, 0)
    receipt = rails.transfer(reader.chain, provider, transfer)
    found = look(reader)
    assert [(entry.id, entry.charged) for entry in found.ended] == [(paid.entry.id, 300)]
    assert to_hex(receipt.transaction) in reader.ledger.list_receipts()[-1].note
    assert used(reader) == (40, 300)
    devnet.rpc.call("evm_increaseTime", 601)
    devnet.mine()
    found = look(reader)
    assert [(entry.id, entry.state) for entry in found.ended] == [(unpaid.entry.id, State.RELEASED)]
    assert (found.waiting, found.paid, used(reader)) == ((), 300, (0, 300))


def test_what_nothing_was_signed_of_is_free_after_an_hour(reader: Reader, provider: SigningAccount) -> None:
    path, ahead = reader.home / "filecoin" / "ledger.db", reader.chain.head().timestamp - time.time()
    with closing(Ledger(path, clock=lambda: time.time() + ahead - 3700)) as early:
        target = reader.target(provider, reader.open_rail(provider, 10))
        purpose = reader.reserve(provider, 1, reader.open_rail(provider, 1)).entry.purpose
        old = early.reserve(purpose, target, 10)
    found = look(reader)
    assert [entry.id for entry in found.ended] == [old.entry.id]
    assert used(reader) == (1, 0)


def test_what_frees_money_is_believed_only_when_it_is_deep_enough(tmp_path: Path) -> None:
    """As on a public network, where a block can still be replaced by another."""
    with FilecoinDevnet(tmp_path / "devnet", block_time_s=0.05, lockup_period=2) as devnet:
        deep = replace(devnet.contracts, confirmations=40)
        with closing(devnet.connect()) as chain, closing(PayChain(devnet.rpc.url, deep)) as careful:
            reader, provider = make_reader(devnet, chain, tmp_path / "home", FUNDS), make_provider(devnet)
            rail_id = reader.open_rail(provider, 100)
            held = reader.reserve(provider, 100, rail_id)
            rails.redeem(chain, provider, reader.sign(held, 60))
            rails.revoke(chain, reader.wallet)
            devnet.rpc.call("evm_setIntervalMining", 0)
            devnet.mine(max(0, chain.rail(rail_id).end_epoch - chain.head().number))
            assert chain.rail(rail_id).has_ended
            ended = chain.head().number
            if careful.settled_head().number < chain.rail(rail_id).end_epoch:  # unless the machine slept for 2 s
                (waits,) = reconcile(reader.ledger, careful, reader.wallet.address).waiting
                assert waits.reservation_id == held.entry.id
            devnet.mine(40)
            assert careful.settled_head().number == ended
            found = reconcile(reader.ledger, careful, reader.wallet.address)
            assert [(entry.id, entry.charged) for entry in found.ended] == [(held.entry.id, 60)]
            assert (found.block_number, found.paid) == (ended, 60)
            reader.ledger.close()


def test_payments_that_the_ledger_did_not_allow_are_told(reader: Reader, provider: SigningAccount) -> None:
    """As of a key that is used elsewhere, or an older copy of the ledger put in place of the right one."""
    contracts = reader.chain.contracts
    rail_id = reader.open_rail(provider, 5000)
    held = reader.reserve(provider, 1000, rail_id)
    reader.sign(held, 100)
    voucher = Voucher(rail_id, 900, TERMS)
    digest = hash_voucher(voucher, contracts.chain_id, contracts.operator)
    rails.redeem(reader.chain, provider, SignedVoucher(voucher, reader.wallet.sign(digest)))
    until = reader.chain.head().timestamp + 600
    single = pay_once(reader, reader.reserve(provider, 70, expires_at=until))
    nonce = b"n" * 32
    names = TokenDomain(*(reader.chain.read(Contract.TOKEN, name)[0] for name in ("name", "version")))
    signed = reader.wallet.sign(hash_transfer(names, single.target, reader.wallet.address, 70, 0, until, nonce))
    receipt = rails.transfer(
        reader.chain, provider, type(single)(single.sender, single.target, 70, 0, until, nonce, signed)
    )
    found = look(reader)
    assert found.problems == (
        f"rail {rail_id} has paid 900, and 100 was signed by this ledger",
        f"70 paid in transaction {to_hex(receipt.transaction)} with a nonce that is not in the ledger",
    )
    with pytest.raises(BooksDiffer, match="limit revoke"):
        found.check()
    assert held.entry.id in {each.reservation_id for each in found.waiting}


class TestCommands:
    @pytest.fixture(autouse=True)
    def _no_lasting_change(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("quorate.cli.filecoin.chain.forbid_dumps", lambda: None)

    def run(self, reader: Reader, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
        argv = ["filecoin", *words, "--home", str(reader.home), "--output", "json"]
        code = report(lambda: app(argv, standalone_mode=False))
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    def test_money_on_the_chain(
        self, devnet: FilecoinDevnet, reader: Reader, provider: SigningAccount, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (reader.home / "filecoin" / "network.json").unlink()
        code, _, err = self.run(reader, capsys, "wallet", "balance")
        assert (code, "filecoin network set" in err) == (2, True)
        assert self.run(reader, capsys, "network", "set", "--file", str(devnet.network_file))[0] == 0
        assert self.run(reader, capsys, "network", "show")[1]["network"] == "eip155:31415926"
        assert self.run(reader, capsys, "wallet", "deposit", "500")[1]["deposited"] == str(FUNDS + 500)
        assert self.run(reader, capsys, "wallet", "allow", "4000")[1]["lockable"] == "4000"
        rail_id = reader.open_rail(provider, 3000)
        held = reader.reserve(provider, 1000, rail_id)
        rails.redeem(reader.chain, provider, reader.sign(held, 1000))
        held.charge()
        told = self.run(reader, capsys, "wallet", "balance")[1]
        assert (told["locked"], told["allowed"], told["rails"][0]["redeemed"]) == ("2000", "3000", "1000")
        found = self.run(reader, capsys, "reconcile")[1]
        assert (found["charged"], found["paid"], found["fees"], found["owed"]) == ("1000", "1000", "5", "0")
        code, told, _ = self.run(reader, capsys, "limit", "revoke")
        assert (code, told["rails"][0]["rail"], told["rails"][0]["locked"]) == (0, rail_id, "2000")
        assert not reader.chain.rail(rail_id).is_open
        code, _, err = self.run(reader, capsys, "wallet", "withdraw", str(FUNDS - 499))
        assert (code, "tokens to withdraw" in err) == (2, True)  # 2000 are locked until the rail ends
        devnet.mine(PERIOD)
        told = self.run(reader, capsys, "wallet", "withdraw", str(FUNDS - 500))[1]
        assert (told["deposited"], told["rails"]) == ("0", [])

    def test_revoked_here_when_the_chain_is_down(
        self, reader: Reader, provider: SigningAccount, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = reader.home / "filecoin" / "network.json"
        path.write_text(path.read_text().replace(reader.chain.rpc.url, "http://127.0.0.1:9"))
        code, _, err = self.run(reader, capsys, "limit", "revoke")
        assert code == 3
        assert "nothing is signed here any more, but the chain was not told" in err
        assert reader.ledger.list_caps()[Scope(ScopeKind.TOTAL)] == 0
        assert self.run(reader, capsys, "reconcile")[0] == 3

    def test_differences_end_with_an_error_behind_the_report(
        self, reader: Reader, provider: SigningAccount, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rail_id = reader.open_rail(provider, 100)
        voucher = Voucher(rail_id, 60, TERMS)
        digest = hash_voucher(voucher, reader.chain.contracts.chain_id, reader.chain.contracts.operator)
        rails.redeem(reader.chain, provider, SignedVoucher(voucher, reader.wallet.sign(digest)))
        code, told, err = self.run(reader, capsys, "reconcile")
        assert (code, told["paid"], told["charged"]) == (70, "60", "0")
        assert f"rail {rail_id} has paid 60, and 0 was signed" in err

    def test_a_network_that_is_not_whole(self, reader: Reader, capsys: pytest.CaptureFixture[str]) -> None:
        code, _, err = self.run(reader, capsys, "network", "set", "--network", "calibration")
        assert (code, "--operator" in err) == (2, True)
        words = ("--rpc-url", reader.chain.rpc.url, "--operator", "0x" + "12" * 20)
        code, _, err = self.run(reader, capsys, "network", "set", "--network", "calibration", *words)
        assert (code, "is chain 31415926" in err) == (3, True)
        assert PASSPHRASE.decode() not in err

    def test_an_operator_is_deployed_where_filecoin_pay_is(
        self, reader: Reader, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on Calibration: here its chain id and contracts are the local chain's."""
        contracts = reader.chain.contracts
        public = Network(contracts.currency, to_hex(contracts.pay))
        words = ("network", "deploy", "--rpc-url", reader.chain.rpc.url, "--network", "calibration")
        code, _, err = self.run(reader, capsys, *words)
        assert (code, "is chain 31415926" in err) == (3, True)
        monkeypatch.setitem(NETWORKS, "calibration", public)
        code, told, err = self.run(reader, capsys, *words, "--lockup-period", "77")
        assert code == 0, err
        assert told["operator"] != to_hex(contracts.operator)
        assert (told["pay"], told["confirmations"]) == (to_hex(contracts.pay), 900)
        settings = Settings.load(reader.home / "filecoin" / "network.json")
        with closing(PayChain(settings.rpc_url, settings.contracts)) as chain:
            chain.check()
            assert rails.read_lockup_period(chain) == 77

    def test_a_local_chain_runs_until_it_is_interrupted(self, tmp_path: Path) -> None:
        argv = [sys.executable, "-m", "quorate_node.cli.main", "filecoin", "network", "local", str(tmp_path / "local")]
        account = SigningAccount.create()
        argv += ["--endow", to_hex(account.address), "--block-time", "0.05", "--output", "json"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            settings = Settings.load(Path(told["file"]))
            with closing(PayChain(settings.rpc_url, settings.contracts)) as chain:
                chain.check()
                assert chain.balances(account.address).tokens > 0
                process.terminate()
                assert process.wait(30) == 0
                with pytest.raises(ChainUnavailable):
                    chain.check()
