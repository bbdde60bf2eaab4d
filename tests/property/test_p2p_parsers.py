"""Strangers' bytes: whatever they are, every parser of the network takes them or says by WireError why not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.chain.signing import recover
from quorate.protocol.types import Address
from quorate_node.p2p.wire.frames import decode_frame
from quorate_node.p2p.wire.messages import (
    ANNOUNCEMENTS,
    REQUESTS,
    BatchMessage,
    RecordMessage,
    RecordsQuery,
    open_announcement,
    open_answer,
    open_request,
    seal,
)
from quorate_node.p2p.wire.network import NetworkName, WireError
from quorate_node.p2p.wire.records import NodeRecord, RecordBody, RecordBook, SignedRecord
from quorate_node.p2p.wire.settings import HostSettings

HERE = NetworkName(31337, Address(b"\x11" * 20))
RECORD = NodeRecord(HERE, Address(b"\x01" * 20), 5, "12D3KooWEyopp", ("/ip4/1.2.3.4/tcp/1",), "http://a")
BODY = RecordBody.from_signed(SignedRecord(RECORD, bytes(65)))
MESSAGES = [
    seal(HERE, BatchMessage(batch_id=1)),
    seal(HERE, RecordMessage(record=BODY)),
    seal(HERE, RecordsQuery(own=[BODY])),
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("0x" + "11" * 20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good message of some kind with a few bytes changed, left out or doubled."""
    data = bytearray(draw(st.sampled_from(MESSAGES)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.integers(0, 2)):
            case 0:
                data[at] = draw(st.integers(0, 255))
            case 1:
                del data[at : at + draw(st.integers(1, 9))]
            case _:
                data[at:at] = data[at : at + draw(st.integers(1, 30))]
    return bytes(data) or b"0"


@st.composite
def reworked(draw: st.DrawFn) -> bytes:
    """A good message of which one value, at any depth, became another."""
    message: Any = json.loads(draw(st.sampled_from(MESSAGES)))
    place = message
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or draw(st.booleans()):
            break
        place = place[key]
    place[key] = draw(json_values)
    return json.dumps(message).encode()


strange = st.binary(max_size=300) | mutated() | reworked() | json_values.map(lambda value: json.dumps(value).encode())


@settings(max_examples=400, deadline=None)
@given(data=strange)
def test_messages_are_taken_or_refused(data: bytes) -> None:
    for kind, schema in ANNOUNCEMENTS.items():
        check(lambda kind=kind: open_announcement(HERE, kind, data, 1024), schema)
    for kind, schemas in REQUESTS.items():
        check(lambda kind=kind: open_request(HERE, kind, data), schemas.request)
        check(lambda kind=kind: open_answer(HERE, kind, data), object)


def check(parse: Any, schema: type) -> None:
    try:
        said: object = parse()
    except WireError as error:
        said = error
    assert isinstance(said, schema) or getattr(said, "code", None) in {"SIZE", "SCHEMA", "VERSION", "CHAIN", "NETWORK"}


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60), values=json_values)
def test_frames_and_settings_are_taken_or_refused(data: bytes, values: Any) -> None:
    header = json.dumps(values).encode()
    for frame in (data, len(header).to_bytes(2, "big") + header + data):
        try:
            code = "" if decode_frame(frame).encode()[4:] else "nothing"
        except WireError as error:
            code = error.code
        assert code in ("", "SCHEMA")
    with pytest.raises(WireError):
        HostSettings.from_values(values if isinstance(values, dict) else {})


@settings(max_examples=100, deadline=None)
@given(signature=st.binary(max_size=70), sequence=st.integers(0, (1 << 64) - 1), digits=st.text(max_size=20))
def test_no_signature_by_chance_is_an_operators(signature: bytes, sequence: int, digits: str) -> None:
    record = NodeRecord(HERE, RECORD.operator, sequence, digits, RECORD.addresses, digits)
    book = RecordBook(HERE, {RECORD.operator: Address(b"\x02" * 20)}.get, recover)
    with pytest.raises(WireError):
        book.add(SignedRecord(record, signature), sequence)
    assert len(book) == 0
