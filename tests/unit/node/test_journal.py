"""The journal: what was acknowledged is there after any crash, what was not is cut off, and no vote has a rival."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from quorate.protocol.errors import Busy
from quorate.protocol.types import Stage, Vote
from quorate_node.core.state import Secret, SecretGroup
from quorate_node.journal import ConflictingVote, Journal, JournalDamaged, JournalFull


def make_group(number: int, vote: bytes = b"v") -> SecretGroup:
    secret = Secret(
        number, 0, number.to_bytes(32, "big"), Vote(vote.ljust(32)), bytes(16), bytes(32), (b"l" * 32, b"m" * 32)
    )
    return SecretGroup(Stage.BUNDLE, 7, 0, b"d" * 32, 3, (secret,))


def write(path: Path, count: int) -> list[SecretGroup]:
    journal = Journal(path)
    groups = [make_group(i) for i in range(count)]
    for group in groups:
        journal.append(group)
    journal.close()
    return groups


def read(path: Path) -> tuple[list[SecretGroup], int]:
    journal = Journal(path)
    journal.close()
    return journal.groups, journal.torn_bytes


def test_what_was_appended_is_there_after_a_restart(tmp_path: Path) -> None:
    groups = write(tmp_path / "journal", 3)
    assert read(tmp_path / "journal") == (groups, 0)


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    write(tmp_path / "journal", 1)
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600


@settings(max_examples=60)
@given(cut=some.integers(1, 10_000))
def test_a_torn_tail_is_reported_and_cut_off(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    groups = write(path, 3)
    whole = path.read_bytes()
    last = len(whole) - whole.rindex(b'{"stage"') + 8
    cut = cut % last or 1
    path.write_bytes(whole[:-cut])
    assert read(path) == (groups[:2], last - cut)
    journal = Journal(path)
    journal.append(groups[2])
    journal.close()
    assert read(path) == (groups, 0)


def test_garbage_at_the_end_is_a_torn_tail(tmp_path: Path) -> None:
    groups = write(tmp_path / "journal", 2)
    with (tmp_path / "journal").open("ab") as file:
        file.write(bytes(50))
    # Zeros: the file had grown when the power went, its bytes had not arrived.
    assert read(tmp_path / "journal")[0] == groups


def test_damage_before_the_end_stops_the_node(tmp_path: Path) -> None:
    write(tmp_path / "journal", 3)
    data = bytearray((tmp_path / "journal").read_bytes())
    data[40] ^= 1
    (tmp_path / "journal").write_bytes(data)
    with pytest.raises(JournalDamaged, match="backup"):
        Journal(tmp_path / "journal")


def test_damage_to_a_length_does_not_hide_what_follows(tmp_path: Path) -> None:
    """Nobody may take acknowledged votes for a torn tail because the frame before them tells a wrong size."""
    write(tmp_path / "journal", 4)
    data = bytearray((tmp_path / "journal").read_bytes())
    second = data.index(b'{"stage"', data.index(b'{"stage"') + 1)
    data[second - 6] ^= 0xFF
    (tmp_path / "journal").write_bytes(data)
    with pytest.raises(JournalDamaged, match="backup"):
        Journal(tmp_path / "journal")


def test_a_last_frame_that_the_disk_lost_is_cut_off_and_reported(tmp_path: Path) -> None:
    groups = write(tmp_path / "journal", 3)
    data = bytearray((tmp_path / "journal").read_bytes())
    data[-20] ^= 1
    (tmp_path / "journal").write_bytes(data)
    found, torn = read(tmp_path / "journal")
    assert found == groups[:2]
    assert torn > 0


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk that is really full after `size` bytes; where we may not mount one, a limit to the size of files."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode == 0:
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        return
    with no_file_over(size):
        yield folder


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """Writes beyond so many bytes fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_no_vote_and_leaves_no_damage(tmp_path: Path) -> None:
    written, refused = 0, 0
    with small_disk(tmp_path, 16 * 1024) as disk:
        journal = Journal(disk / "journal")
        for number in range(200):
            try:
                journal.append(make_group(number))
                written += 1
            except JournalFull:
                refused += 1
        with pytest.raises(JournalFull, match="make room"):
            journal.append(make_group(300))
        assert written > 10
        assert refused > 10
        before = (disk / "journal").read_bytes()
        with pytest.raises(ConflictingVote):
            journal.append(make_group(0, b"another"))
        journal.close()
        assert read(disk / "journal") == ([make_group(i) for i in range(written)], 0)
        whole = tmp_path.parent / "whole"
        whole.write_bytes(before)
    # There is room again: it goes on where it stood, with what was refused before.
    journal = Journal(whole)
    journal.append(make_group(written))
    journal.close()
    assert read(whole) == ([make_group(i) for i in range(written + 1)], 0)


def test_a_journal_that_cannot_even_begin_says_what_to_do(tmp_path: Path) -> None:
    with no_file_over(0), pytest.raises(JournalFull, match="make room"):
        Journal(tmp_path / "journal")
    write(tmp_path / "journal", 1)


def test_another_file_is_not_taken_for_a_journal(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"something else entirely")
    with pytest.raises(JournalDamaged):
        Journal(tmp_path / "journal")


def test_a_crash_in_the_first_moment_leaves_a_journal(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"quorate-jou")
    assert read(tmp_path / "journal") == ([], 0)


def test_two_votes_on_one_statement_are_refused_also_after_a_restart(tmp_path: Path) -> None:
    write(tmp_path / "journal", 2)
    journal = Journal(tmp_path / "journal")
    with pytest.raises(ConflictingVote):
        journal.append(make_group(1, b"another"))
    journal.append(make_group(1))  # the same again is no second vote
    rival = make_group(5)
    journal.append(rival)
    with pytest.raises(ConflictingVote):
        journal.append(replace(rival, secrets=(replace(rival.secrets[0], vote=Vote(bytes(32))),)))
    journal.close()


def test_two_nodes_cannot_share_a_home(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with pytest.raises(Busy, match="another node"):
        Journal(tmp_path / "journal")
    journal.close()
