"""The port to the chain, and its implementation over JSON-RPC.

All methods block and may be called from any thread. Besides what they name they raise ChainUnavailable when no
endpoint answers, and RpcError when it answers with an error that is no contract's refusal.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from eth_abi.abi import decode, encode

from quorate.chain.abi import Contract, load_interface
from quorate.chain.account import SigningAccount
from quorate.chain.calls import Call
from quorate.chain.errors import translate
from quorate.chain.events import EVENT_CONTRACTS, decode_log, topic_of
from quorate.chain.glance import Glance
from quorate.chain.headers import encode_header, parse_head
from quorate.chain.rpc import JsonRpc, RpcCall, RpcError, check_chain_id
from quorate.chain.sender import Sender
from quorate.chain.types import (
    AccountInfo,
    BatchInfo,
    BlockHead,
    ClassInfo,
    Deployment,
    DisputeInfo,
    FaultInfo,
    LoggedEvent,
    NonceWindow,
    OperatorInfo,
    Receipt,
    RegistryLedgers,
    parse_hex,
    to_hex,
)
from quorate.protocol.classes import Membership
from quorate.protocol.disputes import DisputeStatus
from quorate.protocol.encoding import compute_domain_separator, decode_table
from quorate.protocol.errors import ChainUnavailable, ProtocolViolation
from quorate.protocol.events import EndpointAnnounced
from quorate.protocol.hashing import keccak
from quorate.protocol.job import BatchStatus
from quorate.protocol.params import WALLET_GAS, Params
from quorate.protocol.planning import Settlement
from quorate.protocol.types import Address, Table, Terms
from quorate.protocol.verdict import Aftermath

EIP1271_MAGIC = keccak(b"isValidSignature(bytes32,bytes)")[:4]
"""Selector, and what a contract wallet answers when it signed."""
HEAD_S = 5.0
"""Patience for the newest block, which is small: after a cut of the network nothing else tells that it is over."""
MAX_CLASS_ID = 2**32 - 1
LOG_BLOCKS = 2_000
"""Blocks asked for in one eth_getLogs: public endpoints refuse more."""

_T = TypeVar("_T")


class ChainGateway(Protocol):
    """What Quorate needs of a chain."""

    @property
    def deployment(self) -> Deployment: ...

    def head(self) -> BlockHead:
        """The newest block."""
        ...

    def block(self, number: int) -> BlockHead:
        """A block. Raises ChainUnavailable when it is not mined yet."""
        ...

    def header_rlp(self, number: int) -> bytes:
        """RLP of a block's header, as `prove_beacon` wants it."""
        ...

    def events(self, first: int, last: int) -> list[LoggedEvent]:
        """Events of the three contracts in blocks first to last, both included, in the chain's order."""
        ...

    def settlement(self, transaction: bytes) -> Settlement | None:
        """What a transaction gave `settle`; None where it is not known, or called something else."""
        ...

    def table(self, class_id: int, number: int) -> Table:
        """A class's table; tables never change, so each is read once."""
        ...

    def forget(self) -> None:
        """The chain was reorganised: what was read once is read again."""
        ...

    def class_info(self, class_id: int) -> ClassInfo: ...
    def class_members(self, class_id: int) -> dict[int, Membership]:
        """Members now, in their order in storage; those in jail too."""
        ...

    def drawable_members(self, class_id: int) -> list[Membership]:
        """Those that the next table is built from."""
        ...

    def faults(self, operator_id: int) -> FaultInfo: ...
    def operator(self, operator_id: int) -> OperatorInfo: ...
    def operator_of(self, owner: Address) -> int:
        """Operator id of an owner, 0 when it has none."""
        ...

    def operator_count(self) -> int: ...
    def class_count(self) -> int: ...
    def endpoints(self) -> dict[int, str]:
        """Operator id → the URL that it announced last."""
        ...

    def account(self, owner: Address) -> AccountInfo: ...
    def nonces(self, requester: Address) -> NonceWindow: ...
    def is_wallet_signed(self, account: Address, digest: bytes, signature: bytes) -> bool:
        """Whether the account is a contract that says, with the gas that `post` grants, that it signed (EIP-1271)."""
        ...

    def batch(self, batch_id: int) -> BatchInfo: ...
    def round_domain(self, batch_id: int) -> bytes: ...
    def dispute(self, dispute_id: int) -> DisputeInfo: ...
    def params(self) -> Params: ...
    def ledgers(self) -> RegistryLedgers: ...
    def balance(self, address: Address) -> int:
        """Wei that an address holds outside of the contracts."""
        ...

    def glance(self, class_id: int, owner: Address) -> Glance:
        """What an order is made by, in one round trip."""
        ...

    def domain_separator(self) -> bytes: ...

    def send(self, key: SigningAccount, call: Call, *, value: int = 0, gas: int | None = None) -> bytes:
        """Sign and send; returns the transaction's hash.

        Without `gas` it is estimated, and a call that would revert raises ProtocolViolation and is not sent. Give
        `gas` for a call that depends on one that is not mined yet.
        """
        ...

    def wait(self, transaction: bytes, timeout_s: float = 60.0) -> Receipt:
        """Until it is mined. Raises ProtocolViolation when it reverted, ChainUnavailable after `timeout_s`."""
        ...


class JsonRpcGateway:
    """ChainGateway over one JSON-RPC endpoint."""

    def __init__(self, rpc_url: str, deployment: Deployment, *, timeout_s: float = 20.0) -> None:
        self._deployment = deployment
        self.rpc = JsonRpc(rpc_url, timeout_s=timeout_s)
        self._sender = Sender(self.rpc, deployment)
        self._tables: dict[tuple[int, int], Table] = {}
        self._params: Params | None = None
        self._endpoints: dict[int, str] = {}
        self._endpoints_from = deployment.block
        self._endpoints_lock = threading.Lock()

    @property
    def deployment(self) -> Deployment:
        """Which contracts this gateway speaks to."""
        return self._deployment

    def close(self) -> None:
        """Give the connections back."""
        self.rpc.close()

    def check(self) -> None:
        """Raise ChainUnavailable unless the endpoint has the deployment's chain id and its contracts."""
        check_chain_id(self.rpc, self._deployment.chain_id)
        if self.rpc.call("eth_getCode", to_hex(self._deployment.market), "latest") in ("0x", None):
            market = to_hex(self._deployment.market)
            raise ChainUnavailable(f"{self.rpc.url} has no market at {market}: deploy again (`quorate devnet up`)")

    # blocks -------------------------------------------------------------------------------------------------------

    def head(self) -> BlockHead:
        head = parse_head(self.rpc.call("eth_getBlockByNumber", "latest", False, timeout_s=HEAD_S))
        self._sender.see(head.number)
        return head

    def block(self, number: int) -> BlockHead:
        return parse_head(self._block(number))

    def header_rlp(self, number: int) -> bytes:
        return encode_header(self._block(number))

    def _block(self, number: int) -> Mapping[str, Any]:
        block: Mapping[str, Any] | None = self.rpc.call("eth_getBlockByNumber", hex(number), False)
        if block is None:
            raise ChainUnavailable(f"block {number} is not mined yet: wait for it")
        return block

    def events(self, first: int, last: int) -> list[LoggedEvent]:
        return self._logs(first, last, None)

    def settlement(self, transaction: bytes) -> Settlement | None:
        found = self.rpc.call("eth_getTransactionByHash", to_hex(transaction))
        settle = load_interface(Contract.MARKET).functions["settle"]
        data = parse_hex(found["input"]) if found and found["to"] else b""
        is_plain = bool(data) and parse_hex(found["to"]) == self._deployment.market and data[:4] == settle.selector
        return Settlement(*decode(settle.inputs, data[4:])[1]) if is_plain else None

    def _logs(self, first: int, last: int, topics: list[str] | None) -> list[LoggedEvent]:
        addresses = [to_hex(self._deployment.address_of(contract)) for contract in EVENT_CONTRACTS]
        wanted: dict[str, Any] = {"address": addresses} | ({"topics": [topics]} if topics else {})
        calls: list[RpcCall] = []
        for start in range(first, last + 1, LOG_BLOCKS):
            end = min(start + LOG_BLOCKS - 1, last)
            calls.append(("eth_getLogs", [wanted | {"fromBlock": hex(start), "toBlock": hex(end)}]))
        logs = (log for page in self.rpc.batch_strict(calls) for log in page)
        found = [event for log in logs if (event := decode_log(self._deployment, log)) is not None]
        return sorted(found, key=lambda logged: (logged.block_number, logged.log_index))

    # state --------------------------------------------------------------------------------------------------------

    def forget(self) -> None:
        with self._endpoints_lock:
            self._tables.clear()
            self._endpoints.clear()
            self._endpoints_from = self._deployment.block

    def table(self, class_id: int, number: int) -> Table:
        found = self._tables.get((class_id, number))
        if found is None:
            ((units, unit_count, member_count, members, _),) = self._read(
                Contract.REGISTRY, "tableAt", class_id, number
            )
            codes = self.rpc.batch_strict([("eth_getCode", [a, "latest"]) for a in (units, members)])
            sizes = (unit_count * 2, member_count * 23)
            # Byte 0 is the STOP that keeps a data contract from being run.
            data = [parse_hex(code)[1 : 1 + size] for code, size in zip(codes, sizes, strict=True)]
            found = self._tables[class_id, number] = decode_table(*data)
        return found

    def class_info(self, class_id: int) -> ClassInfo:
        return ClassInfo(*self._read(Contract.REGISTRY, "class_", class_id))

    def class_members(self, class_id: int) -> dict[int, Membership]:
        return self._memberships(class_id, "members")

    def drawable_members(self, class_id: int) -> list[Membership]:
        return list(self._memberships(class_id, "drawable").values())

    def _memberships(self, class_id: int, which: str) -> dict[int, Membership]:
        (ids,) = self._read(Contract.REGISTRY, which, class_id)
        rows = self._read_many((Contract.REGISTRY, "member", (class_id, id_)) for id_ in ids)
        return {id_: Membership(*row) for id_, row in zip(ids, rows, strict=True)}

    def faults(self, operator_id: int) -> FaultInfo:
        return FaultInfo(*self._read(Contract.REGISTRY, "faults", operator_id))

    def operator(self, operator_id: int) -> OperatorInfo:
        owner, key, *rest = self._read(Contract.REGISTRY, "operator", operator_id)
        return OperatorInfo(Address(parse_hex(owner)), Address(parse_hex(key)), *rest)

    def operator_of(self, owner: Address) -> int:
        return int(self._read(Contract.REGISTRY, "operatorOf", owner)[0])

    def operator_count(self) -> int:
        return int(self._read(Contract.REGISTRY, "operatorCount")[0])

    def class_count(self) -> int:
        return int(self._read(Contract.REGISTRY, "classCount")[0])

    def endpoints(self) -> dict[int, str]:
        """Announcements since the last call are read, and no other event."""
        with self._endpoints_lock:
            first, last = self._endpoints_from, self.head().number
            for logged in self._logs(first, last, [topic_of(EndpointAnnounced)]):
                if isinstance(logged.event, EndpointAnnounced):
                    self._endpoints[logged.event.operator_id] = logged.event.url
            self._endpoints_from = last + 1
            return dict(self._endpoints)

    def account(self, owner: Address) -> AccountInfo:
        return AccountInfo(*self._read(Contract.MARKET, "account", owner))

    def nonces(self, requester: Address) -> NonceWindow:
        return NonceWindow(*self._read(Contract.MARKET, "nonces", requester))

    def is_wallet_signed(self, account: Address, digest: bytes, signature: bytes) -> bool:
        data = EIP1271_MAGIC + encode(["bytes32", "bytes"], [digest, signature])
        # What a transaction pays before its first instruction comes on top.
        gas = WALLET_GAS + 21_000 + sum(16 if byte else 4 for byte in data)
        answer = self.rpc.batch(
            [("eth_call", [{"to": to_hex(account), "data": to_hex(data), "gas": hex(gas)}, "latest"])]
        )[0]
        return not isinstance(answer, RpcError) and parse_hex(answer)[:32] == EIP1271_MAGIC.ljust(32, b"\0")

    def batch(self, batch_id: int) -> BatchInfo:
        names = ("batch", "batchTerms", "batchHashes")
        state, (terms,), hashes = self._read_many((Contract.MARKET, name, (batch_id,)) for name in names)
        status, collator = BatchStatus(state[0]), Address(parse_hex(state[1]))
        rest: tuple[Any, ...] = (*state[2:], Terms(*terms), *hashes)
        return BatchInfo(status, collator, *rest)

    def round_domain(self, batch_id: int) -> bytes:
        return bytes(self._read(Contract.MARKET, "roundDomain", batch_id)[0])

    def dispute(self, dispute_id: int) -> DisputeInfo:
        (values,) = self._read(Contract.DISPUTES, "dispute", dispute_id)
        state, kind = DisputeStatus(values[7]), Aftermath(values[8])
        return DisputeInfo(*(*values[:7], state, kind, *values[9:]))

    def params(self) -> Params:
        if self._params is None:
            (values,) = self._read(Contract.MARKET, "params")
            self._params = Params(*values)
        return self._params

    def ledgers(self) -> RegistryLedgers:
        return RegistryLedgers(*self._read(Contract.REGISTRY, "ledgers"))

    def balance(self, address: Address) -> int:
        return int(self.rpc.call("eth_getBalance", to_hex(address), "latest"), 16)

    def glance(self, class_id: int, owner: Address) -> Glance:
        asked = min(max(class_id, 0), MAX_CLASS_ID)
        reads: list[Read] = [
            (Contract.REGISTRY, "classCount", ()), (Contract.MARKET, "account", (owner,)),
            (Contract.REGISTRY, "class_", (asked,)),
        ]  # fmt: skip
        *answers, info, block = self.rpc.batch([*self._encode(reads), ("eth_getBlockByNumber", ["latest", False])])
        if isinstance(block, RpcError):
            raise block
        (count,), account = self._decode(reads[:2], answers)
        seen: tuple[int, ClassInfo] | None = None
        if not isinstance(info, RpcError):  # such as for a class that there is not: whoever reads it is told
            seen = asked, ClassInfo(*self._decode(reads[2:], [info])[0])
        return Glance(self, parse_head(block), int(count), seen, (owner, AccountInfo(*account)))

    def domain_separator(self) -> bytes:
        return compute_domain_separator(self._deployment.chain_id, self._deployment.market)

    def _read(self, contract: Contract, name: str, *args: Any) -> tuple[Any, ...]:
        (values,) = self._read_many([(contract, name, args)])
        return values

    def _read_many(self, reads: Sequence[Read] | Iterator[Read]) -> list[tuple[Any, ...]]:
        wanted = list(reads)
        return self._decode(wanted, self.rpc.batch(self._encode(wanted)))

    def _encode(self, reads: Sequence[Read]) -> list[RpcCall]:
        calls: list[RpcCall] = []
        for contract, name, args in reads:
            data = load_interface(contract).encode_call(name, *args)
            target = to_hex(self._deployment.address_of(contract))
            calls.append(("eth_call", [{"to": target, "data": to_hex(data)}, "latest"]))
        return calls

    def _decode(self, reads: Sequence[Read], answers: Sequence[Any]) -> list[tuple[Any, ...]]:
        found = []
        for (contract, name, _), answer in zip(reads, answers, strict=True):
            if isinstance(answer, RpcError):
                raise translate(answer)
            if answer == "0x":
                raise self._nobody_there(contract)
            found.append(load_interface(contract).decode_result(name, parse_hex(answer)))
        return found

    def _nobody_there(self, contract: Contract) -> ChainUnavailable:
        address = to_hex(self._deployment.address_of(contract))
        return ChainUnavailable(
            f"{self.rpc.url} has no {contract} at {address}: the chain was started anew; deploy again"
        )

    # transactions -------------------------------------------------------------------------------------------------

    def send(self, key: SigningAccount, call: Call, *, value: int = 0, gas: int | None = None) -> bytes:
        return self._sender.send(key, call, value=value, gas=gas)

    def wait(self, transaction: bytes, timeout_s: float = 60.0) -> Receipt:
        found = self._sender.wait(transaction, timeout_s)
        logs = (decode_log(self._deployment, log) for log in found["logs"])
        events = tuple(event for event in logs if event is not None)
        return Receipt(1, int(found["blockNumber"], 16), int(found["gasUsed"], 16), events)


Read = tuple[Contract, str, Sequence[Any]]
"""A view function and its arguments."""

__all__ = ["ChainGateway", "Deployment", "JsonRpcGateway", "ProtocolViolation"]
