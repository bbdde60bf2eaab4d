"""One 10 MB job, from signature to verified bytes on disk: where its time goes, and what it costs in gas.

The same program runs natively and in bare wasmtime (native WASI, no metering) in the same run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _bench import Bench, median, whole
from _scenes import EXAMPLES, MODULE, NativeWasi, make_scene

from quorate.devnet.devnet import Devnet
from quorate.devnet.options import DevnetOptions
from quorate.orders import OrderWishes
from quorate.progress import JobStage
from quorate.protocol.spec import Limits
from quorate.sdk import QuorateClient

GAS_OF = {"post": "post", "assign": "prove_beacon", "commit": "commit", "accept": "settle"}


def time_native(binary: Path, scene: Path, outputs: Path) -> float:
    """Seconds of the static binary."""
    began = time.perf_counter()
    subprocess.run([str(binary), str(scene), str(outputs)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def run_job(bench: Bench, client: QuorateClient, scene: Path, number: int) -> None:
    """One job, with a row of what it took. Each job has content of its own, so that nobody has it before."""
    (scene / "run.txt").write_text(f"{number}\n")
    began = time.perf_counter()
    prepared = client.prepare(
        str(MODULE),
        str(scene),
        env=[f"RUN={number}"],
        limits=Limits(fuel=2_000_000_000, memory_bytes=256 << 20),
    )
    imported = time.perf_counter()
    with client.serving() as url:
        job = client.submit(prepared, OrderWishes(seats=bench.args.seats), providers=[url])
        last = client.wait(job, timeout_s=120)
        if last.stage != JobStage.ACCEPTED:
            raise SystemExit(f"job {number} ended as {last.stage.value}: {last.detail}")
    accepted = time.perf_counter()
    fetched = client.fetch_result(job, client.config.home / "results" / str(number))
    done = time.perf_counter()
    receipt = client.describe(job)
    gas = {
        GAS_OF[name]: client.gateway.wait(bytes.fromhex(digest[2:])).gas_used
        for name, digest in receipt["transactions"].items()
        if name in GAS_OF
    }
    row: dict[str, Any] = {
        "job": job.job_id.hex(),
        "import_s": imported - began,
        "accept_s": accepted - imported,
        "fetch_s": done - accepted,
        "total_s": done - began,
        "result_bytes": fetched.bytes_received,
        "steps": receipt["seconds"],
        "gas": gas,
    }
    bench.record("jobs", row)
    bench.say(f"job {number}: {row['total_s']:.2f} s")


def record_executions(bench: Bench, logs: Path) -> None:
    """What the seats' logs say of content and execution, one row a seat."""
    for log in sorted(logs.glob("node-*.log")):
        for line in log.read_text().splitlines():
            if line.startswith("{") and (entry := json.loads(line)).get("event") == "executed":
                bench.record("executions", {"node": log.stem, **entry})


def compute_figures(bench: Bench) -> dict[str, Any]:
    """Medians over the jobs but the first, which warms caches. A job waits for its slowest seat."""
    jobs, executions = bench.rows("jobs")[1:], bench.rows("executions")
    seats = [[e for e in executions if e["job"] == job["job"]] for job in jobs]
    execution = [max(e["execute_s"] for e in group) for group in seats]
    content = [max(e["content_s"] for e in group) for group in seats]
    transfer = [job["import_s"] + job["fetch_s"] + c for job, c in zip(jobs, content, strict=True)]
    chain = [job["total_s"] - x - t for job, x, t in zip(jobs, execution, transfer, strict=True)]
    total = median(job["total_s"] for job in jobs)
    native = median(row["native_s"] for row in bench.rows("baseline"))
    bare = median(row["bare_wasm_s"] for row in bench.rows("baseline"))
    return {
        "jobs": len(jobs),
        "seconds_total": total,
        "seconds_chain": median(chain),
        "seconds_execution": median(execution),
        "seconds_transfer": median(transfer),
        "seconds_native": native,
        "seconds_bare_wasm": bare,
        "ratio_to_bare_wasm": round(total / bare, 2),
        "ratio_execution_to_bare_wasm": round(median(execution) / bare, 2),
        "gas_per_job": {name: median((job["gas"][name] for job in jobs), 0) for name in sorted(jobs[0]["gas"])},
    }


def main() -> None:
    """Run it."""
    bench = Bench(
        "single",
        __doc__ or "",
        {
            "--jobs": {"type": whole(1), "default": 5, "help": "jobs that count, after one to warm up (default: 5)"},
            "--nodes": {"type": whole(2), "default": 6, "help": "nodes of the devnet (default: 6)"},
            "--seats": {"type": whole(1), "default": 3, "help": "operators that must agree (default: 3)"},
        },
        lambda a: None if 2 * a.seats <= a.nodes else f"--seats {a.seats} are more than half of --nodes {a.nodes}",
    )
    work = Path(tempfile.mkdtemp(prefix="quorate-bench-"))
    try:
        scene, outputs, binaries = make_scene(work / "scene", bench.args.seed), work / "outputs", work / "bin"
        outputs.mkdir()
        subprocess.run([sys.executable, str(EXAMPLES / "build.py"), "--native", str(binaries)], check=True, stdout=2)
        bare = NativeWasi(MODULE)
        with Devnet(DevnetOptions(home=work / "devnet", nodes=bench.args.nodes), bench.say) as devnet:
            with QuorateClient.open(devnet.make_config(work / "client")) as client:
                for number in range(bench.args.jobs + 1):
                    run_job(bench, client, scene, number)
                    native_s = time_native(binaries / "cloud-detection", scene, outputs)
                    bench.record("baseline", {"native_s": native_s, "bare_wasm_s": bare.time(scene, outputs)})
            record_executions(bench, work / "devnet" / "logs")
    finally:
        shutil.rmtree(work)
    bench.finish(compute_figures(bench))


if __name__ == "__main__":
    main()
