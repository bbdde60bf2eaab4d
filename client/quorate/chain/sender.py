"""Sending transactions: nonces, fees, gas, and what became of them."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Protocol

from quorate.chain.abi import Contract
from quorate.chain.account import Signer
from quorate.chain.calls import Call
from quorate.chain.errors import translate
from quorate.chain.rpc import JsonRpc, RpcCall, RpcError
from quorate.chain.transactions import Transaction, compute_hash
from quorate.chain.types import parse_hex, to_hex
from quorate.protocol.errors import ChainUnavailable, ProtocolViolation, QuorateError
from quorate.protocol.types import Address

GAS_MARGIN = (5, 4)
"""An estimate is for the state of now; by when it is mined, cold slots and longer lists may cost a quarter more."""
SEND_ATTEMPTS = 3
LAG_S = 2.0
LOST_S = 1.0
POLL_S, MOST_POLL_S, POLL_SHARE = 0.05, 1.0, 0.15
"""How soon a receipt is looked for again: after a share of what it has taken so far, as blocks may be seconds apart."""
WATCHED_S, WATCHED_PATIENCE = 3.0, 4
"""Who was told of the newest block so lately is told of the next one, too, and may look that many times less often."""
KNOWN = ("already known", "already imported", "alreadyknown")
STALE_NONCE = ("nonce too low", "nonce too high", "replacement transaction underpriced", "nonce is too")


class Contracts(Protocol):
    """Where contracts are: a Deployment, or the payment contracts of a Filecoin network."""

    @property
    def chain_id(self) -> int: ...

    def address_of(self, contract: Contract) -> Address: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to look for a receipt, and how long a transaction must be unknown, twice in a row, to count as lost:
    endpoints behind others do not tell of what waits to be mined."""

    poll_s: float = POLL_S
    lost_s: float = LOST_S


@dataclass(slots=True)
class _Lane:
    """Next nonce of one key. Its lock makes the nonces of concurrent senders consecutive."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    next_nonce: int = 0
    used_at: float = -LAG_S


@dataclass(frozen=True, slots=True)
class _Sent:
    """What was sent: the call, for finding out why it reverted, and the nonce."""

    call: dict[str, str]
    nonce: int


class Sender:
    """Signs with any key; thread-safe.

    The next nonce is asked from the chain with every send, in the round trip of the estimate, so that a nonce that was
    given to a lost transaction (a restarted chain, a dropped mempool) leaves no gap that would block the key for good.
    Our own count is believed only for LAG_S after it was used, for endpoints that lag behind themselves.
    """

    def __init__(self, rpc: JsonRpc, contracts: Contracts, pace: Pace = Pace()) -> None:
        self._rpc, self._contracts, self._pace = rpc, contracts, pace
        self._lanes: defaultdict[Address, _Lane] = defaultdict(_Lane)
        self._lanes_lock = threading.Lock()
        self._sent: dict[bytes, _Sent] = {}
        self._newest, self._seen_at, self._mined = -1, -WATCHED_S, threading.Condition()

    def see(self, number: int) -> None:
        """The newest block that somebody has read: who waits need not look for a receipt before there is another."""
        with self._mined:
            self._seen_at = time.monotonic()
            if number != self._newest:
                self._newest = number
                self._mined.notify_all()

    def send(self, key: Signer, call: Call, *, value: int = 0, gas: int | None = None) -> bytes:
        """Send a call; the transaction's hash. Raises ProtocolViolation when the estimate reverts."""
        with self._lanes_lock:
            lane = self._lanes[key.address]
        with lane.lock:
            for attempt in range(SEND_ATTEMPTS):
                transaction = self._prepare(key, call, value, gas, lane)
                raw = transaction.sign(key)
                try:
                    self._rpc.call("eth_sendRawTransaction", to_hex(raw))
                except RpcError as error:
                    if not _is_known(error):
                        if attempt + 1 < SEND_ATTEMPTS and _has(error, STALE_NONCE):
                            lane.used_at = -LAG_S  # somebody else uses the key: believe the chain alone
                            continue
                        raise _explain(error, key, call) from error
                lane.next_nonce, lane.used_at = transaction.nonce + 1, time.monotonic()
                digest = compute_hash(raw)
                self._sent[digest] = _Sent(self._call_object(key, call, value), transaction.nonce)
                return digest
        raise AssertionError("the last attempt returns or raises")

    def _call_object(self, key: Signer, call: Call, value: int) -> dict[str, str]:
        target = to_hex(self._contracts.address_of(call.contract))
        return {"from": to_hex(key.address), "to": target, "data": to_hex(call.data), "value": hex(value)}

    def _prepare(self, key: Signer, call: Call, value: int, gas: int | None, lane: _Lane) -> Transaction:
        """Nonce, fees and gas in one round trip."""
        requests: list[RpcCall] = [
            ("eth_getTransactionCount", [to_hex(key.address), "pending"]),
            ("eth_getBlockByNumber", ["latest", False]),
            ("eth_maxPriorityFeePerGas", []),
        ]
        if gas is None:
            requests.append(("eth_estimateGas", [self._call_object(key, call, value)]))
        count, block, tip, *estimate = self._rpc.batch(requests)
        for answer in (count, block, *estimate):
            if isinstance(answer, RpcError):
                raise _explain(answer, key, call) from answer
        nonce = int(count, 16)
        if time.monotonic() - lane.used_at < LAG_S:
            nonce = max(nonce, lane.next_nonce)
        tip_wei = 1 if isinstance(tip, RpcError) else int(tip, 16)
        base_fee = int(block.get("baseFeePerGas", "0x0"), 16)
        limit = gas if gas is not None else int(estimate[0], 16) * GAS_MARGIN[0] // GAS_MARGIN[1]
        limit = min(limit, int(block["gasLimit"], 16))
        target = self._contracts.address_of(call.contract)
        fee = 2 * base_fee + tip_wei
        return Transaction(self._contracts.chain_id, nonce, target, call.data, limit, fee, tip_wei, value)

    def wait(self, transaction: bytes, timeout_s: float) -> dict[str, Any]:
        """The answer of eth_getTransactionReceipt once it is mined; see ChainGateway.wait."""
        began, lost_s, newest = time.monotonic(), self._pace.lost_s, self._newest
        deadline, look_at, is_missing = began + timeout_s, began + lost_s, False
        while (found := self._rpc.call("eth_getTransactionReceipt", to_hex(transaction))) is None:
            if time.monotonic() >= deadline:
                problem = f"transaction {to_hex(transaction)} was not mined in {timeout_s:g} s"
                raise ChainUnavailable(f"{problem}: look whether the chain makes blocks, then send again")
            if time.monotonic() >= look_at:
                was_missing, is_missing = is_missing, self._is_missing(transaction)
                if was_missing and is_missing:
                    raise self._lose(transaction)
                look_at = time.monotonic() + lost_s
            newest = self._pause(newest, time.monotonic() - began)
        sent = self._sent.pop(transaction, None)
        if int(found["status"], 16) != 1:
            raise self._find_reason(transaction, found, sent.call if sent else None)
        return dict(found)

    def _pause(self, newest: int, waited_s: float) -> int:
        """Until a block after `newest` is seen, or until it is time to look anyway; the newest block then."""
        pause_s = max(self._pace.poll_s, min(MOST_POLL_S, POLL_SHARE * waited_s))
        with self._mined:
            if time.monotonic() < self._seen_at + WATCHED_S:
                patience_s = max(pause_s, min(MOST_POLL_S, WATCHED_PATIENCE * pause_s))
                self._mined.wait_for(lambda: self._newest != newest, patience_s)
                return self._newest
        time.sleep(pause_s)
        return self._newest

    def _is_missing(self, transaction: bytes) -> bool:
        """Whether the chain has dropped what we sent, or waits for a nonce before it that will never come."""
        sent = self._sent.get(transaction)
        if sent is None:
            return False
        known, count = self._rpc.batch_strict(
            [
                ("eth_getTransactionByHash", [to_hex(transaction)]),
                ("eth_getTransactionCount", [sent.call["from"], "pending"]),
            ]
        )
        return known is None or int(count, 16) <= sent.nonce

    def _lose(self, transaction: bytes) -> ChainUnavailable:
        sent = self._sent.pop(transaction)
        with self._lanes_lock:
            lane = self._lanes[Address(parse_hex(sent.call["from"]))]
        lane.used_at = -LAG_S  # the chain knows better what comes next
        return ChainUnavailable(f"the chain lost transaction {to_hex(transaction)} (a reorganisation?): send it again")

    def _find_reason(self, transaction: bytes, receipt: dict[str, Any], call: dict[str, str] | None) -> QuorateError:
        """Repeat the call on the state before its block; receipts do not say why a transaction reverted."""
        if call is None:
            sent = self._rpc.call("eth_getTransactionByHash", to_hex(transaction))
            call = {"from": sent["from"], "to": sent["to"], "data": sent["input"], "value": sent["value"]}
        for number in (int(receipt["blockNumber"], 16) - 1, int(receipt["blockNumber"], 16)):
            try:
                self._rpc.call("eth_call", call, hex(number))
            except RpcError as error:
                return translate(error)
        used = int(receipt["gasUsed"], 16)
        return ProtocolViolation("Reverted", to_hex(transaction), hint=f"no reason found; it used {used} gas")


def _has(error: RpcError, words: tuple[str, ...]) -> bool:
    return any(word in error.reason.lower() for word in words)


def _is_known(error: RpcError) -> bool:
    """A retry of a transaction that did arrive: its hash is the same, so nothing is lost."""
    return _has(error, KNOWN)


def _explain(error: RpcError, key: Signer, call: Call) -> QuorateError:
    if _has(error, ("insufficient funds", "insufficientfunds")):
        name, account = call.name, to_hex(key.address)
        return ProtocolViolation("InsufficientFunds", account, hint=f"send it wei for the value and gas of {name}")
    return translate(error)
