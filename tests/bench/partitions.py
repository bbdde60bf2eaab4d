"""Splits of the network and their healing: three hosts, each a network namespace, cut off in every phase of a job.

Who is back before its deadline must not lose anything, every result must be right, everything must be settled to the
wei; one that stays away is fined for its seats, and replaced. Needs root, or whatever may make network namespaces.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _bench import ROOT, Bench

sys.path.insert(0, str(ROOT))
from tests.faults.hosts import find_obstacle
from tests.faults.partitions import AWAY, DISPUTED, HONEST

SCENES = (*HONEST, *DISPUTED)
ARGUMENTS: dict[str, dict[str, Any]] = {
    "--scenes": {"nargs": "+", "choices": SCENES, "default": list(SCENES), "help": "which ones (default: all)"}
}


def main() -> None:
    """Run it."""
    bench = Bench("partitions", __doc__ or "", ARGUMENTS, lambda _: find_obstacle())
    work = Path(tempfile.mkdtemp(prefix="quorate-bench-"))
    try:
        command = ["unshare", "--net", sys.executable, "-m", "tests.faults.partitions", str(work), *bench.args.scenes]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    finally:
        shutil.rmtree(work)
    if done.returncode != 0:
        raise SystemExit("a scene could not be played to its end; its reason is above")
    for name, told in json.loads(done.stdout.splitlines()[-1]).items():
        bench.record("scenes", {"scene": name, **told})
    rows = bench.rows("scenes")
    healed = [row for row in rows if row["scene"] != AWAY]
    bench.finish(
        {
            "scenes": len(rows),
            "right": sum(row["is_right"] for row in rows),
            "honest_faults": sum(len(row["faults"]) for row in healed),
            "honest_abstained": sum(len(row["abstained"]) for row in healed),
            "honest_slashed": sum(len(row["slashed"]) for row in rows),
            "liars_slashed": sum(len(row["liars_slashed"]) for row in rows),
            "faults_of_staying_away": sum(len(row["faults"]) for row in rows if row["scene"] == AWAY),
            "attempts": sum(row["attempts"] for row in rows),
        }
    )


if __name__ == "__main__":
    main()
