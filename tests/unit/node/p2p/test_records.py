"""Signed node records: only the key of a staked operator speaks for it, on this network, and the last word counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError as SchemaError

from quorate.chain.account import SigningAccount
from quorate.chain.signing import recover
from quorate.protocol.types import Address
from quorate_node.p2p.wire.network import NetworkName, WireError
from quorate_node.p2p.wire.records import (
    MAX_AGE_MS,
    MAX_AHEAD_MS,
    NodeRecord,
    RecordBody,
    RecordBook,
    SignedRecord,
    sign_record,
)

HERE = NetworkName(31337, Address(b"\x11" * 20))
NOW_MS = 1_700_000_000_000
OWNER, KEY, OTHER = (SigningAccount.from_key(bytes((each,)) * 32) for each in (1, 2, 3))
PEER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
RECORD = NodeRecord(
    HERE, OWNER.address, NOW_MS, PEER, ("/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/tcp/4001"), "https://node.example"
)


def make_book(**changes: object) -> RecordBook:
    """A book where OWNER staked, and its operator signs with KEY."""
    return RecordBook(HERE, {OWNER.address: KEY.address}.get, recover, **changes)  # type: ignore[arg-type]


def refuse(book: RecordBook, signed: SignedRecord, now_ms: int = NOW_MS) -> str:
    with pytest.raises(WireError) as caught:
        book.add(signed, now_ms)
    return caught.value.code


def test_a_record_of_the_signing_key_is_taken_once() -> None:
    book, signed = make_book(), sign_record(RECORD, KEY.sign)
    assert book.add(signed, NOW_MS)
    assert not book.add(signed, NOW_MS)
    assert book.get(OWNER.address) == RECORD == book.find_peer(PEER)
    assert book.list_records() == [RECORD]
    assert RECORD.list_dialable()[0] == f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}"


@pytest.mark.parametrize("signer", [OTHER, OWNER], ids=["a stranger", "the owner, whose key signs no more"])
def test_an_impostor_is_refused(signer: SigningAccount) -> None:
    assert refuse(make_book(), sign_record(RECORD, signer.sign)) == "IMPOSTOR"


@pytest.mark.parametrize(
    "change",
    [
        {"peer_id": PEER[:-1] + "q"},
        {"addresses": ("/ip4/192.0.2.2/tcp/4001",)},
        {"addresses": RECORD.addresses[::-1]},
        {"url": "https://thief.example"},
        {"sequence": NOW_MS + 1},
        {"roots": b"\x01" * 32},
        {"is_collator": True},
    ],
    ids=str,
)
def test_every_field_is_signed(change: dict[str, object]) -> None:
    forged = SignedRecord(replace(RECORD, **change), sign_record(RECORD, KEY.sign).signature)  # type: ignore[arg-type]
    assert refuse(make_book(), forged) == "IMPOSTOR"


def test_a_stranger_to_the_chain_is_refused() -> None:
    own = replace(RECORD, operator=OTHER.address)
    assert refuse(make_book(), sign_record(own, OTHER.sign)) == "UNSTAKED"


@pytest.mark.parametrize(
    ("network", "code"),
    [(NetworkName(1, HERE.market), "CHAIN"), (NetworkName(31337, Address(b"\x12" * 20)), "NETWORK")],
)
def test_a_record_of_another_chain_or_contract_is_refused(network: NetworkName, code: str) -> None:
    elsewhere = replace(RECORD, network=network)
    assert refuse(make_book(), sign_record(elsewhere, KEY.sign)) == code
    # and its signature is worth nothing here, whatever the record says
    assert refuse(make_book(), SignedRecord(RECORD, sign_record(elsewhere, KEY.sign).signature)) == "IMPOSTOR"


def test_an_old_sequence_number_is_refused() -> None:
    book = make_book()
    newer = replace(RECORD, sequence=NOW_MS + 5, url="https://moved.example")
    book.add(sign_record(newer, KEY.sign), NOW_MS)
    assert refuse(book, sign_record(RECORD, KEY.sign)) == "OLD"
    assert refuse(book, sign_record(replace(newer, url="https://again.example"), KEY.sign)) == "OLD"
    assert book.get(OWNER.address) == newer
    assert book.add(sign_record(replace(newer, sequence=NOW_MS + 6), KEY.sign), NOW_MS)


def test_records_of_yesterday_and_of_tomorrow_are_refused() -> None:
    assert refuse(make_book(), sign_record(replace(RECORD, sequence=NOW_MS - MAX_AGE_MS - 1), KEY.sign)) == "OLD"
    assert refuse(make_book(), sign_record(replace(RECORD, sequence=NOW_MS + MAX_AHEAD_MS + 1), KEY.sign)) == "FUTURE"


def test_a_book_forgets_what_is_old_and_whose_key_has_changed() -> None:
    keys: dict[Address, Address] = {OWNER.address: KEY.address}
    book = RecordBook(HERE, keys.get, recover)
    book.add(sign_record(RECORD, KEY.sign), NOW_MS)
    book.drop_old(NOW_MS + MAX_AGE_MS)
    assert len(book) == 1
    keys[OWNER.address] = OTHER.address
    book.drop_old(NOW_MS)
    assert len(book) == 0
    assert book.add(sign_record(RECORD, OTHER.sign), NOW_MS)
    book.drop_old(NOW_MS + MAX_AGE_MS + 1)
    assert book.list_records() == []


def test_a_full_book_takes_nobody_new_and_gives_pages_in_order() -> None:
    accounts = [SigningAccount.from_key(bytes((each,)) * 32) for each in range(1, 6)]
    keys = {each.address: each.address for each in accounts}
    book = RecordBook(HERE, keys.get, recover, max_records=4)
    signed = [sign_record(replace(RECORD, operator=each.address), each.sign) for each in accounts]
    for each in signed[:4]:
        assert book.add(each, NOW_MS)
    assert refuse(book, signed[4]) == "FULL"
    order = sorted(each.address for each in accounts[:4])
    first = book.list_page(bytes(20), 3)
    rest = book.list_page(first[-1].record.operator, 3)
    assert [each.record.operator for each in [*first, *rest]] == order
    assert book.list_page(b"\xff" * 20, 3) == []


def test_a_record_survives_its_message() -> None:
    signed = sign_record(replace(RECORD, is_collator=True, roots=b"\x07" * 32), KEY.sign)
    assert RecordBody.model_validate_json(RecordBody.from_signed(signed).model_dump_json()).to_signed() == signed


@pytest.mark.parametrize(
    "change",
    [
        {"addresses": ()},
        {"addresses": ("/ip4/192.0.2.1/tcp/4001",) * 9},
        {"addresses": ("/ip4/192.0.2.1/udp/4001/quic-v1",)},
        {"addresses": ("/unix/etc/passwd",)},
        {"addresses": ("/ip4/192.0.2.1/tcp/4001\n",)},
        {"url": "file:///etc/passwd"},
        {"url": "https://" + "x" * 300},
        {"peer_id": "0" * 20},
        {"peer_id": "Q" * 65},
        {"sequence": 1 << 64},
        {"roots": b"short"},
    ],
    ids=str,
)
def test_a_record_that_cannot_be_one_is_no_message(change: dict[str, object]) -> None:
    signed = SignedRecord(replace(RECORD, **change), bytes(65))  # type: ignore[arg-type]
    with pytest.raises(SchemaError):
        RecordBody.from_signed(signed)


def test_nodes_are_found_by_their_identities() -> None:
    others = [SigningAccount.from_key(bytes((each,)) * 32) for each in (11, 12, 13)]
    keys = {each.address: each.address for each in others}
    book = RecordBook(HERE, keys.get, recover)
    for number, each in enumerate(others):
        record = replace(RECORD, operator=each.address, peer_id="FirstPeer" if number < 2 else "OtherPeer")
        assert book.add(sign_record(record, each.sign), NOW_MS)
    assert book.count_peers() == 2
    first = book.find_peer("FirstPeer")
    assert first is not None
    assert first.operator == min(each.address for each in others[:2])
    (other,) = (each for each in others[:2] if each.address != first.operator)
    collating = replace(RECORD, operator=other.address, peer_id="FirstPeer", sequence=NOW_MS + 1, is_collator=True)
    assert book.add(sign_record(collating, other.sign), NOW_MS)
    assert book.find_peer("FirstPeer") == collating, "who speaks about batches is the one that collates"
    moved = replace(first, sequence=first.sequence + 1, peer_id="OtherPeer")
    book.add(sign_record(moved, next(each for each in others if each.address == first.operator).sign), NOW_MS)
    stays = book.find_peer("FirstPeer")
    assert stays is not None
    assert stays.operator != first.operator
    del keys[stays.operator]
    book.drop_old(NOW_MS)
    assert book.find_peer("FirstPeer") is None
    assert book.count_peers() == 1
