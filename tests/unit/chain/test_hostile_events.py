"""Whatever anybody can have a contract say must leave those who read the chain on their feet."""

from __future__ import annotations

from eth_abi.abi import encode

from quorate.chain.abi import Contract, load_interface
from quorate.chain.events import decode_event
from quorate.protocol.events import EndpointAnnounced


def test_an_endpoint_that_is_no_text_blinds_nobody() -> None:
    """The contract takes any bytes for a string, from anybody with gas: one such log stopped all that replay events."""
    entries = load_interface(Contract.REGISTRY).events.values()
    entry = next(each for each in entries if each.name == "EndpointAnnounced")
    topics = [entry.topic, encode(["uint24"], [7])]
    event = decode_event(Contract.REGISTRY, topics, encode(["bytes"], [b"http://\xff\xfe"]))
    assert isinstance(event, EndpointAnnounced)
    assert event.operator_id == 7
