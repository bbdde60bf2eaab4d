"""Random actions of many parties on the pure model and on deployed contracts: do they differ, and what was reached?

A mismatch is counted, and the run goes on with contracts that nobody has used. With --mutant the contracts have one
fault planted, which must show; --list-mutants names them.
"""

from __future__ import annotations

import time
from typing import Any

from _bench import Bench, whole
from tests.differential.campaign import run_campaign
from tests.differential.chain import running_chain
from tests.differential.mutants import MUTANTS, make_mutant
from tests.differential.watching import NOT_MODELLED, find_errors, list_errors, list_transitions

from quorate.chain.abi import load_artifact


def compute_figures(rows: list[dict[str, Any]], mutant: str | None) -> dict[str, Any]:
    """All figures, from rows alone."""
    tally: dict[str, int] = {}
    seen: dict[str, int] = {}
    for row in rows:
        for what, count in row["tally"].items():
            tally[what] = tally.get(what, 0) + count
        for what, count in row["seen"].items():
            seen[what] = seen.get(what, 0) + count
    errors, every = find_errors(tally), list_errors()
    return {
        "mutant": mutant,
        "actions": sum(row["actions"] for row in rows),
        "runs": len(rows),
        "mismatches": sum(row["mismatch"] is not None for row in rows),
        "errors_seen": len(errors),
        "errors_in_abis": len(every),
        "errors_missing": sorted(every - errors),
        "errors_not_modelled": NOT_MODELLED,
        "states_seen": dict(sorted(seen.items())),
        "states_missing": sorted(set(list_transitions()) - seen.keys()),
        "actions_per_s": round(sum(row["actions"] for row in rows) / sum(row["seconds"] for row in rows), 1),
    }


def main() -> None:
    """Run it."""
    arguments: dict[str, dict[str, Any]] = {
        "--actions": {"type": whole(1), "default": 2000, "help": "actions to send in all (default: 2000)"},
        "--mutant": {"choices": sorted(MUTANTS), "help": "plant this fault in the contracts first"},
        "--list-mutants": {"action": "store_true", "help": "name the faults that can be planted, and end"},
        "--stop-at": {"type": whole(1), "default": None, "help": "end after so many mismatches"},
    }
    bench = Bench("protocol", __doc__ or "", arguments)
    if bench.args.list_mutants:
        for name, mutant in sorted(MUTANTS.items()):
            print(f"{name:<24} {mutant.what}")
        return
    artifacts = make_mutant(bench.args.mutant) if bench.args.mutant else None
    began = time.perf_counter()

    def tell(row: dict[str, Any]) -> None:
        nonlocal began
        now = time.perf_counter()
        bench.record("runs", {**row, "seconds": now - began})
        bench.say(f"run {row['run']}: {row['actions']} actions in {now - began:.1f} s, {row['mismatch'] or 'agreed'}")
        began = now

    with running_chain(artifacts) as (rpc, deployment):
        began = time.perf_counter()
        load = artifacts.__getitem__ if artifacts else load_artifact
        run_campaign(rpc, deployment, bench.args.actions, bench.args.seed, tell, bench.args.stop_at, load)
    bench.finish(compute_figures(bench.rows("runs"), bench.args.mutant))


if __name__ == "__main__":
    main()
