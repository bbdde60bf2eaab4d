"""ABI, events and errors: everything that a contract can say has its place in Python."""

from __future__ import annotations

import re
from typing import Any

import pytest
from eth_abi.abi import encode

from quorate.chain.abi import Contract, Entry, EventEntry, canonical_type, load_interface
from quorate.chain.errors import HINTS, decode_revert, error_table, find_revert_data, translate
from quorate.chain.events import EVENT_CONTRACTS, decode_event, decode_log, event_classes
from quorate.chain.rpc import RpcError
from quorate.chain.types import Deployment, to_hex
from quorate.protocol.errors import ProtocolViolation
from quorate.protocol.hashing import keccak
from quorate.protocol.types import Address

DEPLOYMENT = Deployment(31337, *(Address(bytes([i]) * 20) for i in range(1, 6)))


def sample(type_: str, seed: int) -> Any:
    if type_.endswith("[]"):
        return (sample(type_[:-2], seed), sample(type_[:-2], seed + 1))
    if type_ == "address":
        return to_hex(bytes([seed]) * 20)
    if type_ == "bool":
        return True
    if type_ == "string":
        return f"text {seed}"
    if type_ == "bytes":
        return bytes([seed]) * 40
    if size := re.fullmatch(r"bytes(\d+)", type_):
        return bytes([seed]) * int(size[1])
    return seed + 1


def all_events() -> list[tuple[Contract, EventEntry]]:
    return [(c, entry) for c in EVENT_CONTRACTS for entry in load_interface(c).events.values()]


def test_each_event_of_the_contracts_has_its_dataclass_and_no_dataclass_is_left_over() -> None:
    assert {(c.value, entry.name) for c, entry in all_events()} == set(event_classes())


@pytest.mark.parametrize(("contract", "entry"), all_events(), ids=lambda v: getattr(v, "name", v))
def test_events_survive_a_log(contract: Contract, entry: EventEntry) -> None:
    values = [sample(type_, i) for i, (_, type_, _) in enumerate(entry.fields)]
    rows = list(zip(entry.fields, values, strict=True))
    topics = [entry.topic, *(encode([t], [v]) for (_, t, indexed), v in rows if indexed)]
    plain = [(t, v) for (_, t, indexed), v in rows if not indexed]
    data = encode([t for t, _ in plain], [v for _, v in plain])
    wanted = tuple(bytes.fromhex(v[2:]) if t == "address" else v for (_, t, _), v in rows)
    event = decode_event(contract, topics, data)
    assert event is not None
    assert (event.contract, event.name, event.as_tuple()) == (contract.value, entry.name, wanted)
    log = {
        "address": to_hex(DEPLOYMENT.address_of(contract)), "topics": [to_hex(t) for t in topics], "data": to_hex(data),
        "blockNumber": "0x10", "transactionHash": to_hex(bytes(32)), "logIndex": "0x2",
    }  # fmt: skip
    logged = decode_log(DEPLOYMENT, log)
    assert logged is not None
    assert (logged.event, logged.block_number, logged.log_index) == (event, 16, 2)


def test_logs_of_others_are_left_out() -> None:
    assert decode_event(Contract.MARKET, [keccak(b"Unknown()")], b"") is None
    assert decode_event(Contract.MARKET, [], b"") is None
    log = {"address": to_hex(bytes(20)), "topics": [], "data": "0x"}
    assert decode_log(DEPLOYMENT, log) is None


@pytest.mark.parametrize("entry", error_table().values(), ids=lambda e: f"{e.name}({','.join(e.inputs)})")
def test_every_custom_error_is_named_with_its_arguments_and_a_hint(entry: Entry) -> None:
    values = [sample(type_, i) for i, type_ in enumerate(entry.inputs)]
    violation = decode_revert(entry.selector + encode(entry.inputs, values))
    assert violation.name == entry.name
    assert violation.args_ == tuple(to_hex(v) if isinstance(v, bytes) else v for v in values)  # as people read them
    assert HINTS[entry.name] in str(violation)


def test_hints_are_for_errors_that_exist() -> None:
    assert set(HINTS) == {entry.name for entry in error_table().values()}


def test_other_revert_data() -> None:
    plain = decode_revert(bytes.fromhex("08c379a0") + encode(["string"], ["no"]))
    assert (plain.name, plain.args_) == ("Error", ("no",))
    assert decode_revert(bytes.fromhex("4e487b71") + encode(["uint256"], [17])).args_ == (17,)
    assert decode_revert(b"").name == "Reverted"
    assert decode_revert(b"\x12\x34\x56\x78").args_ == ("0x12345678",)
    cut = next(e for e in error_table().values() if e.inputs).selector
    assert decode_revert(cut).name == "Reverted"


@pytest.mark.parametrize(
    ("data", "message", "found"),
    [
        ("0x1234", "execution reverted", b"\x12\x34"),
        ({"data": "0x12"}, "VM Exception", b"\x12"),
        (None, "execution reverted", b""),
        (None, "header not found", None),
    ],
)
def test_revert_data_wherever_it_stands(data: object, message: str, found: bytes | None) -> None:
    error = RpcError("eth_call", 3, message, data)
    assert find_revert_data(error) == found
    assert isinstance(translate(error), RpcError if found is None else ProtocolViolation)


def test_types_with_structs() -> None:
    inner = {"type": "tuple", "components": [{"type": "uint8"}, {"type": "bytes32[]"}]}
    assert canonical_type(inner) == "(uint8,bytes32[])"
    assert canonical_type({"type": "tuple[2]", "components": [inner]}) == "((uint8,bytes32[]))[2]"
