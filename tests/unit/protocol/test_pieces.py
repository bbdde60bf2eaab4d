"""Pieces in specs: read as `quorate.filecoin.piececid` reads them, and refused in any other spelling."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.filecoin.piececid import PieceCid, compute_capacity
from quorate.protocol.container import parse_spec
from quorate.protocol.errors import DataError, ValidationError
from quorate.protocol.pieces import is_piece_text, parse_piece_size
from quorate.protocol.spec import JobSpec, Partition, compute_raw_cid

MODULE = compute_raw_cid(bytes(32))
PIECE = PieceCid(b"\x07" * 32, 17, 3_000_000)


@given(st.integers(2, 57), st.integers(0, 2**62), st.binary(min_size=32, max_size=32))
def test_sizes_are_those_of_piece_cids(height: int, size: int, root: bytes) -> None:
    piece = PieceCid(root[:31] + bytes((root[31] & 0x3F,)), height, size % (compute_capacity(height) + 1))
    text = str(piece.v2)
    assert is_piece_text(text)
    assert parse_piece_size(text) == piece.size_bytes


@given(st.integers(8, 80), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_what_one_reads_the_other_does(at: int, letter: str) -> None:
    text = str(PIECE.v2)
    changed = text[:at] + letter + text[at + 1 :]
    try:
        size = parse_piece_size(changed)
    except ValidationError:
        try:
            assert str(PieceCid.parse(changed).v2) != changed, "the other takes more spellings than the one"
        except DataError:
            return
    else:
        assert PieceCid.parse(changed).size_bytes == size


@pytest.mark.parametrize(
    "text", ["", "bafkzci", MODULE, str(PIECE.v2)[:-1], str(PIECE.v2).upper(), str(PIECE.v1), str(PIECE.v2) + "a"]
)
def test_others_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="no piece CID"):
        parse_piece_size(text)


def test_a_spec_may_name_a_piece_as_its_input() -> None:
    spec = JobSpec(MODULE, str(PIECE.v2))
    assert parse_spec(spec.to_bytes()) == spec
    assert spec.contents == (MODULE, str(PIECE.v2))
    with pytest.raises(ValidationError, match="by its root"):
        replace(spec, partition=Partition("*"))
    with pytest.raises(ValidationError, match="module"):
        JobSpec(str(PIECE.v2))
    with pytest.raises(ValidationError, match="input must be"):
        JobSpec(MODULE, str(PIECE.v1))
