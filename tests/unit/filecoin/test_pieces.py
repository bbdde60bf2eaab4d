"""Pieces: streams in any cut, the fast tree against the plain one, chunks checked by themselves, CIDs that lie."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.filecoin import piececid, piecetree
from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.piecetree import CHUNK_BYTES, CHUNK_HEIGHT, ChunkVerifier, compute_node, compute_piece
from quorate.filecoin.retrieval.streaming import fetch_nodes
from quorate.filecoin.retrieval.transport import Channel, Origin, ProviderFailed
from quorate.protocol.errors import DataError, RecoverableError
from quorate.storage import varint
from quorate.storage.cid import RAW, Cid
from quorate_node.filecoin.hashing import Hasher, hash_stream, hasher, read_parts

SIZES = (2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 1, 3 * CHUNK_BYTES - 1)
CHUNK_NOTHING = piecetree.ZERO_NODES[CHUNK_HEIGHT]


@pytest.fixture(scope="module")
def fast() -> Iterator[Hasher]:
    with hasher(2) as found:
        yield found


def make_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def fold(chunks: list[bytes], fast: Hasher, height: int) -> bytes:
    """The root without a builder: all nodes in memory, zeros up to the next power of two."""
    row = [fast.compute(chunk, CHUNK_HEIGHT) for chunk in chunks]
    row += [CHUNK_NOTHING] * ((1 << (height - CHUNK_HEIGHT)) - len(row))
    while len(row) > 1:
        row = [piecetree.combine(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


@given(st.binary(max_size=1200), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_the_fast_tree_is_the_plain_one(fast: Hasher, data: bytes, above: int) -> None:
    height = piececid.compute_height(len(data)) + above
    assert fast.compute(data, height) == compute_node(data, height)


def test_a_whole_chunk_is_the_same_by_both(fast: Hasher) -> None:
    data = make_bytes(CHUNK_BYTES)
    assert fast.compute(data, CHUNK_HEIGHT) == compute_node(data, CHUNK_HEIGHT)
    assert fast.compute(b"", CHUNK_HEIGHT) == CHUNK_NOTHING  # nothing is left of what was there before
    with pytest.raises(DataError, match="fit 1040384 bytes, not 1040385"):
        fast.compute(data + b"!", CHUNK_HEIGHT)


@pytest.mark.parametrize("size", SIZES)
def test_a_stream_gives_one_piece_however_it_is_cut(fast: Hasher, size: int) -> None:
    data, nodes = make_bytes(size), list[bytes]()
    piece = hash_stream([data], nodes.append, threads=2)
    chunks = [data[at : at + CHUNK_BYTES] for at in range(0, size, CHUNK_BYTES)]
    assert piece == PieceCid(fold(chunks, fast, piececid.compute_height(size)), piececid.compute_height(size), size)
    parts = (data[at : at + 777_777] for at in range(0, size, 777_777))
    assert compute_piece(parts, fast.compute) == piece
    assert nodes == [fast.compute(chunk, CHUNK_HEIGHT) for chunk in chunks]
    assert PieceCid.parse(str(piece.v2)) == piece


def test_chunks_are_checked_by_themselves(fast: Hasher) -> None:
    data, nodes = make_bytes(2 * CHUNK_BYTES + 1000), list[bytes]()
    piece = compute_piece([data], fast.compute, nodes.append)
    verifier = ChunkVerifier(piece, b"".join(nodes), fast.compute)
    assert [verifier.get_length(index) for index in range(verifier.count)] == [CHUNK_BYTES, CHUNK_BYTES, 1000]
    for index in range(3):
        verifier.verify(index, data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES])
    with pytest.raises(DataError, match="chunk 0 is not what"):
        verifier.verify(0, data[CHUNK_BYTES : 2 * CHUNK_BYTES])  # another chunk of the same piece
    with pytest.raises(DataError, match=r"chunk 2 of .* has 1000 bytes, not 1001"):
        verifier.verify(2, data[-1000:] + b"\0")  # a zero that the tree would not tell from its padding
    with pytest.raises(DataError, match="and no 3"):
        verifier.verify(3, b"")


@pytest.mark.parametrize("lie", ["cut", "swapped", "altered", "long", "above"])
def test_nodes_that_are_not_the_pieces_are_refused(fast: Hasher, lie: str) -> None:
    nodes: list[bytes] = []
    piece = compute_piece([make_bytes(2 * CHUNK_BYTES + 1)], fast.compute, nodes.append)
    told = {
        "cut": nodes[:2],
        "swapped": [nodes[1], nodes[0], nodes[2]],
        "altered": [*nodes[:2], bytes(32)],
        "long": [*nodes, CHUNK_NOTHING],
        "above": [piece.root],
    }[lie]
    with pytest.raises(DataError, match="refuse whoever sent them"):
        ChunkVerifier(piece, b"".join(told), fast.compute)


def test_a_small_piece_is_its_own_chunk() -> None:
    piece = compute_piece([b"x" * 500])
    ChunkVerifier(piece, piece.root).verify(0, b"x" * 500)
    with pytest.raises(DataError, match="chunk 0 is not what"):
        ChunkVerifier(piece, piece.root).verify(0, b"y" * 500)


@given(st.binary(min_size=31, max_size=31), st.integers(0, 1 << 62))
def test_cids_and_sizes_go_round(root: bytes, size: int) -> None:
    size = min(size, piececid.compute_capacity(piececid.MAX_HEIGHT))
    piece = PieceCid(root + b"\x3f", piececid.compute_height(size), size)
    assert PieceCid.parse(str(piece.v2)) == PieceCid.parse(piece.v2.to_bytes()) == piece
    assert PieceCid.from_v1(piece.v1, piece.padded_bytes, size) == piece
    assert all(map(piececid.is_piece, (piece.v1, piece.v2)))


def spell(padding: bytes, height: int, root: bytes, codec: int = RAW) -> Cid:
    digest = padding + bytes((height,)) + root
    return Cid(1, codec, varint.encode(0x1011) + varint.encode(len(digest)) + digest)


@pytest.mark.parametrize(
    "cid",
    [
        spell(b"\x00", 1, bytes(32)),
        spell(b"\x00", 58, bytes(32)),
        spell(varint.encode(128), 2, bytes(32)),
        spell(b"\x80\x00", 2, bytes(32)),
        spell(b"\x00", 2, bytes(31)),
        spell(b"\x00", 2, bytes(33)),
        spell(b"\x00", 2, b"\xff" * 32),
        spell(b"\x00", 2, bytes(32), codec=0x70),
        Cid.of(b"bytes"),
        compute_piece([b"v1"]).v1,
    ],
)
def test_what_is_no_piece_cid_is_refused(cid: Cid) -> None:
    with pytest.raises(DataError):
        PieceCid.parse(cid)


@pytest.mark.parametrize("padded", [0, -128, 64, 127, 129, 1 << 63])
def test_a_padded_size_that_is_none_is_refused(padded: int) -> None:
    with pytest.raises(DataError, match="a power of two from 128"):
        PieceCid.from_v1(compute_piece([b"v1"]).v1, padded)


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(bytes(CHUNK_BYTES + 5))
    parts = read_parts(path)
    next(parts)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(RecoverableError, match="changed while it was read"):
        list(parts)


def test_the_committed_module_is_what_its_source_builds() -> None:
    script = Path(__file__).parents[3] / "scripts" / "lib" / "treewasm.py"
    subprocess.run([sys.executable, str(script), "--check"], check=True)


def test_nodes_without_end_are_not_asked_for() -> None:
    """A provider may say that a small DAG lies in a piece of petabytes, and send nodes until memory is full."""
    channel = Channel(Origin("http://127.0.0.1:1", ("127.0.0.1",)))
    with pytest.raises(ProviderFailed, match="no sector"):
        fetch_nodes(channel, PieceCid(bytes(32), 48, 2**50), compute_node)
    with pytest.raises(ProviderFailed, match="refused it"):
        fetch_nodes(channel, PieceCid(bytes(32), 32, 2**36), compute_node)
