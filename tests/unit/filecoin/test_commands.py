"""`quorate-node filecoin address | piece-cid`: what they print, and what they say of bad input."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.piecetree import CHUNK_BYTES, ChunkVerifier, compute_piece
from quorate_node.cli.main import main

ETHEREUM = "0xd388aB098ed3E84c0D808776440B48F685198498"
DELEGATED = "f410f2oekwcmo2pueydmaq53eic2i62crtbeyuzx2gmy"


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["filecoin", *map(str, words)])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def read_json(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, Any]:
    code, out, err = run(capsys, *words, "--output", "json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("spelling", [ETHEREUM, ETHEREUM.lower(), DELEGATED, "t" + DELEGATED[1:]])
def test_an_address_in_every_form(capsys: pytest.CaptureFixture[str], spelling: str) -> None:
    found = read_json(capsys, "address", spelling)
    given = {"f": "mainnet", "t": "testnet", "0": None}[spelling[0]]
    assert found == {
        "kind": "Ethereum account or contract",
        "mainnet": DELEGATED,
        "testnet": "t" + DELEGATED[1:],
        "ethereum": ETHEREUM,
        "bytes": "040a" + ETHEREUM[2:].lower(),
        "given_for": given,
    }


def test_an_address_that_contracts_cannot_name(capsys: pytest.CaptureFixture[str]) -> None:
    found = read_json(capsys, "address", "f1xpbyy4tkdx5si2bgo37dubc2xwv6fum5tk57mia")
    assert (found["kind"], found["ethereum"]) == ("secp256k1 key", None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (DELEGATED.replace("ueydm", "ueyem"), "its checksum does not fit: a character is wrong, copy it again"),
        ("f1fib3pv7jua2ockdugtz7viz3cyy6lkhh7rfx3sb", "bits that belong to nothing"),
        ("f005088", "starts with zeros: leave them out"),
        ("0x" + ETHEREUM[2:].lower()[:-1] + "A", "its capitals are a checksum that does not fit"),
        ("0x1234", "after 0x it needs 40 hex digits"),
        ("F410f", "write it in small letters"),
        ("", "too short"),
        ("f" * 5000, "5000 characters are too long"),
        ("f410f", "its checksum has 4 bytes"),
        ("f510faaaa", "kind '5' is not known"),
    ],
)
def test_what_is_wrong_with_an_address(capsys: pytest.CaptureFixture[str], text: str, reason: str) -> None:
    code, out, err = run(capsys, "address", text)
    assert (code, out) == (2, "")
    assert reason in err
    assert len(err) < 300


def test_a_file_s_piece_and_its_nodes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = os.urandom(CHUNK_BYTES + 7)
    (tmp_path / "piece").write_bytes(data)
    found = read_json(capsys, "piece-cid", tmp_path / "piece", "--nodes", tmp_path / "nodes", "--threads", "1")
    piece = PieceCid.parse(found["v2"])
    assert found == {
        "path": str(tmp_path / "piece"),
        "v1": str(piece.v1),
        "v2": str(piece.v2),
        "bytes": len(data),
        "padded_bytes": 2 << 20,
        "height": 16,
    }
    ChunkVerifier(piece, (tmp_path / "nodes").read_bytes()).verify(1, data[CHUNK_BYTES:])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nodes", "piece"]


def test_a_pipe_is_read_to_its_end(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"x" * 3000,))
    writer.start()
    found = read_json(capsys, "piece-cid", tmp_path / "pipe")
    writer.join()
    assert found["v2"] == str(compute_piece([b"x" * 3000]).v2)


def test_what_is_no_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "piece-cid", tmp_path, "--nodes", tmp_path / "nodes")
    assert (code, out) == (2, "")
    assert "is a folder, and a piece is one stream of bytes" in err
    code, out, err = run(capsys, "piece-cid", tmp_path / "missing", "--nodes", tmp_path / "nodes")
    assert (code, out) == (2, "")
    assert "cannot read" in err
    assert list(tmp_path.iterdir()) == []
