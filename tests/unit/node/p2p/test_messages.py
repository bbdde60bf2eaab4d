"""Envelopes: what is of another version, chain, network, size or kind is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quorate.messages import ErrorDetail, StatusQuery, VoteOpeningMessage
from quorate.protocol.types import Address
from quorate_node.p2p.wire.messages import (
    ANNOUNCEMENTS,
    REQUESTS,
    BatchMessage,
    RecordsAnswer,
    Taken,
    open_announcement,
    open_answer,
    open_request,
    seal,
)
from quorate_node.p2p.wire.network import NetworkName, WireError

HERE = NetworkName(31337, Address(b"\x11" * 20))
BATCH = BatchMessage(batch_id=7, providers=["http://127.0.0.1:1"])


def refuse(data: bytes, kind: str = "batches", max_bytes: int = 4096) -> str:
    with pytest.raises(WireError) as caught:
        open_announcement(HERE, kind, data, max_bytes)
    return caught.value.code


def change(**values: Any) -> bytes:
    return json.dumps(json.loads(seal(HERE, BATCH)) | values).encode()


def test_a_message_survives_its_envelope() -> None:
    assert open_announcement(HERE, "batches", seal(HERE, BATCH), 4096) == BATCH
    opening = VoteOpeningMessage(dispute_id=1, member=2, vote=b"\x03" * 32, salt=b"\x04" * 16)
    assert open_request(HERE, "vote-openings", seal(HERE, opening)) == opening
    assert open_answer(HERE, "votes", seal(HERE, Taken())) == Taken()
    refusal = ErrorDetail(type="TOO_LATE", message="the window is closed")
    assert open_answer(HERE, "votes", seal(HERE, None, refusal)) == refusal


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"version": 2}, "VERSION"),
        ({"version": 0}, "VERSION"),
        ({"version": "1"}, "SCHEMA"),
        ({"version": None}, "SCHEMA"),
        ({"chain_id": 1}, "CHAIN"),
        ({"chain_id": -1}, "SCHEMA"),
        ({"network": "0x" + "22" * 16}, "NETWORK"),
        ({"network": "0x22"}, "SCHEMA"),
        ({"body": None}, "SCHEMA"),
        ({"body": []}, "SCHEMA"),
        ({"body": {"batch_id": 7, "surplus": 1}}, "SCHEMA"),
        ({"body": {"batch_id": 1 << 64}}, "SCHEMA"),
        ({"body": {"batch_id": 7, "providers": ["http://a"] * 9}}, "SCHEMA"),
        ({"surplus": 1}, "SCHEMA"),
    ],
    ids=str,
)
def test_what_does_not_belong_here_is_refused_by_name(values: dict[str, Any], code: str) -> None:
    assert refuse(change(**values)) == code


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 4000, b'{"a":' * 700, b"1e999"], ids=repr
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    assert refuse(data) == "SCHEMA"


def test_sizes_and_kinds_are_limited() -> None:
    assert refuse(seal(HERE, BATCH), max_bytes=10) == "SIZE"
    assert refuse(seal(HERE, BATCH), kind="jobs") == "KIND"
    for kind, schemas in REQUESTS.items():
        with pytest.raises(WireError) as caught:
            open_request(HERE, kind, b" " * (schemas.max_bytes + 1))
        assert caught.value.code == "SIZE"
    for call in (open_request, open_answer):
        with pytest.raises(WireError, match="no request is called"):
            call(HERE, "batches", seal(HERE, BATCH))


def test_a_body_of_another_kind_is_refused() -> None:
    for kind in ANNOUNCEMENTS.keys() - {"batches"}:
        assert refuse(seal(HERE, BATCH), kind=kind) == "SCHEMA"
    with pytest.raises(WireError, match="RecordsAnswer"):
        open_answer(HERE, "records", seal(HERE, StatusQuery()))
    assert open_answer(HERE, "records", seal(HERE, RecordsAnswer(records=[]))) == RecordsAnswer(records=[])


def test_networks_share_no_name() -> None:
    others = [NetworkName(1, HERE.market), NetworkName(31337, Address(b"\x12" * 20))]
    for kind in ("records", "vote-openings"):
        names = {each.name_topic(kind) for each in (HERE, *others)} | {
            each.name_protocol(kind) for each in (HERE, *others)
        }
        assert len(names) == 6
    with pytest.raises(ValueError, match="is no kind"):
        HERE.name_topic("a/b")
