"""The benchmark of growth in its short form: what a node does is in proportion to its own work, and jobs go to data."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from tests.integration.network import ROOT

from quorate.storage.memory import MemoryStore
from quorate.storage.unixfs import DEFAULT, FileBuilder, leaf

SIZES, OPERATORS, SEATS = (6, 12), 3, 2
TERABYTE = 10**12
CALLS_A_TRANSACTION = 12
"""Estimate, nonce, fees, sending, and looks for the receipt."""
LOOKS_A_BLOCK = 3.5
"""Of a node at rest, five a second for the head and one for events; fewer only where the machine is too busy."""

pytestmark = [pytest.mark.anvil, pytest.mark.slow, pytest.mark.timeout(600)]


def read_rows(kind: str) -> list[dict[str, Any]]:
    path = ROOT / "out" / "bench" / f"scale-{SIZES[-1]}-{kind}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def count_senders(jobs: list[dict[str, Any]], size: int) -> int:
    """Seats that were not drawn in the collator's process, the first: only they have to send it their messages."""
    return sum((seat - 1) // OPERATORS > 0 for row in jobs if row["size"] == size for seat in row["seats"])


def test_twice_the_nodes_read_and_say_no_more_each_and_seats_are_where_the_data_is() -> None:
    words = ["--nodes", str(SIZES[-1]), "--sizes", ",".join(map(str, SIZES)), "--operators", str(OPERATORS)]
    words += ["--seats", str(SEATS), "--block-time", "0.5", "--idle", "8"]
    command = [sys.executable, str(ROOT / "tests" / "bench" / "scale.py"), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["sizes"]
    datasets, jobs = read_rows("datasets"), read_rows("jobs")
    for size in SIZES:
        told = found[str(size)]
        named = [row for row in datasets if row["size"] == size]
        assert told["named_bytes"] == sum(row["bytes"] for row in named) >= size * TERABYTE
        assert len({row["cid"] for row in named}) == len(named)
        assert told["processes"] == size // OPERATORS
        shares = told["on_holders"]
        assert shares["shared"]["share"] == shares["small, assumed"]["share"] == 1.0
        holders = {row["name"]: set(row["holders"]) for row in named}
        for row in (each for each in jobs if each["size"] == size):
            held = sum(seat - 1 in holders[row["dataset"]] for seat in row["seats"])
            assert row["on_holders"] == held
            assert len(row["seats"]) == SEATS
            is_general = row["case"] in ("small", "shared, ignored")
            assert (row["class"] == 1) is is_general, "small classes are preferred by nobody who does not say so"
        assert told["messages_idle"] == 0, "nodes with nothing to do say nothing"
        assert told["memory_mb"] < told["rss_mb"]
    first, last = (found[str(size)] for size in SIZES)
    # A look for each block or more often, and its events: as many in a large network as in a small one.
    assert 0 < last["reads_block_idle"] < 1.3 * max(LOOKS_A_BLOCK, first["reads_block_idle"])
    # How many seats have to say anything is drawn; each of them says as much as before.
    sent = [found[str(size)]["messages_work"] * (size // OPERATORS) / count_senders(jobs, size) for size in SIZES]
    assert 0 < sent[1] < 2 * sent[0] + 1
    assert last["reads_work"] < first["reads_work"] + CALLS_A_TRANSACTION * last["transactions_work"]


def test_sparse_files_have_the_cids_of_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GiB of zeros, leaf by leaf, as a file that was read would be built."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "bench"))
    from _manifests import GIB, make_blocks, make_dataset  # type: ignore[import-not-found]

    part, _ = leaf(bytes(DEFAULT.chunk), DEFAULT)
    for gib in (1, 2):
        builder = FileBuilder(DEFAULT)
        for _ in range(gib * GIB // DEFAULT.chunk):
            list(builder.add(part))
        list(builder.finish())
        assert list(make_blocks(gib))[-1][0] == builder.root
    made = make_dataset("one", [3, 5])
    store = MemoryStore()
    store.import_car([made.car], made.root)
    assert store.is_complete(made.root)
    assert made.size > 8 * GIB > 1000 * len(made.car)
