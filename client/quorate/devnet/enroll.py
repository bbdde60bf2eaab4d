"""Money, class, stakes and memberships of a devnet, in a handful of round trips and two blocks."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quorate.chain import calls
from quorate.chain.account import DEVNET_SCRYPT_N, SigningAccount, save_keystore
from quorate.chain.calls import Call
from quorate.chain.gateway import JsonRpcGateway
from quorate.chain.rpc import JsonRpc
from quorate.chain.transactions import Transaction
from quorate.chain.types import parse_hex, to_hex, write_atomically
from quorate.devnet.options import KEYSTORE_FILE, PASSPHRASE_FILE, DevnetOptions
from quorate.protocol.classes import Membership
from quorate.protocol.errors import ChainUnavailable, ConfigurationError
from quorate.protocol.profiles import Description

SETUP_GAS = 2_000_000
MAX_FEE_WEI = 1_000
RECEIPTS_S = 30.0
POLL_S = 0.03

PlannedCall = tuple[SigningAccount, Call, int]
"""Who sends what with how much wei."""


@dataclass(frozen=True, slots=True)
class Member:
    """An operator of the devnet and its node; its id is its index + 1, for they register in order."""

    index: int
    node: int
    account: SigningAccount
    url: str

    @property
    def operator_id(self) -> int:
        """Its id on the chain."""
        return self.index + 1


def create_wallet(home: Path) -> SigningAccount:
    """A fresh key with its keystore and passphrase file in `home`."""
    home.mkdir(parents=True, exist_ok=True)
    passphrase = secrets.token_hex(16)
    write_atomically(home / PASSPHRASE_FILE, passphrase + "\n", mode=0o600)
    account = SigningAccount.create()
    save_keystore(home / KEYSTORE_FILE, account, passphrase.encode(), DEVNET_SCRYPT_N)
    return account


def create_members(options: DevnetOptions, urls: Sequence[str]) -> list[Member]:
    """A wallet for each node, and the operators that it runs with keys derived from it."""
    members: list[Member] = []
    for node, url in enumerate(urls):
        wallet = create_wallet(options.node_home(node))
        keys = [wallet.derive(i) for i in range(options.operators_per_node)]
        members += [Member(len(members) + i, node, key, url) for i, key in enumerate(keys)]
    return members


def set_balances(rpc: JsonRpc, accounts: Sequence[SigningAccount], balance_wei: int) -> None:
    """Give accounts money as only a development chain can."""
    rpc.batch_strict([("anvil_setBalance", [to_hex(a.address), hex(balance_wei)]) for a in accounts])


def enroll(
    gateway: JsonRpcGateway,
    options: DevnetOptions,
    deployer: SigningAccount,
    members: Sequence[Member],
    requester: SigningAccount,
) -> None:
    """Create the classes, register, stake and join every operator, begin the first era, fill the requester's deposit.

    Who is to have no units is registered only. Transactions are mined in the order of their arrival, so that nothing
    has to be waited for in between.
    """
    first: list[PlannedCall] = [
        (deployer, _create_class(options, description), options.params.class_deposit)
        for description in options.classes.values()
    ]
    first.append((requester, calls.deposit(), options.deposit_wei))
    collating = {node * options.operators_per_node for node in options.collators}
    first += [(m.account, calls.deposit(), options.deposit_wei) for m in members if m.index in collating]
    register: list[PlannedCall] = [
        (m.account, calls.register(m.account.address), options.stake_of(m.index)) for m in members
    ]
    join: list[PlannedCall] = []
    for m in members:
        units = options.units_of(m.index)
        if units:
            terms = units, options.price, options.capacity
            join += [(m.account, calls.join(class_id, *terms), 0) for class_id in options.classes]
        join.append((m.account, calls.announce_endpoint(options.fronts.get(m.node, m.url)), 0))
    joined = [units for m in members if (units := options.units_of(m.index))]
    rows = [Membership(units, options.price, options.capacity) for units in joined]
    last: list[PlannedCall] = [(deployer, calls.advance_era(class_id, rows), 0) for class_id in options.classes]
    send_all(gateway, [*first, *register, *join, *last])
    _check_ids(gateway, members)


def _create_class(options: DevnetOptions, description: Description) -> Call:
    is_judged = description.find_objection(True) is None
    return calls.create_class(description.digest, options.unit_wei, options.price, is_judged)


def send_all(gateway: JsonRpcGateway, plan: Sequence[PlannedCall]) -> None:
    """Sign a plan with consecutive nonces, send it in order, and wait until all is mined.

    Raises ProtocolViolation for the first transaction that reverted.
    """
    rpc, deployment = gateway.rpc, gateway.deployment
    senders = list(dict.fromkeys(account.address for account, _, _ in plan))
    counts = rpc.batch_strict([("eth_getTransactionCount", [to_hex(a), "pending"]) for a in senders])
    nonces = {address: int(count, 16) for address, count in zip(senders, counts, strict=True)}
    hashes: list[bytes] = []
    for account, call, value in plan:
        target = deployment.address_of(call.contract)
        nonce = nonces[account.address]
        nonces[account.address] += 1
        raw = Transaction(deployment.chain_id, nonce, target, call.data, SETUP_GAS, MAX_FEE_WEI, 1, value).sign(account)
        # One by one: the calls of a batch run side by side in Anvil, and order is what counts here.
        hashes.append(parse_hex(rpc.call("eth_sendRawTransaction", to_hex(raw))))
    _wait_all(gateway, hashes)


def _wait_all(gateway: JsonRpcGateway, hashes: Sequence[bytes]) -> None:
    deadline, asked = time.monotonic() + RECEIPTS_S, [("eth_getTransactionReceipt", [to_hex(h)]) for h in hashes]
    while None in (receipts := gateway.rpc.batch_strict(asked)):
        if time.monotonic() > deadline:
            raise ChainUnavailable(f"Anvil mined nothing in {RECEIPTS_S:g} s: look at its log")
        time.sleep(POLL_S)
    for digest, receipt in zip(hashes, receipts, strict=True):
        if int(receipt["status"], 16) != 1:
            gateway.wait(digest, 1)  # says why


def _check_ids(gateway: JsonRpcGateway, members: Sequence[Member]) -> None:
    for member in members[-1:]:
        found = gateway.operator_of(member.account.address)
        if found != member.operator_id:
            raise ConfigurationError(f"operator {member.index} got id {found}: this is not a fresh chain")
