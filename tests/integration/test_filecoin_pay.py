"""Rails, vouchers and single payments on a local chain: what is signed is what is paid, to the unit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from quorate.chain.abi import Contract, load_artifact
from quorate.chain.account import SigningAccount
from quorate.chain.errors import HINTS, error_table
from quorate.devnet.filecoin import FilecoinDevnet
from quorate.filecoin import rails
from quorate.filecoin.networks import DEVNET_CHAIN_ID, NETWORKS, PaymentContracts, Settings, find_contracts
from quorate.filecoin.pay import PayChain
from quorate.filecoin.payments import SignedTransfer, SignedVoucher, TokenDomain, Voucher, hash_transfer, hash_voucher
from quorate.filecoin.rails import MoneyMissing, compute_fee
from quorate.filecoin.spending import Target
from quorate.protocol.errors import ChainUnavailable, ConfigurationError, ProtocolViolation

pytestmark = pytest.mark.anvil
VECTORS = Path(__file__).parents[1] / "vectors" / "published" / "filecoin.json"
TERMS = b"\x07" * 32
PERIOD = 1200  # a minute at least, on a machine that is busy
FUNDS = 10_000


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilecoinDevnet]:
    with FilecoinDevnet(tmp_path_factory.mktemp("filecoin"), block_time_s=0.05, lockup_period=PERIOD) as made:
        yield made


@pytest.fixture
def chain(devnet: FilecoinDevnet) -> Iterator[PayChain]:
    with closing(devnet.connect()) as made:
        yield made


@pytest.fixture
def reader(devnet: FilecoinDevnet, chain: PayChain) -> SigningAccount:
    """A fresh account with FUNDS in Filecoin Pay, half of which may be locked."""
    made = SigningAccount.create()
    devnet.endow(made.address, 2 * FUNDS)
    rails.fund(chain, made, FUNDS)
    rails.allow(chain, made, FUNDS // 2)
    return made


@pytest.fixture
def provider(devnet: FilecoinDevnet) -> SigningAccount:
    made = SigningAccount.create()
    devnet.endow(made.address, 0)
    return made


def sign(chain: PayChain, who: SigningAccount, rail_id: int, cumulative: int) -> SignedVoucher:
    voucher = Voucher(rail_id, cumulative, TERMS)
    digest = hash_voucher(voucher, chain.contracts.chain_id, chain.contracts.operator)
    return SignedVoucher(voucher, who.sign(digest))


def test_the_abi_has_the_selectors_and_errors_of_filecoin_pay() -> None:
    vectors = json.loads(VECTORS.read_text())
    artifact = load_artifact(Contract.PAY)
    found = {text.partition("(")[0]: selector for text, selector in artifact["method_identifiers"].items()}
    wanted = vectors["filecoin_pay_selectors"]
    assert {name: found[name] for name in wanted} == wanted
    errors = {entry.name: entry.selector.hex() for entry in error_table().values()}
    wanted = vectors["filecoin_pay_errors"]
    assert {name: errors[name] for name in wanted} == wanted


def test_a_rail_is_paid_by_vouchers_to_the_unit(
    chain: PayChain, reader: SigningAccount, provider: SigningAccount
) -> None:
    rail_id = rails.open_rail(chain, reader, provider.address, 3000)
    opened = chain.rail(rail_id)
    assert (opened.payer, opened.payee, opened.locked, opened.ceiling) == (reader.address, provider.address, 3000, 3000)
    assert opened.is_open
    assert not opened.has_ended
    first = rails.redeem(chain, provider, sign(chain, reader, rail_id, 1001))
    assert (first.amount, first.fee, first.net, first.redeemed) == (1001, 6, 995, 1001)
    assert first.fee == compute_fee(1001)
    second = rails.redeem(chain, reader, sign(chain, reader, rail_id, 9000))  # more than is locked, by anybody
    assert (second.amount, second.redeemed) == (1999, 3000)
    has = chain.balances(reader.address)
    assert (has.deposited, has.locked, has.free) == (FUNDS - 3000, 0, FUNDS - 3000)
    assert (has.lockup_allowance, has.lockable) == (FUNDS // 2 - 3000, FUNDS // 2 - 3000)
    assert chain.balances(provider.address).deposited == first.net + second.net
    rails.withdraw(chain, provider, first.net)
    assert chain.balances(provider.address).tokens == first.net
    rails.top_up(chain, reader, rail_id, 500)
    assert chain.rail(rail_id).ceiling == 3500


def test_vouchers_that_are_worth_nothing(chain: PayChain, reader: SigningAccount, provider: SigningAccount) -> None:
    rail_id = rails.open_rail(chain, reader, provider.address, 3000)
    other = rails.open_rail(chain, reader, provider.address, 1000)
    signed = sign(chain, reader, rail_id, 100)
    rails.redeem(chain, provider, signed)
    elsewhere = hash_voucher(Voucher(other, 100, TERMS), 314, chain.contracts.operator)
    wrong = [
        (signed, "StaleVoucher"),
        (sign(chain, reader, rail_id, 99), "StaleVoucher"),
        (sign(chain, provider, rail_id, 200), "WrongSigner"),
        (replace(signed, voucher=Voucher(other, 100, TERMS)), "WrongSigner"),
        (replace(signed, voucher=Voucher(rail_id, 101, TERMS)), "WrongSigner"),
        (SignedVoucher(Voucher(other, 100, TERMS), reader.sign(elsewhere)), "WrongSigner"),
        (sign(chain, reader, 10**6, 1), "RailUnknown"),
    ]
    for voucher, name in wrong:
        with pytest.raises(ProtocolViolation) as caught:
            rails.redeem(chain, provider, voucher)
        assert caught.value.name == name
        assert HINTS[name] in str(caught.value)
    assert chain.rail(rail_id).redeemed == 100
    assert chain.rail(other).redeemed == 0


def test_revoked_in_mid_transfer_what_was_signed_is_paid(
    devnet: FilecoinDevnet, chain: PayChain, reader: SigningAccount, provider: SigningAccount
) -> None:
    rail_id = rails.open_rail(chain, reader, provider.address, 3000)
    signed = sign(chain, reader, rail_id, 2000)
    (closed,) = rails.revoke(chain, reader)
    assert (closed.rail_id, closed.is_open, closed.has_ended, closed.locked) == (rail_id, False, False, 3000)
    assert closed.end_epoch > closed.block_number
    assert rails.redeem(chain, provider, signed).redeemed == 2000
    with pytest.raises(MoneyMissing, match="allowance of the operator"):
        rails.open_rail(chain, reader, provider.address, 1)
    assert rails.revoke(chain, reader)[0].end_epoch == closed.end_epoch  # again: nothing changes
    devnet.mine(PERIOD)
    assert chain.rail(rail_id).has_ended
    assert chain.rail(rail_id).ceiling == 2000
    with pytest.raises(ProtocolViolation, match="CannotModifyTerminatedRailBeyondEndEpoch"):
        rails.redeem(chain, provider, sign(chain, reader, rail_id, 3000))
    rails.settle_rail(chain, provider, rail_id)
    gone = chain.rail(rail_id)
    assert (gone.is_settled, gone.has_ended, gone.redeemed) == (True, True, 2000)
    assert chain.list_rails(reader.address) == []
    rails.withdraw(chain, reader, FUNDS - 2000)
    assert chain.balances(reader.address).tokens == 2 * FUNDS - 2000


def test_too_little_money_is_said_before_anything_is_sent(
    chain: PayChain, reader: SigningAccount, provider: SigningAccount
) -> None:
    before = chain.rpc.call("eth_getTransactionCount", "0x" + reader.address.hex(), "latest")
    cases = [
        (lambda: rails.fund(chain, reader, FUNDS + 1), FUNDS),
        (lambda: rails.withdraw(chain, reader, FUNDS + 1), FUNDS),
        (lambda: rails.open_rail(chain, reader, provider.address, FUNDS // 2 + 1), FUNDS // 2),
    ]
    for act, available in cases:
        with pytest.raises(MoneyMissing) as caught:
            act()
        assert (caught.value.needed, caught.value.available) == (available + 1, available)
    assert chain.rpc.call("eth_getTransactionCount", "0x" + reader.address.hex(), "latest") == before
    broke = SigningAccount.create()
    with pytest.raises(ProtocolViolation, match="InsufficientFunds"):
        rails.allow(chain, broke, 1)


def transfer(chain: PayChain, who: SigningAccount, payee: SigningAccount, value: int, before: int) -> SignedTransfer:
    target = Target(chain.contracts.currency, "0x" + payee.address.hex())
    nonce = before.to_bytes(32, "big")
    names = TokenDomain(*(chain.read(Contract.TOKEN, name)[0] for name in ("name", "version")))
    digest = hash_transfer(names, target, who.address, value, 0, before, nonce)
    return SignedTransfer(who.address, target, value, 0, before, nonce, who.sign(digest))


def test_a_single_payment_is_made_once_and_in_time(
    chain: PayChain, reader: SigningAccount, provider: SigningAccount
) -> None:
    now = chain.head().timestamp
    signed = transfer(chain, reader, provider, 123, now + 600)
    assert not chain.is_authorization_used(reader.address, signed.nonce)
    receipt = rails.transfer(chain, provider, signed)
    assert receipt.find("AuthorizationUsed").fields == {"authorizer": reader.address, "nonce": signed.nonce}
    assert receipt.find("Transfer").fields["value"] == 123
    assert chain.is_authorization_used(reader.address, signed.nonce)
    assert chain.balances(provider.address).tokens == 123
    late = transfer(chain, reader, provider, 123, now - 1)
    poor = transfer(chain, reader, provider, FUNDS, now + 601)
    changed = replace(transfer(chain, reader, provider, 5, now + 602), value=6)
    currency = replace(chain.contracts.currency, chain_id=314)
    foreign = replace(signed, target=replace(signed.target, currency=currency))
    for each, name in (
        (signed, "AuthorizationUsedOrCanceled"), (late, "AuthorizationExpired"), (poor, "InsufficientBalance"),
        (changed, "InvalidSignature"), (foreign, "InvalidSignature"),
    ):  # fmt: skip
        with pytest.raises(ProtocolViolation) as caught:
            rails.transfer(chain, provider, each)
        assert caught.value.name == name
    assert chain.balances(provider.address).tokens == 123


def test_events_tell_the_payments_of_a_rail(chain: PayChain, reader: SigningAccount, provider: SigningAccount) -> None:
    first = chain.head().number
    rail_id = rails.open_rail(chain, reader, provider.address, 3000)
    for cumulative in (10, 250, 1000):
        rails.redeem(chain, provider, sign(chain, reader, rail_id, cumulative))
    events = chain.events(first, chain.head().number)
    paid = [event.fields for event in events if event.name == "RailOneTimePaymentProcessed"]
    assert [(row["netPayeeAmount"], row["networkFee"]) for row in paid] == [(9, 1), (238, 2), (746, 4)]
    assert sum(row["netPayeeAmount"] + row["networkFee"] for row in paid) == 1000


def test_the_wrong_endpoint_or_contract_is_named(devnet: FilecoinDevnet, chain: PayChain) -> None:
    chain.check()
    wrong = [
        (replace(devnet.contracts, chain_id=314), "is chain 31415926"),
        (replace(devnet.contracts, pay=devnet.deployer.address), "no pay contract"),
        (replace(devnet.contracts, pay=devnet.contracts.token), "pays by"),
    ]
    for contracts, words in wrong:
        with closing(PayChain(devnet.rpc.url, contracts)) as other, pytest.raises(ChainUnavailable, match=words):
            other.check()


def test_networks_are_found_again_in_their_file(devnet: FilecoinDevnet, tmp_path: Path) -> None:
    assert Settings.load(devnet.network_file) == devnet.settings
    assert devnet.contracts.chain_id == DEVNET_CHAIN_ID
    (tmp_path / "bad.json").write_text('{"rpc_url": "http://127.0.0.1:1", "chain_id": "x"}')
    for name in ("bad.json", "none.json"):
        with pytest.raises(ConfigurationError, match="filecoin network set"):
            Settings.load(tmp_path / name)
    operator = "0x" + "12" * 20
    for name, network in NETWORKS.items():
        found = find_contracts(name, operator, 7)
        assert (found.currency, found.block) == (network.currency, 7)
        assert PaymentContracts.from_json(found.to_json()) == found
        assert found.confirmations == 900  # what frees money waits for the chain to be final
    with pytest.raises(ConfigurationError, match="no public network"):
        find_contracts("devnet", operator)
