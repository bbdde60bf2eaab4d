"""Nodes are killed at every step where they write, sign or send: in committees, class votes, audits and collation.

The steps are found in the code and by a run, see tests/faults/steps.py. One node lies, so that the class votes, and
every bundle is audited. Then all steps once more, with the nodes away until no commitment counts any more. With
--mutant a fault is planted that the walk has to find.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

from _bench import Bench, whole
from tests.faults.dying_node import COMMITTED, MUTANT
from tests.faults.walk import Walk, make_folder, make_options
from tests.integration.network import find_events, requester

from quorate.devnet.devnet import Devnet
from quorate.protocol import events
from quorate.protocol.params import LOCAL

PERIOD_S = 12  # batches of a longer one are not audited
PARAMS = replace(LOCAL, era_period=15, audit_bps=10_000)
WANTED = (events.DisputeSettled, events.BundleAudited, events.EraAdvanced)
MOST_JOBS = 60


def collect(walk: Walk, devnet: Devnet, bench: Bench) -> list[str]:
    """Steps of everything that a node does: jobs until there was a class vote, an audit, and a new era."""
    for number in range(MOST_JOBS):
        walk.collect(1)
        if all(find_events(devnet, kind) for kind in WANTED):
            break
        bench.say(f"job {number + 1}: {len(walk.seen())} steps so far")
    else:
        raise SystemExit(f"after {MOST_JOBS} jobs there was no class vote, or no audit")
    return walk.seen()


def measure(bench: Bench, work: Path) -> None:
    """Rows of both passes."""
    a = bench.args
    folder = make_folder(work)
    liar = {a.nodes - 1: [sys.executable, "-m", "tests.adversarial.lying_node"]}
    options = make_options(work, a.nodes, params=PARAMS, commands=liar)
    with Devnet(options, bench.say) as devnet, requester(devnet, work) as people:
        for node in devnet.nodes if a.mutant else ():
            (node.home / MUTANT).write_text(a.mutant)
        walk = Walk(devnet, people, folder, PERIOD_S)
        steps = collect(walk, devnet, bench)
        for node in devnet.nodes[: a.nodes - 1] if a.mutant else ():  # from here on with the fault
            devnet.kill_node(node.index)
            devnet.restart_node(node.index)
        honest = range(1, a.nodes)
        for name, chosen in (("prompt", steps), ("late", [step for step in steps if step.endswith(COMMITTED)])):
            began, before, jobs = time.perf_counter(), len(walk.deaths), walk.jobs
            for path in (folder / "died").iterdir():
                path.unlink()
            walk.walk(chosen, a.minutes * 60, is_late=name == "late")
            found = walk.judge(chosen, honest)
            done = {"pass": name, "steps": list(chosen), "deaths": len(walk.deaths) - before}
            done |= {"jobs_done": walk.jobs - jobs, "seconds": time.perf_counter() - began}
            bench.record("passes", asdict(found) | done)
            bench.say(f"{name}: {len(chosen)} steps, {found.list() or 'nothing found'}")


def compute_figures(bench: Bench) -> dict[str, Any]:
    """All figures, from rows alone."""
    rows = bench.rows("passes")
    last = rows[-1]
    return {
        "steps": len(rows[0]["steps"]),
        "steps_late": len(last["steps"]),
        "deaths": sum(row["deaths"] for row in rows),
        "unreached": [step for row in rows for step in row["unreached"]],
        # What nodes signed and what the chain tells is looked at from the beginning, in each pass.
        **{name: len(last[name]) for name in ("double_commits", "unjournalled", "lost_reveals", "punished")},
        "jobs_done": sum(row["jobs_done"] for row in rows),
        "jobs_not_accepted": len(last["jobs"]),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
    }


ARGUMENTS: dict[str, dict[str, Any]] = {
    "--nodes": {"type": whole(7), "default": 8, "help": "nodes, of which one lies (default: 8)"},
    "--minutes": {"type": whole(1), "default": 20, "help": "most of them for a pass (default: 20)"},
    "--mutant": {"choices": ["journal", "forgetful"], "default": None, "help": "a fault that has to be found"},
    "--keep": {"type": Path, "default": None, "help": "keep the work folder, with all logs, here"},
}


def main() -> None:
    """Run it."""
    bench = Bench("crashes", __doc__ or "", ARGUMENTS)
    work = bench.args.keep or Path(tempfile.mkdtemp(prefix="quorate-bench-"))
    try:
        measure(bench, work)
    finally:
        if bench.args.keep is None:
            rmtree(work)
    bench.finish(compute_figures(bench))


if __name__ == "__main__":
    main()
