from __future__ import annotations

import hashlib

import pytest

from quorate.protocol.errors import DataError
from quorate.storage import varint
from quorate.storage.cid import DAG_PB, RAW, Cid

HELLO = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
BLAKE = Cid(1, RAW, bytes.fromhex("a0e40220") + bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        HELLO,
        HELLO.upper(),
        "f01551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
        "zb2rhj7crUKTQYRGCRATFaQ6YFLTde2YzdqbbhAASkL9uRDXn",
    ],
)
def test_every_base_names_the_same_content(text: str) -> None:
    cid = Cid.parse(text)
    assert str(cid) == HELLO
    assert Cid.parse(cid.to_bytes()) == cid == Cid.of(b"hello world")
    cid.verify(b"hello world")


def test_base36_and_version_0_are_read() -> None:
    assert Cid.parse("k2jmtxw8rjh1z69c6not3wtdxb0u3urbzhyll1t9jg6ox26dhi5sfi1m").codec == DAG_PB
    old = Cid.parse("Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD")
    assert (old.version, old.codec, str(old)) == (0, DAG_PB, "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD")
    assert Cid.parse(str(old.to_v1())).digest == old.digest


@pytest.mark.parametrize(
    "rubbish",
    [
        "",
        "b",
        "rubbish",
        "Qm",
        "é",
        "bafkr",
        HELLO[:-1],
        HELLO + "aa",
        "b" * 600,
        "\ud800",
        "Qm" + "0" * 44,
        b"",
        b"\x01",
        b"\x02U\x12 ",
    ],
)
def test_rubbish_is_a_data_error(rubbish: str | bytes) -> None:
    with pytest.raises(DataError):
        Cid.parse(rubbish)


def test_a_wrong_block_is_refused() -> None:
    with pytest.raises(DataError, match="not what"):
        Cid.parse(HELLO).verify(b"hello world!")


def test_other_hashes_can_be_named_but_not_verified() -> None:
    assert Cid.parse(str(BLAKE)) == BLAKE
    for use in (lambda: BLAKE.digest, lambda: BLAKE.verify(b""), BLAKE.check_supported):
        with pytest.raises(DataError, match="sha2-256"):
            use()


def test_a_cut_sha2_256_is_refused() -> None:
    with pytest.raises(DataError, match="cut digests"):
        Cid.parse(b"\x01\x55\x12\x04abcd")


@pytest.mark.parametrize(("size", "is_fine"), [(0, True), (127, True), (128, True), (129, False)])
def test_identity_carries_little(size: int, is_fine: bool) -> None:
    binary = b"\x01\x55\x00" + varint.encode(size) + bytes(size)
    if is_fine:
        cid = Cid.parse(binary)
        assert cid.inline == bytes(size)
        cid.verify(bytes(size))
        with pytest.raises(DataError):
            cid.verify(bytes(size + 1))
        with pytest.raises(DataError):
            _ = cid.digest
    else:
        with pytest.raises(DataError, match="at most 128"):
            Cid.parse(binary)


def test_a_number_has_one_spelling() -> None:
    with pytest.raises(DataError, match="shortest"):
        Cid.parse(b"\x81\x00\x55\x12\x20" + bytes(32))


def test_digests_are_exchanged_with_contracts() -> None:
    digest = hashlib.sha256(b"x").digest()
    assert Cid.from_digest(digest) == Cid.of(b"x")
    assert Cid.from_digest(digest).digest == digest
    with pytest.raises(DataError):
        Cid.from_digest(b"short")
