"""Filecoin's published vectors: addresses, signatures, messages and piece CIDs."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from quorate.filecoin import addresses, signatures
from quorate.filecoin.addresses import AddressError, FilecoinAddress, Network
from quorate.filecoin.messages import Message
from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.piecetree import compute_piece
from quorate.protocol.hashing import keccak
from quorate.storage.cid import Cid

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "published" / "filecoin.json").read_text())
# The specification's appendix, ref-fvm and Trust Wallet: a text and its bytes.
SPECIFICATION = {
    "f00": "0000",
    "f01024": "008008",
    "f018446744073709551615": "00ffffffffffffffffff01",
    "f17uoq6tp427uzv7fztkbsnn64iwotfrristwpryy": "01fd1d0f4dfcd7e99afcb99a8326b7dc459d32c628",
    "f24vg6ut43yw2h2jqydgbg2xq7x6f4kub3bg6as6i": "02e54dea4f9bc5b47d261819826d5e1fbf8bc5503b",
    "f3vvmn62lofvhjd2ugzca6sof2j2ubwok6cj4xxbfzz4yuxfkgobpihhd2thlanmsh3w2ptld2gqkn2jvlss4a": "03ad58df696e2d4e91ea86c8"
    "81e938ba4ea81b395e12797b84b9cf314b9546705e839c7a99d606b247ddb4f9ac7a3414dd",
    "f410frw6wy7w6sbsguyn3yzeygg34fgf72n5ao5sxyky": "040a8dbd6c7ede90646a61bbc649831b7c298bfd37a0",
    "f418446744073709551615ftnkyfaq": "04ffffffffffffffffff01",
    "f49223372036854775807fiic6zsy": "04ffffffffffffffff7f",
}
MALFORMED = {  # go-address's own, and what it says of them in our words
    "Q2gfvuyh7v2sx3patm5k23wdzmhyhtmqctasbr23y": "starts with 'Q'",
    "t4gfvuyh7v2sx3patm5k23wdzmhyhtmqctasbr23y": "namespace 'g'",
    "t2gfvuyh7v2sx3patm5k23wdzmhyhtmqctasbr24y": "checksum does not fit",
    "t0banananananannnnnnnnn": "not written in digits",
    "t2gfvuyh7v2sx3patm1k23wdzmhyhtmqctasbr24y": "character '1'",
    "t2gfvuyh7v2sx3paTm1k23wdzmhyhtmqctasbr24y": "small letters",
    "t2": "too short",
    "t1234": "has 41 characters",
    "f018446744073709551616": "above 2^64 - 1",
    "f432f77777777x32lpn": "a character too many, or lacks some",
}


def read_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def make_content(name: str) -> bytes:
    quads = b"".join(bytes((number,)) * 127 for number in range(4))
    return {"empty": b"", "127 bytes 0x00": bytes(127), "128 bytes 0x00": bytes(128)}.get(
        name, quads if name.startswith("127 bytes 0x00, ") else quads + bytes(4)
    )


@pytest.mark.parametrize("row", VECTORS["addresses"]["secp256k1"], ids=lambda row: row["address"][:8])
def test_secp256k1_addresses(row: dict[str, str]) -> None:
    found = signatures.compute_secp256k1_address(read_base64(row["private_key_base64"]))
    assert str(found) == row["address"]
    assert addresses.parse(row["address"]) == (found, Network.MAINNET)


@pytest.mark.parametrize("row", VECTORS["addresses"]["bls"], ids=lambda row: row["address"][:8])
def test_bls_addresses(row: dict[str, str]) -> None:
    found = signatures.compute_bls_address(read_base64(row["private_key_base64_little_endian"]))
    assert str(found) == row["address"]


@pytest.mark.parametrize("row", VECTORS["addresses"]["delegated"], ids=lambda row: row["address"][:8])
def test_ethereum_addresses(row: dict[str, str]) -> None:
    found, network = addresses.parse(row["ethereum"])
    assert (str(found), network) == (row["address"], None)
    assert addresses.to_checksummed(found.to_ethereum()).lower() == row["ethereum"]


@pytest.mark.parametrize("text", VECTORS["addresses"]["valid"])
def test_valid_addresses(text: str) -> None:
    assert str(addresses.parse(text)[0]) == text


@pytest.mark.parametrize("text", VECTORS["addresses"]["invalid"])
def test_invalid_addresses(text: str) -> None:
    with pytest.raises(AddressError, match=r"copy it again|bits that belong to nothing"):
        addresses.parse(text)


@pytest.mark.parametrize(("text", "data"), SPECIFICATION.items())
def test_addresses_of_the_specification(text: str, data: str) -> None:
    found, _ = addresses.parse(text)
    assert found.to_bytes().hex() == data
    assert FilecoinAddress.from_bytes(bytes.fromhex(data)) == found
    assert addresses.parse("t" + text[1:]) == (found, Network.TESTNET)


@pytest.mark.parametrize(("text", "reason"), MALFORMED.items())
def test_malformed_addresses_are_refused_with_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(AddressError) as refused:
        addresses.parse(text)
    assert reason in str(refused.value)


@pytest.mark.parametrize("row", VECTORS["signatures"], ids=lambda row: row["message_utf8"])
def test_signatures(row: dict[str, str]) -> None:
    key, message = read_base64(row["private_key_base64"]), row["message_utf8"].encode()
    made = signatures.sign(message, key)
    assert made.to_bytes().hex() == row["signature_hex"]
    signer = signatures.compute_secp256k1_address(key)
    assert signatures.verify(made, message, signer)
    assert not signatures.verify(made, message + b"!", signer)


@pytest.mark.parametrize("row", VECTORS["messages"], ids=lambda row: row["cid"][-8:])
def test_message_cids(row: dict[str, Any]) -> None:
    wanted = row["cid"]
    message = Message.from_json({name: value for name, value in row.items() if name != "cid"})
    assert str(message.cid) == wanted
    assert Message.from_bytes(message.to_bytes()) == message
    assert Message.from_json(message.to_json()) == message


@pytest.mark.parametrize("row", VECTORS["piece_cid_v2"], ids=lambda row: row["content"][:16])
def test_piece_cids(row: dict[str, str]) -> None:
    content = make_content(row["content"])
    piece = compute_piece([content])
    assert str(piece.v2) == row["v2"]
    assert row.get("v1") in (None, str(piece.v1))
    assert PieceCid.parse(row["v2"]) == piece
    assert piece.size_bytes == len(content)
    assert PieceCid.from_v1(Cid.parse(str(piece.v1)), piece.padded_bytes, len(content)) == piece


def test_selectors_of_filecoin_pay_that_take_no_structs() -> None:
    signatures_of = {"terminateRail": "terminateRail(uint256)", "settleRail": "settleRail(uint256,uint256)"}
    for name, signature in signatures_of.items():
        assert keccak(signature.encode())[:4].hex() == VECTORS["filecoin_pay_selectors"][name]
