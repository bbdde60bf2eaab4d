"""The gateway against Anvil with the real contracts."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.network import wait_for

from quorate.chain import calls
from quorate.chain.abi import Contract
from quorate.chain.account import SigningAccount
from quorate.chain.gateway import JsonRpcGateway
from quorate.chain.types import to_hex
from quorate.devnet import Devnet, DevnetOptions
from quorate.protocol import events
from quorate.protocol.beacon import get_mix_hash
from quorate.protocol.classes import Membership
from quorate.protocol.encoding import compute_job_id, encode_post_page
from quorate.protocol.errors import ChainUnavailable, ProtocolViolation, ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.params import ETHER, LOCAL
from quorate.protocol.types import ZERO32, JobOrder, OrderSkip, SignedOrder, Terms

pytestmark = pytest.mark.anvil

ASK = 10**12
TERMS = Terms(1, 1, 1, 60, 5)
AUDIT_FEE = ASK * LOCAL.audit_bps // 10_000
MEMBERS = (Membership(10, ASK, 10**10),) * 3


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    """A chain with three operators in class 1 that have no node."""
    home = tmp_path_factory.mktemp("chain") / "net"
    options = DevnetOptions(home=home, nodes=0, collators=frozenset(), block_time_s=0.1)
    with Devnet(options) as devnet:
        gateway = devnet.gateway
        owners = [rich(gateway) for _ in range(3)]
        for sent in [gateway.send(owner, calls.register(owner.address), value=2 * ETHER) for owner in owners]:
            gateway.wait(sent)
        for sent in [gateway.send(owner, calls.join(1, 10, ASK, 10**10)) for owner in owners]:
            gateway.wait(sent)
        end = gateway.class_info(1).era_end
        gateway.rpc.call("evm_setNextBlockTimestamp", hex(end + 1))
        assert wait_for(lambda: gateway.head().timestamp > end)
        gateway.wait(gateway.send(owners[0], calls.advance_era(1, MEMBERS)))
        yield devnet


@pytest.fixture
def gateway(devnet: Devnet) -> JsonRpcGateway:
    return devnet.gateway


def rich(gateway: JsonRpcGateway, wei: int = 100 * ETHER) -> SigningAccount:
    account = SigningAccount.create()
    gateway.rpc.call("anvil_setBalance", to_hex(account.address), hex(wei))
    return account


def test_heads_and_headers(gateway: JsonRpcGateway) -> None:
    gateway.check()
    head = gateway.head()
    for number in range(max(0, head.number - 20), head.number + 1):
        block = gateway.block(number)
        header = gateway.header_rlp(number)  # checks its own hash
        assert keccak(header) == block.hash
        assert get_mix_hash(header) == block.mix_hash
    assert gateway.block(head.number).parent_hash == gateway.block(head.number - 1).hash
    with pytest.raises(ChainUnavailable, match="not mined yet"):
        gateway.block(head.number + 10**6)


def test_state_of_the_registry(gateway: JsonRpcGateway) -> None:
    assert gateway.params() == LOCAL
    info = gateway.class_info(1)
    table = gateway.table(1, info.table)
    assert [member.operator_id for member in table.members] == [1, 2, 3]
    assert table.units == tuple(i // 10 for i in range(30))
    assert gateway.table(1, info.table) is table
    assert gateway.class_members(1) == dict.fromkeys((1, 2, 3), Membership(10, ASK, 10**10))
    operator = gateway.operator(2)
    assert (operator.stake, operator.allocated) == (2 * ETHER, ETHER)
    assert gateway.operator_of(operator.owner) == 2
    assert gateway.operator_of(SigningAccount.create().address) == 0
    assert (gateway.operator_count(), gateway.class_count()) == (3, 1)
    assert gateway.ledgers().class_deposits == LOCAL.class_deposit


def test_a_glance_says_what_single_reads_say(gateway: JsonRpcGateway) -> None:
    owner = rich(gateway).address
    before = gateway.rpc.calls.copy()
    seen = gateway.glance(1, owner)
    assert gateway.rpc.calls - before == Counter(eth_call=3, eth_getBlockByNumber=1)
    wanted = gateway.class_count(), gateway.class_info(1), gateway.account(owner)
    before = gateway.rpc.calls.copy()
    assert (seen.class_count(), seen.class_info(1), seen.account(owner)) == wanted
    assert gateway.rpc.calls == before, "nothing is asked again"
    assert gateway.block(seen.head().number) == seen.head()
    other = SigningAccount.create().address
    assert seen.account(other) == gateway.account(other)
    for strange in (-1, 0, 2, 2**40):
        assert gateway.glance(strange, owner).class_info(1) == wanted[1]
    for at in (seen, gateway.glance(2, owner)):
        with pytest.raises(ProtocolViolation, match="ClassUnknown"):
            at.class_info(2)


def test_the_domain_is_that_of_the_market(gateway: JsonRpcGateway) -> None:
    assert gateway._read(Contract.MARKET, "domainSeparator")[0] == gateway.domain_separator()


def test_events_are_in_order_and_whole(gateway: JsonRpcGateway) -> None:
    found = gateway.events(0, gateway.head().number)
    assert [(e.block_number, e.log_index) for e in found] == sorted((e.block_number, e.log_index) for e in found)
    joined = [e.event.operator_id for e in found if isinstance(e.event, events.ClassJoined)]
    assert sorted(joined) == [1, 2, 3]
    assert gateway.events(5, 4) == []


def test_an_endpoint_that_is_no_text_hides_no_block(gateway: JsonRpcGateway) -> None:
    owner = rich(gateway)
    gateway.wait(gateway.send(owner, calls.register(owner.address)))
    call = calls.announce_endpoint("http://??")
    hostile = replace(call, data=call.data.replace(b"??", b"\xff\xfe"))
    block = gateway.wait(gateway.send(owner, hostile)).block_number
    assert any(isinstance(each.event, events.EndpointAnnounced) for each in gateway.events(0, block))
    assert gateway.operator_of(owner.address) in gateway.endpoints()


def test_a_refused_call_is_named_before_it_is_sent(gateway: JsonRpcGateway) -> None:
    account = rich(gateway)
    with pytest.raises(ProtocolViolation, match=r"InsufficientDeposit\(0, 5\).*deposit more") as caught:
        gateway.send(account, calls.withdraw_deposit(5))
    assert (caught.value.name, caught.value.args_) == ("InsufficientDeposit", (0, 5))
    with pytest.raises(ProtocolViolation, match="OperatorUnknown"):
        gateway.send(account, calls.leave(1))
    with pytest.raises(ProtocolViolation, match="EraNotOver"):
        gateway.send(account, calls.advance_era(1, MEMBERS))
    with pytest.raises(ProtocolViolation, match=r"DisputeUnknown|HashMismatch"):
        gateway.send(account, calls.commit_votes(65536, b"", b"", b""))


def test_a_reverted_transaction_is_named_after_it_is_mined(gateway: JsonRpcGateway) -> None:
    account = rich(gateway)
    digest = gateway.send(account, calls.withdraw_deposit(5), gas=100_000)
    with pytest.raises(ProtocolViolation, match=r"InsufficientDeposit\(0, 5\)"):
        gateway.wait(digest)
    again = JsonRpcGateway(gateway.rpc.url, gateway.deployment)
    with pytest.raises(ProtocolViolation, match=r"InsufficientDeposit\(0, 5\)"):
        again.wait(digest)  # by somebody who has not sent it
    again.close()


def test_no_money_for_gas(gateway: JsonRpcGateway) -> None:
    with pytest.raises(ProtocolViolation, match="InsufficientFunds"):
        gateway.send(SigningAccount.create(), calls.deposit(), value=1, gas=100_000)


def test_a_transaction_that_is_never_mined(gateway: JsonRpcGateway) -> None:
    with pytest.raises(ChainUnavailable, match=r"not mined in 0\.1 s"):
        gateway.wait(bytes(32), timeout_s=0.1)


def test_threads_share_a_key(gateway: JsonRpcGateway) -> None:
    account, hashes, lock = rich(gateway), list[bytes](), threading.Lock()

    def work() -> None:
        for _ in range(5):
            digest = gateway.send(account, calls.deposit(), value=1)
            with lock:
                hashes.append(digest)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({gateway.wait(digest).block_number for digest in hashes}) >= 1
    assert gateway.account(account.address).free == 30


def test_nonces_recover_from_lost_and_foreign_transactions(gateway: JsonRpcGateway) -> None:
    account = rich(gateway)
    snapshot = gateway.rpc.call("evm_snapshot")
    for _ in range(3):
        gateway.wait(gateway.send(account, calls.deposit(), value=1))
    gateway.rpc.call("evm_revert", snapshot)
    gateway.rpc.call("anvil_setBalance", to_hex(account.address), hex(ETHER))
    time.sleep(2.1)  # until our own count is not believed any more
    gateway.wait(gateway.send(account, calls.deposit(), value=1))
    other = JsonRpcGateway(gateway.rpc.url, gateway.deployment)
    other.wait(other.send(account, calls.deposit(), value=1))
    other.close()
    gateway.wait(gateway.send(account, calls.deposit(), value=1))
    assert gateway.account(account.address).free == 3


def sign(gateway: JsonRpcGateway, key: SigningAccount, order: JobOrder) -> SignedOrder:
    return SignedOrder(order, key.sign(compute_job_id(gateway.domain_separator(), order)))


def test_orders_that_are_fine_drained_replayed_expired_altered_and_forged(gateway: JsonRpcGateway) -> None:
    requester, poor, collator = rich(gateway), rich(gateway), rich(gateway)
    for account in (requester, collator):
        gateway.wait(gateway.send(account, calls.deposit(), value=ETHER))
    info = gateway.class_info(1)
    if gateway.head().timestamp >= info.era_end - 5:
        gateway.wait(gateway.send(collator, calls.advance_era(1, MEMBERS)))
    until = gateway.head().timestamp + 300
    base = JobOrder(requester.address, 0, 1, keccak(b"s"), 1, 10**9, 100, 1, 1, 60, 0, 10**13, 10**9, until)
    fine = sign(gateway, requester, base)
    expired = sign(gateway, requester, replace(base, nonce=1, valid_until=until - 10**4))
    altered = SignedOrder(
        replace(base, nonce=2, max_fee=10**10), sign(gateway, requester, replace(base, nonce=2)).signature
    )
    forged = sign(gateway, poor, replace(base, nonce=3))
    drained = sign(gateway, poor, replace(base, requester=poor.address))
    page = encode_post_page([fine, fine, expired, altered, forged, drained])
    receipt = gateway.wait(gateway.send(collator, calls.post(0, TERMS, page, last=True)))
    posted = next(log.event for log in receipt.logs if isinstance(log.event, events.PagePosted))
    skips = {posted.skips[i + 1]: OrderSkip(posted.skips[i + 2]) for i in range(0, len(posted.skips), 3)}
    assert skips == {
        1: OrderSkip.NONCE,
        2: OrderSkip.EXPIRED,
        3: OrderSkip.SIGNATURE,
        4: OrderSkip.SIGNATURE,
        5: OrderSkip.DEPOSIT,
    }
    assert gateway.nonces(requester.address).is_used(0)
    assert gateway.account(requester.address).escrow == 2 * ASK + TERMS.fee_wei + AUDIT_FEE
    batch = gateway.batch(posted.batch_id)
    assert (batch.status, batch.terms, batch.collator) == (BatchStatus.AWAITING, TERMS, collator.address)
    assert batch.beacon == ZERO32
    while gateway.head().number <= batch.beacon_block:
        time.sleep(0.05)
    wrong = gateway.header_rlp(batch.beacon_block - 1)
    with pytest.raises(ProtocolViolation, match="BeaconMismatch"):
        gateway.send(collator, calls.prove_beacon(posted.batch_id, wrong))
    header = gateway.header_rlp(batch.beacon_block)
    gateway.wait(gateway.send(requester, calls.prove_beacon(posted.batch_id, header)))
    assert gateway.batch(posted.batch_id).status is BatchStatus.ASSIGNED
    assert gateway.batch(posted.batch_id).beacon == get_mix_hash(header)
    assert len(gateway.round_domain(posted.batch_id)) == 32


def test_other_chain_ids_and_empty_chains(gateway: JsonRpcGateway, tmp_path: Path) -> None:
    elsewhere = JsonRpcGateway(gateway.rpc.url, replace(gateway.deployment, chain_id=5))
    with pytest.raises(ChainUnavailable, match="is chain 31337, but this deployment is on chain 5"):
        elsewhere.check()
    empty = JsonRpcGateway(gateway.rpc.url, replace(gateway.deployment, market=rich(gateway).address))
    with pytest.raises(ChainUnavailable, match="deploy again"):
        empty.check()
    with pytest.raises(ChainUnavailable, match="deploy again"):
        empty.account(gateway.deployment.market)
    for each in (elsewhere, empty):
        each.close()


def test_unsafe_parameters_are_refused_before_and_by_the_constructor() -> None:
    with pytest.raises(ValidationError, match=r"UnsafeParameters\(unbondingPeriod\)"):
        replace(LOCAL, unbonding_period=100).check()


def test_a_transaction_that_the_chain_lost_is_missed_soon(gateway: JsonRpcGateway) -> None:
    """Dropped from the pool; and one whose nonce stands behind that of a lost one. Blocks come slowly afterwards."""
    account = rich(gateway)
    gateway.rpc.call("evm_setIntervalMining", 0)
    try:
        first = gateway.send(account, calls.deposit(), value=1)
        second = gateway.send(account, calls.deposit(), value=2)
        gateway.rpc.call("anvil_dropTransaction", to_hex(first))
        for digest in (second, first):
            began = time.monotonic()
            with pytest.raises(ChainUnavailable, match="lost transaction"):
                gateway.wait(digest, timeout_s=60)
            assert time.monotonic() - began < 10
    finally:
        gateway.rpc.call("evm_setIntervalMining", 1)
    gateway.wait(gateway.send(account, calls.deposit(), value=4))
    assert gateway.account(account.address).free in (4, 6)
