"""Waiting for receipts, against an endpoint that answers what a test wants."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from quorate.chain import calls, sender
from quorate.chain.account import SigningAccount
from quorate.chain.rpc import JsonRpc, RpcCall
from quorate.chain.sender import Pace, Sender
from quorate.protocol.errors import ChainUnavailable
from quorate.protocol.types import Address


class Endpoint(JsonRpc):
    """Knows of no transaction until `receipt` is set."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.asked: Counter[str] = Counter()
        self.receipt: dict[str, str] | None = None

    def batch(self, calls: Sequence[RpcCall], timeout_s: float | None = None) -> list[Any]:
        self.asked.update(method for method, _ in calls)
        return [self._answer(method) for method, _ in calls]

    def _answer(self, method: str) -> Any:
        answers = {
            "eth_getBlockByNumber": {"baseFeePerGas": "0x1", "gasLimit": "0xffffff"},
            "eth_getTransactionReceipt": self.receipt,
            "eth_getTransactionByHash": None,
        }
        return answers.get(method, "0x1")


class Contracts:
    chain_id = 31337

    def address_of(self, contract: Any) -> Address:
        return Address(b"\x01" * 20)


def make(pace: Pace) -> tuple[Endpoint, Sender, bytes]:
    """An endpoint, and a transaction that was sent to it."""
    endpoint = Endpoint()
    made = Sender(endpoint, Contracts(), pace)
    return endpoint, made, made.send(SigningAccount.create(), calls.deposit(), gas=100_000)


def test_a_public_network_may_be_silent_for_long_before_a_transaction_counts_as_lost() -> None:
    _, hasty, transaction = make(Pace(poll_s=0.01, lost_s=0.05))
    with pytest.raises(ChainUnavailable, match="lost"):
        hasty.wait(transaction, 2.0)
    _, patient, transaction = make(Pace(poll_s=0.01, lost_s=300.0))
    with pytest.raises(ChainUnavailable, match="not mined"):
        patient.wait(transaction, 0.5)


def test_who_waits_looks_again_when_a_block_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "WATCHED_S", 60.0)
    monkeypatch.setattr(sender, "MOST_POLL_S", 60.0)
    endpoint, watched, transaction = make(Pace(poll_s=15.0, lost_s=300.0))
    watched.see(7)
    found: list[dict[str, Any]] = []
    waiter = threading.Thread(target=lambda: found.append(watched.wait(transaction, 50.0)))
    waiter.start()
    while not endpoint.asked["eth_getTransactionReceipt"]:
        time.sleep(0.01)
    watched.see(7)  # nothing new: nobody looks
    time.sleep(0.1)
    assert endpoint.asked["eth_getTransactionReceipt"] == 1
    endpoint.receipt = {"status": "0x1"}
    watched.see(8)
    waiter.join(10)
    assert found == [{"status": "0x1"}]
    assert endpoint.asked["eth_getTransactionReceipt"] == 2
