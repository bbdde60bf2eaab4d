"""Where the actions of a random run go besides the model: nowhere, or to contracts on a real Anvil."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tests.differential.projection import Known, compare_state

from quorate.chain import rlp
from quorate.chain.abi import Contract, load_interface
from quorate.chain.errors import decode_revert
from quorate.chain.events import decode_log
from quorate.chain.headers import encode_header
from quorate.chain.rpc import JsonRpc, RpcCall
from quorate.chain.types import Deployment, parse_hex, to_hex
from quorate.protocol import events as ev
from quorate.protocol.hashing import keccak
from quorate.protocol.types import Address
from quorate.protocol.world import World

GAS = 20_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the contracts did: a custom error's name, or events."""

    error: str | None
    events: Sequence[ev.Event]


class Backend(Protocol):
    """A chain that mines exactly when told to."""

    deployment: Deployment
    number: int
    timestamp: int

    def send(
        self, sender: Address, contract: Contract, name: str, args: Sequence[Any], value: int, timestamp: int
    ) -> Outcome | None:
        """Mine one block at `timestamp` with this call; None when nothing but the model exists."""

    def mine(self, blocks: int, seconds: int) -> None:
        """Mine empty blocks; the last one `seconds` after the present one."""

    def header(self, number: int) -> bytes:
        """RLP of a block's header."""

    def compare(self, world: World) -> None:
        """Raise AssertionError where the contracts' state is not the model's."""


class ModelBackend:
    """No chain at all: counts blocks, makes up headers."""

    def __init__(self) -> None:
        beacon, *contracts = (Address(bytes(19) + bytes((i,))) for i in range(1, 6))
        self.deployment = Deployment(31337, *contracts, beacon, 0)
        self.number, self.timestamp = 1, 1_700_000_000

    def send(
        self, sender: Address, contract: Contract, name: str, args: Sequence[Any], value: int, timestamp: int
    ) -> Outcome | None:
        self.number, self.timestamp = self.number + 1, timestamp
        return None

    def mine(self, blocks: int, seconds: int) -> None:
        self.number += blocks
        self.timestamp += seconds

    def header(self, number: int) -> bytes:
        mix_hash = keccak(b"mixHash" + number.to_bytes(8, "big"))
        return bytes(rlp.encode([b""] * 12 + [number, mix_hash, bytes(8)]))

    def compare(self, world: World) -> None:
        pass


class AnvilBackend:
    """The deployed contracts on an Anvil that impersonates every sender; it mines each transaction, and by command."""

    def __init__(self, rpc: JsonRpc, deployment: Deployment) -> None:
        self.rpc, self.deployment = rpc, deployment
        self.known: Known = {}
        self.receipt: dict[str, Any] = {}  # of the last call
        self.refresh()

    def refresh(self) -> None:
        """Read where the chain's head is."""
        block = self.rpc.call("eth_getBlockByNumber", "latest", False)
        self.number, self.timestamp = int(block["number"], 16), int(block["timestamp"], 16)

    def send(
        self, sender: Address, contract: Contract, name: str, args: Sequence[Any], value: int, timestamp: int
    ) -> Outcome | None:
        transaction = {
            "from": to_hex(sender),
            "to": to_hex(self.deployment.address_of(contract)),
            "value": hex(value),
            "gas": hex(GAS),
            "gasPrice": hex(10),
            "data": to_hex(load_interface(contract).encode_call(name, *args)),
        }
        # One round trip: the transaction is mined at once, alone, and answered with its receipt.
        calls: list[RpcCall] = [("evm_setNextBlockTimestamp", [timestamp]), ("eth_sendTransactionSync", [transaction])]
        _, receipt = self.rpc.batch_strict(calls)
        self.receipt, digest = receipt, receipt["transactionHash"]
        self.number, self.timestamp = int(receipt["blockNumber"], 16), timestamp
        if int(receipt["status"], 16) == 1:
            logged = [decode_log(self.deployment, log) for log in receipt["logs"]]
            return Outcome(None, [log.event for log in logged if log])
        trace = self.rpc.call("debug_traceTransaction", digest, {"tracer": "callTracer"})
        return Outcome(decode_revert(parse_hex(trace.get("output") or "0x")).name, [])

    def mine(self, blocks: int, seconds: int) -> None:
        if blocks > 1:
            self.rpc.call("anvil_mine", hex(blocks - 1), hex(0))
            before = self.timestamp
            self.refresh()
            seconds -= self.timestamp - before
        self.rpc.call("evm_setNextBlockTimestamp", self.timestamp + max(1, seconds))
        self.rpc.call("evm_mine")
        self.refresh()

    def header(self, number: int) -> bytes:
        return encode_header(self.rpc.call("eth_getBlockByNumber", hex(number), False))

    def compare(self, world: World) -> None:
        compare_state(self.rpc, self.deployment, world, self.known)


def normalize(events: Sequence[ev.Event]) -> Counter[tuple[object, ...]]:
    """Events as a multiset; what is summed in one contract and told piece by piece in the other is summed."""
    found: Counter[tuple[object, ...]] = Counter()
    earned: dict[int, int] = defaultdict(int)
    treasury = 0
    for event in events:
        if isinstance(event, ev.Credited):
            for entry in event.entries:
                earned[entry >> 128] += entry & ((1 << 128) - 1)
        elif isinstance(event, ev.TreasuryGrew):
            treasury += event.amount
        else:
            found[event.contract, event.name, *map(_plain, event.as_tuple())] += 1
    rest = itertools.chain(((("earned", i), n) for i, n in earned.items()), [(("treasury",), treasury)])
    for key, amount in rest:
        if amount:
            found[*key, amount] += 1
    return found


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
