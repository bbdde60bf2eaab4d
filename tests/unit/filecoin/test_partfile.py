"""What lies beside a piece that is coming, where others may write, too: nothing of theirs is written to or paid by."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.retrieval.partfile import Note, PartFile
from quorate.protocol.errors import DataError

PIECE = PieceCid(bytes(32), 10, 20_000)
NOTE = Note("http://a.example", "offer", "reservation", 0, 1)
STRANGER = 12345


def test_a_link_in_the_parts_place_is_not_followed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(b"dear to me")
    (tmp_path / ".piece.part").symlink_to(mine)
    with pytest.raises(DataError, match="is a link"):
        PartFile(tmp_path / "piece", PIECE)
    assert mine.read_bytes() == b"dear to me"


def test_a_note_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    with PartFile(tmp_path / "piece", PIECE) as part:
        part.note(NOTE)
        assert part.read_note() == NOTE
        (tmp_path / ".piece.part.json").rename(tmp_path / "elsewhere")
        (tmp_path / ".piece.part.json").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(DataError, match="is a link"):
            part.read_note()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_what_another_user_has_put_there_is_not_taken(tmp_path: Path) -> None:
    with PartFile(tmp_path / "piece", PIECE) as part:
        part.note(NOTE)
        os.chown(tmp_path / ".piece.part.json", STRANGER, -1)
        with pytest.raises(DataError, match=f"number {STRANGER}"):
            part.read_note()
    os.chown(tmp_path / ".piece.part", STRANGER, -1)
    with pytest.raises(DataError, match=f"number {STRANGER}"):
        PartFile(tmp_path / "piece", PIECE)
