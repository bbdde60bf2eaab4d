"""The contracts' ABI: what forge compiled, and encoding and decoding with eth_abi alone (no web3: see rpc.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

from eth_abi.abi import decode, encode

from quorate.protocol.errors import UnrecoverableError
from quorate.protocol.hashing import keccak


class Contract(StrEnum):
    """The contracts of a deployment; the value is the name of the Solidity contract."""

    REGISTRY = "StakeRegistry"
    MARKET = "ComputeMarket"
    DISPUTES = "Disputes"
    CHALLENGES = "Challenges"
    BEACON = "HeaderBeacon"
    EXTENDER = "Extender"  # code that the market runs on its own storage
    # of a Filecoin network, apart from these: see quorate.filecoin.networks
    TOKEN = "DevnetToken"
    PAY = "DevnetPay"
    OPERATOR = "RetrievalOperator"


@dataclass(frozen=True, slots=True)
class Entry:
    """A function or an error: name, 4-byte selector, canonical types."""

    name: str
    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventEntry:
    """An event: its topic, and each field as (name, canonical type, indexed)."""

    name: str
    topic: bytes
    fields: tuple[tuple[str, str, bool], ...]

    def decode(self, topics: list[bytes], data: bytes) -> dict[str, Any]:
        """Field → value of one log; indexed fields must be value types."""
        plain = [(name, type_) for name, type_, indexed in self.fields if not indexed]
        # Contracts take any bytes for a string: what is no text must not hide the events beside it.
        types = ["bytes" if type_ == "string" else type_ for _, type_ in plain]
        values: dict[str, Any] = {
            name: value.decode(errors="replace") if type_ == "string" else value
            for (name, type_), value in zip(plain, decode(types, data), strict=True)
        }
        indexed = ((name, type_) for name, type_, is_indexed in self.fields if is_indexed)
        for (name, type_), topic in zip(indexed, topics[1:], strict=True):
            values[name] = decode([type_], topic)[0]
        return values


@dataclass(frozen=True, slots=True)
class Interface:
    """One contract's functions by name, events by topic, errors by selector, and creation code."""

    functions: Mapping[str, Entry]
    events: Mapping[bytes, EventEntry]
    errors: Mapping[bytes, Entry]
    constructor: tuple[str, ...]
    bytecode: bytes

    def encode_call(self, name: str, *args: Any) -> bytes:
        """Calldata: selector and arguments; structs are tuples."""
        entry = self.functions[name]
        return entry.selector + encode(entry.inputs, args)

    def decode_result(self, name: str, data: bytes) -> tuple[Any, ...]:
        """Return values; structs are tuples."""
        return decode(self.functions[name].outputs, data)


def canonical_type(field: Mapping[str, Any]) -> str:
    """ABI type with structs spelled out: `tuple[]` becomes `(uint8,…)[]`."""
    type_ = str(field["type"])
    if not type_.startswith("tuple"):
        return type_
    return f"({','.join(map(canonical_type, field['components']))}){type_[5:]}"


def parse_interface(artifact: Mapping[str, Any]) -> Interface:
    """Interface of an artifact `{"abi": […], "bytecode": "0x…"}`."""
    functions: dict[str, Entry] = {}
    events: dict[bytes, EventEntry] = {}
    errors: dict[bytes, Entry] = {}
    constructor: tuple[str, ...] = ()
    for item in artifact["abi"]:
        inputs = tuple(map(canonical_type, item.get("inputs", ())))
        digest = keccak(f"{item.get('name', '')}({','.join(inputs)})".encode())
        if item["type"] == "function":
            outputs = tuple(map(canonical_type, item["outputs"]))
            functions[item["name"]] = Entry(item["name"], digest[:4], inputs, outputs)
        elif item["type"] == "error":
            errors[digest[:4]] = Entry(item["name"], digest[:4], inputs)
        elif item["type"] == "event":
            rows = zip(item["inputs"], inputs, strict=True)
            fields = tuple((str(f["name"]), type_, bool(f["indexed"])) for f, type_ in rows)
            events[digest] = EventEntry(item["name"], digest, fields)
        elif item["type"] == "constructor":
            constructor = inputs
    bytecode = bytes.fromhex(str(artifact.get("bytecode", "")).removeprefix("0x"))
    return Interface(functions, events, errors, constructor, bytecode)


@cache
def load_artifact(contract: Contract) -> dict[str, Any]:
    """What scripts/lib/abi.py wrote for a contract. Raises UnrecoverableError when the package lacks it."""
    path = files("quorate.chain") / "abi" / f"{contract.value}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UnrecoverableError(f"{path} is missing or broken: run scripts/lib/abi.py, or install again") from error
    return found


@cache
def load_interface(contract: Contract) -> Interface:
    """A contract's interface, parsed once a process."""
    return parse_interface(load_artifact(contract))
