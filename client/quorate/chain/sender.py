"""Sending transactions: nonces, fees, gas, and what became of them."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from quorate.chain.account import SigningAccount
from quorate.chain.calls import Call
from quorate.chain.errors import translate
from quorate.chain.events import decode_log
from quorate.chain.rpc import JsonRpc, RpcCall, RpcError
from quorate.chain.transactions import Transaction, compute_hash
from quorate.chain.types import Deployment, Receipt, parse_hex, to_hex
from quorate.protocol.errors import ChainUnavailable, ProtocolViolation, QuorateError
from quorate.protocol.types import Address

GAS_MARGIN = (5, 4)
"""An estimate is for the state of now; by when it is mined, cold slots and longer lists may cost a quarter more."""
SEND_ATTEMPTS = 3
LAG_S = 2.0
LOST_S = 1.0
"""How long a transaction must be unknown, twice in a row, to count as lost."""
POLL_S = 0.05
KNOWN = ("already known", "already imported", "alreadyknown")
STALE_NONCE = ("nonce too low", "nonce too high", "replacement transaction underpriced", "nonce is too")


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

    def __init__(self, rpc: JsonRpc, deployment: Deployment) -> None:
        self._rpc, self._deployment = rpc, deployment
        self._lanes: defaultdict[Address, _Lane] = defaultdict(_Lane)
        self._lanes_lock = threading.Lock()
        self._sent: dict[bytes, _Sent] = {}

    def send(self, key: SigningAccount, call: Call, *, value: int = 0, gas: int | None = None) -> bytes:
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

    def _call_object(self, key: SigningAccount, call: Call, value: int) -> dict[str, str]:
        target = to_hex(self._deployment.address_of(call.contract))
        return {"from": to_hex(key.address), "to": target, "data": to_hex(call.data), "value": hex(value)}

    def _prepare(self, key: SigningAccount, call: Call, value: int, gas: int | None, lane: _Lane) -> Transaction:
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
        target = self._deployment.address_of(call.contract)
        fee = 2 * base_fee + tip_wei
        return Transaction(self._deployment.chain_id, nonce, target, call.data, limit, fee, tip_wei, value)

    def wait(self, transaction: bytes, timeout_s: float) -> Receipt:
        """Receipt of a transaction once it is mined; see ChainGateway.wait."""
        deadline, look_at, is_missing = time.monotonic() + timeout_s, time.monotonic() + LOST_S, False
        while (found := self._rpc.call("eth_getTransactionReceipt", to_hex(transaction))) is None:
            if time.monotonic() >= deadline:
                problem = f"transaction {to_hex(transaction)} was not mined in {timeout_s:g} s"
                raise ChainUnavailable(f"{problem}: look whether the chain makes blocks, then send again")
            if time.monotonic() >= look_at:
                was_missing, is_missing = is_missing, self._is_missing(transaction)
                if was_missing and is_missing:
                    raise self._lose(transaction)
                look_at = time.monotonic() + LOST_S
            time.sleep(POLL_S)
        sent = self._sent.pop(transaction, None)
        if int(found["status"], 16) != 1:
            raise self._find_reason(transaction, found, sent.call if sent else None)
        logs = (decode_log(self._deployment, log) for log in found["logs"])
        events = tuple(event for event in logs if event is not None)
        return Receipt(1, int(found["blockNumber"], 16), int(found["gasUsed"], 16), events)

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


def _explain(error: RpcError, key: SigningAccount, call: Call) -> QuorateError:
    if _has(error, ("insufficient funds", "insufficientfunds")):
        name, account = call.name, to_hex(key.address)
        return ProtocolViolation("InsufficientFunds", account, hint=f"send it wei for the value and gas of {name}")
    return translate(error)
