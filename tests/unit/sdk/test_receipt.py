"""What `quorate job describe` shows people of a receipt."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from quorate.cli.output import format_amount
from quorate.cli.receipt import render_receipt
from quorate.protocol.params import ETHER
from quorate.protocol.result import EXIT_TRAP, TaskResult, TaskStatus
from quorate.protocol.spec import JobSpec, compute_raw_cid

CID = compute_raw_cid(bytes(32))
ROOT, TRANSACTION = "0x" + "ab" * 32, "0x" + "cd" * 32
ORDER = {
    "requester": "0x" + "11" * 20, "nonce": 7, "class_id": 3, "spec_hash": ROOT, "task_count": 300,
    "fuel_limit": 5_000_000_000, "input_bytes": 1234, "seats": 5, "rounds": 2, "commit_period": 10, "min_units": 0,
    "max_price": 20_000_000_000, "max_fee": 3 * 10**15, "valid_until": 1_700_000_000, "strategy": 0, "flags": 0,
}  # fmt: skip
RECEIPT: dict[str, Any] = {
    "job_id": "0x" + "3f" * 32,
    "order": ORDER,
    "spec": {"module": CID, "input": CID, "input_name": "input", "args": ["/inputs", "two words"], "env": {}},
    "batch_id": 12,
    "collator": "http://collator",
    "result_cid": None,
    "verdict": "accepted",
    "bundles": [
        {"bundle": 4, "tasks": [0, 255], "verdict": "accepted", "vote": ROOT, "dispute_id": None},
        {"bundle": 5, "tasks": [256, 299], "verdict": "disputed", "vote": None, "dispute_id": 9},
    ],
    "seats": [
        {"bundle": 4, "seat": 0, "operator": 21, "key": "0x", "vote": ROOT, "abstained": None},
        {"bundle": 4, "seat": 1, "operator": 22, "key": "0x", "vote": None, "abstained": "NO_DATA"},
        {"bundle": 4, "seat": None, "operator": 23, "key": "0x", "vote": ROOT, "abstained": None},
    ],
    "steps": [
        {"stage": "posted", "round": 0, "block": 99, "timestamp": 1_600_000_000, "transaction": TRANSACTION,
         "detail": "batch 12 [bold]"},
    ],
    "slashes": [{"operator": 22, "amount_wei": ETHER // 4, "ejected": True, "transaction": TRANSACTION}],
    "final_at": 1_600_000_100,
    "final": False,
    "abstentions": {"NO_DATA": 1},
    "extendable": [],
    "error": None,
}  # fmt: skip


def show(receipt: dict[str, Any], results: list[TaskResult] | None = None) -> str:
    console = Console(width=200, record=True, color_system=None, file=io.StringIO())
    for each in render_receipt(receipt, results or []):
        console.print(each)
    return " ".join(console.export_text().split())


def result(task: int, exit_code: int = 0) -> TaskResult:
    status = TaskStatus.FAILED if exit_code else TaskStatus.OK
    return TaskResult(JobSpec(module=CID).cid, task, status, exit_code, CID, CID)


def test_a_receipt_reads_in_the_units_of_people() -> None:
    shown = show(RECEIPT)
    for words in (
        f"job {RECEIPT['job_id']}",
        "accepted; final at 2020-09-13 12:28:20 UTC, unless it is disputed",
        f"{CID} /inputs 'two words'",
        "5 seats, up to 3 rounds, class 3, 300 task(s)",
        "5,000,000,000 fuel a task, 10 s to commit",
        "at most 20 gwei for a billion fuel, and 0.003 ether a bundle for the collator",
        "posted │ 0 │ 2020-09-13 12:26:40 │ 99 │ 0xcdcdcdcdcd… │ batch 12 [bold]",
        "4 │ 0 to 255 │ accepted │ 0xabababab",
        "5 │ 256 to 299 │ in dispute: the class votes │ │ not known",
        "4 │ 1 │ 22 │ abstained: NO_DATA",
        "4 │ earlier round │ 23",
        "22 │ 0.25 ether │ ejected",
    ):
        assert words in shown, words
    assert "tasks that failed" not in shown


def test_tasks_are_told_by_how_they_ended() -> None:
    shown = show(RECEIPT, [*(result(task) for task in range(254)), result(254, EXIT_TRAP), result(255, 3)])
    assert "FAILED x 2, OK x 254" in shown
    assert "tasks that failed" in shown
    assert "254 │ FAILED │ it trapped" in shown


def test_a_job_without_a_result_says_why_first() -> None:
    shown = show(RECEIPT | {"verdict": "void", "error": "seats stayed silent", "bundles": [], "slashes": []})
    assert "verdict void: seats stayed silent" in shown
    assert "slashes" not in shown
    assert "final since 2020" in show(RECEIPT | {"final": True})


@pytest.mark.parametrize(
    ("wei", "text"),
    [
        (0, "0 wei"), (999_999, "999999 wei"), (10**6, "0.001 gwei"), (123 * 10**8, "12.3 gwei"),
        (10**15, "0.001 ether"), (ETHER + 1, "1.000000000000000001 ether"), (-(10**9), "-1 gwei"),
    ],
)  # fmt: skip
def test_amounts_have_the_unit_that_suits_them(wei: int, text: str) -> None:
    assert format_amount(wei) == text
