"""Job records and order nonces on disk."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from quorate.chain.types import Deployment, NonceWindow
from quorate.jobs import JobBook, JobRecord
from quorate.protocol.errors import ConfigurationError, ValidationError
from quorate.protocol.types import Address, JobId, JobOrder

DEPLOYMENT = Deployment(31337, *(Address(bytes([i]) * 20) for i in range(1, 6)))
ORDER = JobOrder(Address(bytes(20)), 7, 1, bytes(32), 1, 10**9, 100, 3, 2, 60, 0, 10**12, 0, 2**32)
FRESH = NonceWindow(0, 0)


def make_record(name: int, created_at: float = 1.0) -> JobRecord:
    job_id = JobId(bytes([name]) * 32)
    return JobRecord(job_id, ORDER, bytes(65), "{}", 31337, DEPLOYMENT.market, 5, created_at, ("http://x",))


def test_records_survive(tmp_path: Path) -> None:
    book = JobBook(tmp_path / "jobs")
    record = make_record(0xAB)
    book.save(record)
    changed = book.update(record, collator="http://c", seen={"posted": 0.5}, result_cid="bafk")
    assert book.load("0xabab") == changed
    assert book.load(record.job_id.hex()).order == ORDER
    assert (tmp_path / "jobs" / f"{record.job_id.hex()}.json").stat().st_mode & 0o077 == 0


def test_records_are_listed_by_age_and_found_by_a_unique_beginning(tmp_path: Path) -> None:
    book = JobBook(tmp_path)
    for name, created in ((0xA1, 2.0), (0xA2, 1.0)):
        book.save(make_record(name, created))
    assert [record.job_id[0] for record in book.load_all()] == [0xA2, 0xA1]
    with pytest.raises(ValidationError, match="2 jobs begin with 'a'"):
        book.load("a")
    for nothing in ("ff", "", "0x", "../a"):
        with pytest.raises(ValidationError, match="job list"):
            book.load(nothing)


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "ab.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"ab\.json is broken"):
        JobBook(tmp_path).load("ab")


def test_nonces_go_on_from_disk_and_from_the_chain(tmp_path: Path) -> None:
    book, requester = JobBook(tmp_path), Address(bytes(20))
    assert [book.reserve_nonce(DEPLOYMENT, requester, FRESH) for _ in range(3)] == [0, 1, 2]
    assert JobBook(tmp_path).reserve_nonce(DEPLOYMENT, requester, FRESH) == 3
    # Another machine has used up to 10 + 4 with the same key.
    assert book.reserve_nonce(DEPLOYMENT, requester, NonceWindow(10, 0b10001)) == 15
    assert book.reserve_nonce(DEPLOYMENT, Address(b"\1" * 20), FRESH) == 0


def _reserve(folder: Path) -> list[int]:
    return [JobBook(folder).reserve_nonce(DEPLOYMENT, Address(bytes(20)), FRESH) for _ in range(10)]


def test_two_processes_never_get_the_same_nonce(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = [nonce for part in pool.map(_reserve, [tmp_path] * 4) for nonce in part]
    assert sorted(found) == list(range(40))


def test_used_nonces() -> None:
    window = NonceWindow(10, 0b101)
    assert [n for n in range(8, 15) if window.is_used(n)] == [8, 9, 10, 12]
    assert not NonceWindow(0, (1 << 192) - 1).is_used(192)
