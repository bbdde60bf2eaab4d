"""Logs → events of quorate.protocol.events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from quorate.chain.abi import Contract, EventEntry, load_interface
from quorate.chain.types import Deployment, LoggedEvent, parse_hex, to_hex
from quorate.protocol import events
from quorate.protocol.events import Event

EVENT_CONTRACTS = (Contract.REGISTRY, Contract.MARKET, Contract.DISPUTES, Contract.CHALLENGES)


@cache
def event_classes() -> Mapping[tuple[str, str], type[Event]]:
    """(contract, name) → dataclass."""
    found = (value for value in vars(events).values() if isinstance(value, type) and issubclass(value, Event))
    return {(cls.contract, cls.name): cls for cls in found if cls.name}


@cache
def _plan(contract: Contract, topic: bytes) -> tuple[EventEntry, type[Event], frozenset[str]] | None:
    entry = load_interface(contract).events.get(topic)
    cls = event_classes().get((contract.value, entry.name)) if entry else None
    if entry is None or cls is None:
        return None
    return entry, cls, frozenset(name for name, type_, _ in entry.fields if type_ == "address")


def topic_of(event: type[Event]) -> str:
    """First topic of an event's logs, in hex."""
    entries = load_interface(Contract(event.contract)).events.values()
    return next(to_hex(entry.topic) for entry in entries if entry.name == event.name)


def decode_event(contract: Contract, topics: Sequence[bytes], data: bytes) -> Event | None:
    """One log of a contract; None for an event that this version does not know."""
    plan = _plan(contract, topics[0]) if topics else None
    if plan is None:
        return None
    entry, cls, addresses = plan
    values = entry.decode(list(topics), data)
    return cls(*(parse_hex(values[n]) if n in addresses else values[n] for n, _, _ in entry.fields))


def decode_log(deployment: Deployment, log: Mapping[str, Any]) -> LoggedEvent | None:
    """A log as eth_getLogs gives it; None when it is not of this deployment or unknown."""
    address = parse_hex(log["address"])
    contract = next((c for c in EVENT_CONTRACTS if deployment.address_of(c) == address), None)
    if contract is None:
        return None
    event = decode_event(contract, [parse_hex(topic) for topic in log["topics"]], parse_hex(log["data"]))
    if event is None:
        return None
    return LoggedEvent(event, int(log["blockNumber"], 16), parse_hex(log["transactionHash"]), int(log["logIndex"], 16))
