"""What a job costs in gas on deployed contracts: 1000 operators, 3 seats, 500 distinct orders, slots used before.

Gas is that of receipts, with the floor price of calldata (EIP-7623). --check compares with tests/bench/gas.json and
fails beyond 2 %; --write writes that file. Parameters are those of the production preset.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

from _bench import Bench, whole
from tests.differential.chain import running_chain
from tests.differential.gas_snapshot import BATCHES, SNAPSHOT, compare_with_snapshot
from tests.differential.market_day import MarketDay, Spent

from quorate.protocol.paging import MAX_TRANSACTION_GAS
from quorate.protocol.params import MAX_MEMBERS, PRODUCTION

JOBS = 500
MOST_SEATS = 21
"""Seats of the largest committee here; a class has at least twice as many members."""
CALLS = ("post", "beacon", "commit", "settle")
WARM_UP = 2
"""Batches before the one that counts: the first writes slots that were never written."""


def measure(bench: Bench, day: MarketDay, kind: str, requesters: int, page_jobs: int, warm_up: int = WARM_UP) -> None:
    """Whole lives of batches; rows of those behind the warm-up are kept under `kind`."""
    actors = day.make_requesters(requesters)
    for turn in range(warm_up + BATCHES):
        spent = day.live(actors, JOBS, page_jobs)
        record(bench, kind if turn >= warm_up else f"{kind}, slots new", spent)


def record(bench: Bench, kind: str, spent: Iterable[Spent]) -> None:
    """A row for each transaction."""
    for each in spent:
        bench.record("transactions", {"kind": kind, "name": each.name, "gas": each.gas, "bytes": each.bytes})


def per_job(rows: list[dict[str, Any]], kind: str, jobs: int) -> dict[str, float]:
    """Gas a job by call, and in total."""
    found: Counter[str] = Counter()
    for row in rows:
        if row["kind"] == kind:
            found[row["name"]] += row["gas"]
    return {name: round(found[name] / jobs) for name in CALLS} | {"total": round(sum(found.values()) / jobs)}


def compute_figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All figures, from rows alone."""
    largest = max(rows, key=lambda row: row["gas"])
    direct = [row for row in rows if row["kind"] == "direct"]
    return {
        "per_job": per_job(rows, "pages of 500", BATCHES * JOBS),
        "total_pages_100": per_job(rows, "pages of 100", BATCHES * JOBS)["total"],
        "total_500_requesters": per_job(rows, "500 requesters", BATCHES * JOBS)["total"],
        "total_slots_new": per_job(rows, "pages of 500, slots new", WARM_UP * JOBS)["total"],
        "direct_total": sum(row["gas"] for row in direct) or None,
        "direct": [[row["name"], row["gas"]] for row in direct],
        "table": next(row["gas"] for row in rows if row["kind"] == "table"),
        "largest_transaction": largest["gas"],
        "largest_is": f"{largest['name']}, {largest['kind']}",
        "limit": MAX_TRANSACTION_GAS,
    }


def run(bench: Bench) -> dict[str, Any]:
    """Measure all on one chain."""
    with running_chain(params=PRODUCTION) as (rpc, deployment):
        day = MarketDay(rpc, deployment, bench.args.operators)
        record(bench, "table", [Spent("advanceEra", day.table_gas, 0)])
        bench.say(f"{bench.args.operators} operators have a table")
        for kind, requesters, page_jobs, warm_up in (
            ("pages of 500", 50, 500, WARM_UP),
            ("pages of 100", 50, 100, 1),
            ("500 requesters", 500, 500, 1),
        ):
            measure(bench, day, kind, requesters, page_jobs, warm_up)
            bench.say(f"measured {kind}")
        actors = day.make_requesters(50)
        for kind in ("direct, slots new", "direct"):
            record(bench, kind, day.live_directly(actors[0]))
        for seats, jobs in ((3, 2000), (MOST_SEATS, 200)):
            record(bench, f"{jobs} jobs, {seats} seats, pages as they fit", day.live(actors, jobs, jobs, seats))
            bench.say(f"measured {jobs} jobs of {seats} seats")
    return compute_figures(bench.rows("transactions"))


def main() -> None:
    """Run it."""
    arguments: dict[str, dict[str, Any]] = {
        "--operators": {
            "type": whole(2 * MOST_SEATS, MAX_MEMBERS),
            "default": 1000,
            "help": "members of the class (default: 1000)",
        },
        "--check": {"action": "store_true", "help": f"fail where {SNAPSHOT.name} differs by more than 2 %%"},
        "--write": {"action": "store_true", "help": f"write {SNAPSHOT.name}"},
    }
    bench = Bench("gas", __doc__ or "", arguments)
    figures = run(bench)
    bench.finish(figures)
    if bench.args.write:
        SNAPSHOT.write_text(json.dumps(figures, indent=1) + "\n")
    if bench.args.check and (differs := compare_with_snapshot(figures)):
        sys.exit("\n".join(differs))


if __name__ == "__main__":
    main()
