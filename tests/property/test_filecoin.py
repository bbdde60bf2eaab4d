"""Addresses, messages and signatures go round, and one wrong character is noticed."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quorate.filecoin import addresses, cborcodec, signatures
from quorate.filecoin.addresses import AddressError, FilecoinAddress, Kind, Network
from quorate.filecoin.messages import MAX_AMOUNT, Message, SignedMessage
from quorate.filecoin.signatures import Signature, SignatureType
from quorate.protocol.errors import DataError

NUMBERS = st.integers(0, (1 << 64) - 1)
HASHES = st.binary(min_size=20, max_size=20)
ADDRESSES = st.one_of(
    st.builds(FilecoinAddress, st.just(Kind.ID), NUMBERS, st.just(b"")),
    st.builds(FilecoinAddress, st.sampled_from([Kind.SECP256K1, Kind.ACTOR]), st.just(0), HASHES),
    st.builds(FilecoinAddress, st.just(Kind.BLS), st.just(0), st.binary(min_size=48, max_size=48)),
    st.builds(FilecoinAddress, st.just(Kind.DELEGATED), NUMBERS, st.binary(max_size=54)),
)
KEYS = st.integers(1, signatures.SECP256K1_ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
AMOUNTS = st.integers(0, MAX_AMOUNT)
GAS = st.integers(0, (1 << 63) - 1)
MESSAGES = st.builds(
    Message,
    ADDRESSES,
    ADDRESSES,
    NUMBERS,
    AMOUNTS,
    st.integers(0, (1 << 63) - 1),
    AMOUNTS,
    AMOUNTS,
    NUMBERS,
    st.binary(),
)
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789ABF -"


@given(ADDRESSES, st.sampled_from(Network))
def test_an_address_goes_round(address: FilecoinAddress, network: Network) -> None:
    assert addresses.parse(address.to_text(network)) == (address, network)
    assert FilecoinAddress.from_bytes(address.to_bytes()) == address


@given(ADDRESSES.filter(lambda each: each.kind is not Kind.ID), st.data())
def test_one_wrong_character_is_noticed(address: FilecoinAddress, data: st.DataObject) -> None:
    text = str(address)
    at = data.draw(st.integers(1, len(text) - 1))
    wrong = text[:at] + data.draw(st.sampled_from(CHARACTERS)) + text[at + 1 :]
    assume(wrong != text)
    with pytest.raises(AddressError):
        addresses.parse(wrong)


@given(HASHES)
def test_ethereum_addresses_go_round(raw: bytes) -> None:
    found = FilecoinAddress.from_ethereum(raw)
    assert found.to_ethereum() == raw
    assert addresses.parse(addresses.to_checksummed(raw)) == (found, None)


@given(st.one_of(st.text(max_size=8), st.lists(st.sampled_from(CHARACTERS), max_size=60).map("".join)))
@settings(max_examples=50)
def test_rubbish_is_refused_or_has_one_spelling(text: str) -> None:
    for spelling in (text, f"f0{text}", f"f4{text}"):
        try:
            found, network = addresses.parse(spelling)
        except AddressError:
            continue
        assert network is not None
        assert found.to_text(network) == spelling


@given(MESSAGES)
def test_a_message_goes_round(message: Message) -> None:
    assert Message.from_bytes(message.to_bytes()) == message
    assert Message.from_json(message.to_json(Network.TESTNET)) == message


@given(MESSAGES, st.data())
def test_a_message_has_one_encoding(message: Message, data: st.DataObject) -> None:
    encoded = bytearray(message.to_bytes())
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    try:
        other = Message.from_bytes(bytes(encoded))
    except DataError:
        return
    assert other != message
    assert other.to_bytes() == bytes(encoded)


@given(st.binary(max_size=64))
def test_cbor_that_is_read_is_written_the_same(data: bytes) -> None:
    try:
        item = cborcodec.decode(data)
    except DataError:
        return
    assert cborcodec.encode(item) == data


@given(KEYS, st.binary(max_size=64), MESSAGES)
@settings(max_examples=30)
def test_signatures_go_round(key: bytes, text: bytes, template: Message) -> None:
    signer = signatures.compute_secp256k1_address(key)
    made = signatures.sign(text, key)
    assert signatures.verify(Signature.from_bytes(made.to_bytes()), text, signer)
    message = Message(signer, signer, template.nonce, template.value, 1, 2, 3, 0, template.params)
    signed = message.sign(key)
    assert SignedMessage.from_bytes(signed.to_bytes()) == signed
    assert signed.is_valid
    assert signed.cid != message.cid
    assert not SignedMessage(message, made).is_valid


@given(KEYS, st.binary(max_size=16))
@settings(max_examples=20)
def test_the_other_signature_of_the_same_key_is_refused(key: bytes, text: bytes) -> None:
    made = signatures.sign(text, key).data
    s = signatures.SECP256K1_ORDER - int.from_bytes(made[32:64], "big")
    twin = made[:32] + s.to_bytes(32, "big") + bytes((made[64] ^ 1,))
    assert signatures.recover(Signature(SignatureType.SECP256K1, twin), text) is None


def test_bls_signatures() -> None:
    from py_ecc.bls.ciphersuites import G2Basic

    scalar = 0x1234567890ABCDEF
    signer = signatures.compute_bls_address(scalar.to_bytes(32, "little"))
    made = Signature(SignatureType.BLS, bytes(G2Basic.Sign(scalar, b"message")))
    assert signatures.verify(Signature.from_bytes(made.to_bytes()), b"message", signer)
    assert not signatures.verify(made, b"massage", signer)
    other = FilecoinAddress(Kind.SECP256K1, 0, bytes(20))
    assert not signatures.verify(made, b"message", other)
