"""Cloud detection on thousands of images in one job: verified, and every mask compared with the program run alone.

A scene is cut into tiles that overlap, each a file, and one job is divided over all. Before and after it the module
runs over the same tiles in bare wasmtime with native WASI, in two processes, and once the static native binary, by
`xargs -P2`, whose masks are those that ours have to equal.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from _bench import ROOT, Bench, whole
from _scenes import EXAMPLES, MODULE
from _tiles import Cut, find_scene
from _usage import Watched

from pictures import load_scene, read_mask, write_mask_picture
from quorate.devnet.devnet import Devnet
from quorate.devnet.options import DevnetOptions
from quorate.jobs import JobRecord
from quorate.orders import OrderWishes
from quorate.progress import JobStage
from quorate.protocol.params import LOCAL
from quorate.protocol.spec import Limits, Partition
from quorate.sdk import QuorateClient

PROCESSES = 2
FUEL_OF_TILE, FUEL_OF_PIXEL = 8_000_000, 1_200
PARAMS = replace(LOCAL, max_commit_period=1200, unbonding_period=20_000)
"""As the devnet's, with time for as many tasks as two processor cores take while ten nodes share them."""
MASK = "cloudmask.pgm"
TIMEOUT_S = 3600.0


def run_bare(bench: Bench, work: Path, names: Sequence[str], when: str, kind: str = "bare") -> None:
    """A row for each of two processes that run half of the tiles each, at once."""
    command = [sys.executable, str(ROOT / "tests" / "bench" / "_bare.py"), kind, str(work / "singles")]
    processes = [
        subprocess.Popen([*command, str(work / f"bare-{n}")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(PROCESSES)
    ]
    try:
        lines = [" ".join(names[number::PROCESSES]) for number in range(PROCESSES)]
        for word in ("ready", "warm"):
            for process in processes:
                assert process.stdout is not None
                if process.stdout.readline().strip() != word:
                    raise SystemExit("a process of bare wasmtime died; its reason is on standard error")
            tell(processes, lines)
        answers = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for answer in answers:
        bench.record(kind, {"when": when, **json.loads(answer)})


def tell(processes: Sequence[subprocess.Popen[str]], lines: Sequence[str]) -> None:
    """A line to each."""
    for process, line in zip(processes, lines, strict=True):
        assert process.stdin is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()


def run_native(bench: Bench, work: Path, names: Sequence[str]) -> None:
    """The static binary over all tiles; its masks stay."""
    subprocess.run([sys.executable, str(EXAMPLES / "build.py"), "--native", str(work / "bin")], check=True, stdout=2)
    for name in names:
        (work / "native" / name).mkdir(parents=True)
    command = [str(work / "bin" / "cloud-detection"), "singles/{}", "native/{}"]
    began = time.perf_counter()
    subprocess.run(
        ["xargs", f"-P{PROCESSES}", "-I{}", *command],
        input="\n".join(names), text=True, check=True, cwd=work, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    bench.record("native", {"seconds": time.perf_counter() - began, "tiles": len(names)})


def run_job(bench: Bench, client: QuorateClient, work: Path) -> JobRecord:
    """The job, from its order to masks on disk, with a row of what it took."""
    fuel = FUEL_OF_TILE + FUEL_OF_PIXEL * bench.args.side**2
    began = time.perf_counter()
    prepared = client.prepare(
        str(MODULE),
        str(work / "tiles"),
        limits=Limits(fuel=fuel, memory_bytes=64 << 20),
        partition=Partition("*.tif"),
    )
    imported = time.perf_counter()
    arrivals: list[float] = []

    def arrived(*_: int) -> None:
        arrivals.append(time.perf_counter() - imported)

    with client.serving() as url:
        period = bench.args.period
        job = client.submit(prepared, OrderWishes(seats=bench.args.seats, commit_period=period), providers=[url])
        fetch = client.open_results(job, work / "result")
        stages = {}
        for step in client.watch(job, timeout_s=TIMEOUT_S, poll_s=0.5):
            stages[step.stage.value] = time.perf_counter() - imported
            bench.say(f"{stages[step.stage.value]:8.1f} s {step.stage.value}")
            if step.stage is JobStage.REVEALED:
                fetch.take(arrived)
        if step.stage != JobStage.ACCEPTED:
            raise SystemExit(f"the job ended as {step.stage.value}: {step.detail}")
    fetched = fetch.finish(arrived)
    row = {
        "job": job.job_id.hex(),
        "import_s": imported - began,
        "total_s": time.perf_counter() - imported,
        "first_s": arrivals[0],
        "last_s": arrivals[-1],
        "stages": stages,
        "result_bytes": fetched.bytes_received,
        "tasks": job.order.task_count,
        "bundles": len(arrivals),
        "refused": len(fetched.refused),
        "result_cid": str(fetched.root),
    }
    bench.record("job", row)
    return job


def record_nodes(bench: Bench, devnet: Devnet, job: JobRecord) -> None:
    """A row for each bundle that a process executed, and for what each process received."""
    for node in devnet.nodes:
        page = httpx.get(f"{node.url}/metrics", trust_env=False, timeout=60.0).text
        [received] = [line.split()[1] for line in page.splitlines() if line.startswith("quorate_received_bytes ")]
        bench.record("received", {"node": node.index, "bytes": int(float(received))})
        seen = set()
        for line in node.running.log.read_text().splitlines():
            entry = json.loads(line) if line.startswith("{") else {}
            is_ours = entry.get("event") == "executed" and entry["job"] == job.job_id.hex()
            if is_ours and entry["vote"] not in seen:  # operators of one process share what they execute
                seen.add(entry["vote"])
                kept = {name: entry[name] for name in ("vote", "tasks", "content_s", "execute_s")}
                bench.record("executions", {"node": node.index, **kept})


def compare(bench: Bench, cut: Cut, work: Path) -> None:
    """A row for each tile: how its task ended, and whether its mask is that of the program alone."""
    told = json.loads((work / "result" / "tasks.json").read_text())
    for tile, task in zip(cut.tiles, told, strict=True):
        if task["paths"] != [tile.file]:
            raise SystemExit(f"task {task['task']} is about {task['paths']}, not about {tile.file}")
        found = work / "result" / "outputs" / tile.file / MASK
        expected = (work / "native" / tile.name / MASK).read_bytes()
        is_same = found.exists() and found.read_bytes() == expected
        bench.record("tiles", {"tile": tile.name, "exit_code": task["exit_code"], "is_same": is_same})


def draw(cut: Cut, work: Path, scene: Path, picture: Path) -> None:
    """The masks of all tiles, put together, beside the scene."""
    paths = [work / "result" / "outputs" / tile.file / MASK for tile in cut.tiles]
    mask = cut.assemble([read_mask(path) if path.exists() else None for path in paths])
    picture.parent.mkdir(parents=True, exist_ok=True)
    write_mask_picture(picture, load_scene(scene), mask, float(mask.mean()))


def mean_wall(rows: Sequence[dict[str, Any]]) -> float:
    """Seconds of a round of two processes at once, on average."""
    rounds = {row["when"] for row in rows}
    return sum(max(row["seconds"] for row in rows if row["when"] == when) for when in rounds) / len(rounds)


def compute_figures(bench: Bench) -> dict[str, Any]:
    """All figures, from rows alone."""
    [job], [native], tiles = bench.rows("job"), bench.rows("native"), bench.rows("tiles")
    bare, usage = bench.rows("bare"), bench.rows("usage")
    executions = sum(row["tasks"] for row in bench.rows("executions"))
    bare_s, profile_s = (mean_wall(bench.rows(kind)) / len(tiles) for kind in ("bare", "profile"))
    bare_cpu_s = sum(row["cpu_s"] for row in bare) / sum(row["tiles"] for row in bare)
    cpu_s = sum(row["cpu_s"] for row in usage)
    fattest = max(usage, key=lambda row: row["growth_mb"])
    received = sum(row["bytes"] for row in bench.rows("received"))
    return {
        "tiles": len(tiles),
        "accepted": sum(row["exit_code"] == 0 for row in tiles),
        "wrong": sum(not row["is_same"] for row in tiles),
        "executions": executions,
        "images_s": round(len(tiles) / job["total_s"], 2),
        "ratio_to_bare": round(job["total_s"] / (executions * bare_s), 3),
        "ratio_to_profile": round(job["total_s"] / (executions * profile_s), 3),
        "ratio_to_bare_cpu": round(cpu_s / (executions * bare_cpu_s), 3),
        "ratio_to_native": round(job["total_s"] / (executions * native["seconds"] / native["tiles"]), 3),
        "first_s": round(job["first_s"], 2),
        "last_s": round(job["last_s"], 2),
        "total_s": round(job["total_s"], 2),
        "import_s": round(job["import_s"], 2),
        "bytes_moved": received + job["result_bytes"],
        "bytes_of_tiles": bench.rows("scene")[0]["bytes"],
        "rss_growth_mb": round(fattest["growth_mb"], 1),
        "rss_growth_of": fattest["process"],
        "bare_ms": round(bare_s * 1000, 3),
        "profile_ms": round(profile_s * 1000, 3),
        "bare_cpu_ms": round(bare_cpu_s * 1000, 3),
        "native_ms": round(native["seconds"] / native["tiles"] * 1000, 3),
        "bundles": job["bundles"],
        "scene": bench.rows("scene")[0]["scene"],
    }


ARGUMENTS: dict[str, dict[str, Any]] = {
    "--tiles": {"type": whole(2), "default": 10_000, "help": "images (default: 10000)"},
    "--side": {"type": whole(32), "default": 120, "help": "pixels of an image's side (default: 120)"},
    "--nodes": {"type": whole(1), "default": 10, "help": "processes of the devnet (default: 10)"},
    "--operators": {"type": whole(1), "default": None, "help": "operators of each (default: what the seats need)"},
    "--seats": {"type": whole(1), "default": 3, "help": "operators that must agree (default: 3)"},
    "--period": {"type": whole(1, 1200), "default": 900, "help": "seconds for executions (default: 900)"},
    "--scene": {"type": Path, "default": None, "help": "a scene's folder (default: the real one, or a synthetic one)"},
    "--keep": {"type": Path, "default": None, "help": "keep the work folder, with the nodes' logs, here"},
}


def find_problem(a: argparse.Namespace) -> str | None:
    """What is wrong with the arguments together."""
    a.operators = a.operators or -(-2 * a.seats // a.nodes)
    if 2 * a.seats > a.nodes * a.operators:
        return f"--seats {a.seats} are more than half of {a.nodes} --nodes with {a.operators} --operators each"
    if a.scene is not None and not a.scene.is_dir():
        return f"argument --scene: {a.scene} is no folder"
    return None


def measure(bench: Bench, work: Path) -> None:
    """All rows, and the picture."""
    a = bench.args
    scene, name = find_scene(a.scene, work, a.seed)
    cut = Cut(scene, a.tiles, a.side)
    size = cut.write(work / "singles", work / "tiles")
    bench.record("scene", {"scene": name, "side": a.side, "bytes": size, "tiles": len(cut.tiles)})
    names = [tile.name for tile in cut.tiles]
    bench.say(f"{len(names)} tiles of {name}, {size / 1e6:.0f} MB; native binary and bare wasmtime")
    run_native(bench, work, names)
    run_bare(bench, work, names, "before")
    run_bare(bench, work, names, "before", "profile")
    options = DevnetOptions(
        home=work / "devnet",
        nodes=a.nodes,
        operators_per_node=a.operators,
        params=PARAMS,
        deposit_wei=10**21,
        block_time_s=1.0,
    )
    with Devnet(options, bench.say) as devnet, QuorateClient.open(devnet.make_config(work / "client")) as client:
        state = json.loads((options.home / "devnet.json").read_text())
        time.sleep(2)  # workers start a moment after their node
        watched = Watched({each["name"]: each["pid"] for each in state["processes"]}, "requester")
        job = run_job(bench, client, work)
        for row in watched.rows():
            bench.record("usage", row)
        record_nodes(bench, devnet, job)
    run_bare(bench, work, names, "after", "profile")
    run_bare(bench, work, names, "after")
    compare(bench, cut, work)
    picture = ROOT / "out" / f"landsat-{len(names)}.png"
    draw(cut, work, scene, picture)
    bench.say(f"picture: {picture.relative_to(ROOT)}; rows: {bench.path('*').relative_to(ROOT)}")


def main() -> None:
    """Run it."""
    bench = Bench("landsat", __doc__ or "", ARGUMENTS, find_problem)
    bench.keep_as(f"{bench.args.tiles}-n{bench.args.nodes}")
    work = bench.args.keep or Path(tempfile.mkdtemp(prefix="quorate-bench-"))
    try:
        measure(bench, work)
    finally:
        if bench.args.keep is None:
            shutil.rmtree(work)
    bench.finish(compute_figures(bench))


if __name__ == "__main__":
    main()
