"""A gateway whose chain is the pure registry: what commands send takes effect at once, and gas costs a fixed fee."""

from __future__ import annotations

import copy
from typing import Any

import rlp
from eth_abi.abi import decode
from eth_account import Account

from quorate.chain.abi import Contract, load_interface
from quorate.chain.account import SigningAccount
from quorate.chain.calls import Call as Sent
from quorate.chain.rpc import RpcError
from quorate.chain.types import (
    ClassInfo,
    Deployment,
    FaultInfo,
    LoggedEvent,
    OperatorInfo,
    Receipt,
    parse_address,
    parse_hex,
    to_hex,
)
from quorate.protocol.classes import Membership
from quorate.protocol.context import Block, Call
from quorate.protocol.hashing import keccak
from quorate.protocol.params import ETHER, LOCAL, Params
from quorate.protocol.profiles import Description
from quorate.protocol.registry import Registry
from quorate.protocol.spec import WASM_PROFILE
from quorate.protocol.types import Address, OperatorId

UNIT = ETHER // 10
FEE = 10**12
"""What each call to a contract costs its sender, in wei."""
METHODS = {"leave": "apply_leave", "join": "apply_join", "stake": "apply_stake", "register": "apply_register",
           "unstake": "apply_unstake", "withdraw": "apply_withdraw", "rejoin": "apply_rejoin",
           "createClass": "apply_create_class", "setAsk": "apply_set_ask",
           "setSigningKey": "apply_set_signing_key"}  # fmt: skip


class RegistryChain:
    """What the stake commands ask of JsonRpcGateway. `gone` are senders whose transactions get no answer."""

    def __init__(self) -> None:
        others = [Address(keccak(b"contract %d" % i)[12:]) for i in range(3)]
        self.registry, self.now, self.rpc = Registry(LOCAL, *others), 10**9, self
        self.deployment = Deployment(31337, *others, others[0], others[0])
        self.balances: dict[Address, int] = {}
        self.nonces: dict[Address, int] = {}
        self.sent: list[str] = []
        self.receipts: dict[bytes, Receipt] = {}
        self.gone: dict[Address, Exception] = {}
        creation = Call(others[0], Block(1, self.now), LOCAL.class_deposit)
        self.registry.apply_create_class(creation, Description(WASM_PROFILE).digest, UNIT, 10**9, judged=True)

    def enroll(self, key: SigningAccount, stake: int, units: int = 0) -> int:
        """An operator of this key, with something for gas."""
        call = Call(key.address, Block(1, self.now), stake)
        self.registry.apply_register(call, key.address)
        if units:
            self.registry.apply_join(call, 1, units, 10**9, 10**9)
        self.balances[key.address] = ETHER // 100
        return self.operator_of(key.address)

    # the gateway

    def send(self, key: SigningAccount, call: Sent, *, value: int = 0) -> bytes:
        if error := self.gone.get(key.address):
            raise error
        args = list(decode(load_interface(Contract.REGISTRY).functions[call.name].inputs, call.data[4:]))
        if call.name in ("register", "setSigningKey"):
            args = [parse_address(args[0])]
        call_of_now = Call(key.address, Block(2, self.now), value)
        getattr(copy.deepcopy(self.registry), METHODS[call.name])(call_of_now, *args)  # as gas is estimated: first
        if self.balance(key.address) < value + FEE:
            raise RpcError("eth_sendRawTransaction", -32000, "insufficient funds")
        events = getattr(self.registry, METHODS[call.name])(call_of_now, *args)
        paid = events[0].amount if call.name == "withdraw" else 0
        self.balances[key.address] += paid - value - FEE
        self.sent.append(call.name)
        digest = keccak(repr(self.sent).encode())
        logs = tuple(LoggedEvent(event, 2, digest, index) for index, event in enumerate(events))
        self.receipts[digest] = Receipt(1, 2, 100_000, logs)
        return digest

    def wait(self, transaction: bytes, timeout_s: float) -> Receipt:
        return self.receipts[transaction]

    def balance(self, address: Address) -> int:
        return self.balances.get(address, 0)

    def params(self) -> Params:
        return LOCAL

    def operator_of(self, owner: Address) -> int:
        return self.registry.operator_of.get(owner, 0)

    def operator(self, operator_id: int) -> OperatorInfo:
        found = self.registry.operators[OperatorId(operator_id)]
        allocated = self.registry.allocated(OperatorId(operator_id))
        return OperatorInfo(
            found.owner, found.signing_key, found.stake, allocated, found.unbonding, found.release_at, 0, found.ejected
        )

    def faults(self, operator_id: int) -> FaultInfo:
        return FaultInfo(0, 0, 0, 0, self.registry.operators[OperatorId(operator_id)].jailed_until, 0, 0, 0, 0)

    def class_count(self) -> int:
        return len(self.registry.classes)

    def class_members(self, class_id: int) -> dict[int, Membership]:
        return dict(self.registry.classes[class_id].members)

    def class_info(self, class_id: int) -> ClassInfo:
        found = self.registry.classes[class_id]
        return ClassInfo(found.profile, found.unit_wei, found.price, 0, 0, 0, 0, False, found.judged)

    # JSON-RPC, for plain transfers

    def batch(self, calls: list[tuple[str, list[Any]]]) -> list[Any]:
        return [self.call(method, *params) for method, params in calls]

    def call(self, method: str, *params: Any) -> Any:
        if method == "eth_getTransactionCount":
            return hex(self.nonces.get(parse_address(params[0]), 0))
        if method == "eth_getBalance":
            return hex(self.balance(parse_address(params[0])))
        if method == "eth_sendRawTransaction":
            return self._transfer(parse_hex(params[0]))
        return {"eth_getBlockByNumber": {"baseFeePerGas": "0x100000"}, "eth_maxPriorityFeePerGas": "0x1",
                "eth_estimateGas": hex(21_000)}[method]  # fmt: skip

    def _transfer(self, raw: bytes) -> str:
        sender = parse_address(Account.recover_transaction(raw))
        fields = rlp.decode(raw[1:])
        target, value = Address(fields[5]), int.from_bytes(fields[6], "big")
        assert self.balance(sender) >= value
        self.balances[sender] -= value
        self.balances[target] = self.balance(target) + value
        self.nonces[sender] = self.nonces.get(sender, 0) + 1
        self.sent.append("transfer")
        self.receipts[keccak(raw)] = Receipt(1, 2, 21_000, ())
        return to_hex(keccak(raw))
