"""The executor by itself: what its WASI costs beside wasmtime's own, small jobs, two workers, and what is read.

Both sides of each ratio run by turns, with one engine configuration (metered, deterministic). A small job is timed by
the worker that ran it, from the spec to the stored result.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wasmtime
from _bench import ROOT, Bench, median, whole
from _scenes import MODULE, NativeWasi, make_scene

from quorate.protocol.spec import JobSpec, Limits
from quorate.storage.embedded import EmbeddedStore
from quorate_node.executor.base import Executed, ExecutionTask
from quorate_node.executor.cache import ModuleCache
from quorate_node.executor.pool import WorkerPool
from quorate_node.executor.runner import TaskRunner
from quorate_node.executor.wasm import TICK_SECONDS, Runtime, build_engine

LIMITS = Limits(fuel=2_000_000_000, memory_bytes=256 << 20)
MOST_IMPORTS = 10
TIMEOUT_S = 120.0


def build_small(folder: Path) -> Path:
    """The small C module."""
    target = folder / "small.wasm"
    source = ROOT / "tests" / "bench" / "small.c"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O2", "-s", str(source)]
    subprocess.run([*command, "-o", str(target)], check=True)
    imports = len(wasmtime.Module.from_file(wasmtime.Engine(), str(target)).imports)
    if imports > MOST_IMPORTS:
        raise SystemExit(f"the small module has {imports} imports, more than {MOST_IMPORTS}")
    return target


def make_specs(store: EmbeddedStore, module: Path, count: int, scene: Path | None = None) -> list[JobSpec]:
    """Specs of jobs that differ in one argument or variable, so that each is a job of its own."""
    wasm = str(store.add_path(module).to_v1())
    if scene is None:
        return [JobSpec(wasm, args=(f"number {n}",), limits=LIMITS) for n in range(count)]
    source = str(store.add_path(scene).to_v1())
    return [JobSpec(wasm, input=source, env={"RUN": str(n)}, limits=LIMITS) for n in range(count)]


def compare_wasi(bench: Bench, work: Path, scene: Path) -> None:
    """Rows of runs by turns: ours from the mounted input to the program's end, and native WASI over real folders."""
    engine = build_engine()
    runtime, store = Runtime(engine), EmbeddedStore(work / "store")
    runner = TaskRunner(store, ModuleCache(engine, work / "cache", os.urandom(32)), runtime)
    outputs = work / "outputs"
    outputs.mkdir()
    native = NativeWasi(MODULE, engine, LIMITS.fuel)
    stop = threading.Event()
    ticking = threading.Thread(target=lambda: tick(runtime, stop), daemon=True)
    ticking.start()
    for number, spec in enumerate(make_specs(store, MODULE, bench.args.runs + 2, scene)):
        native_s = native.time(scene, outputs)
        outcome = runner.run(ExecutionTask(spec), TIMEOUT_S)
        check(outcome)
        assert isinstance(outcome, Executed)
        if number > 1:  # the first two warm caches
            bench.record("wasi", {"ours_s": outcome.seconds, "native_s": native_s})
    stop.set()
    ticking.join()


def tick(runtime: Runtime, stop: threading.Event) -> None:
    """What a worker's ticker does."""
    while not stop.wait(TICK_SECONDS):
        runtime.tick()


def check(outcome: object) -> None:
    """A benchmark of failures would be fast."""
    if not isinstance(outcome, Executed) or outcome.result.exit_code != 0:
        raise SystemExit(f"a task failed: {outcome}")


async def run_all(pool: WorkerPool, specs: Sequence[JobSpec]) -> tuple[float, list[Executed]]:
    """Seconds that a pool takes for all, and the outcomes."""
    began = time.perf_counter()
    outcomes = await asyncio.gather(*(pool.execute(ExecutionTask(spec), timeout_s=TIMEOUT_S) for spec in specs))
    taken = time.perf_counter() - began
    for outcome in outcomes:
        check(outcome)
    return taken, [outcome for outcome in outcomes if isinstance(outcome, Executed)]


async def time_small_jobs(bench: Bench, work: Path, module: Path) -> None:
    """A row for each small job, of the worker's seconds and of the pool's."""
    store = EmbeddedStore(work / "store")
    async with WorkerPool(1, work / "store", work / "cache") as pool:
        for number, spec in enumerate(make_specs(store, module, bench.args.small + 5)):
            taken, [outcome] = await run_all(pool, [spec])
            if number >= 5:
                bench.record("small", {"worker_s": outcome.seconds, "pool_s": taken})


async def compare_workers(bench: Bench, work: Path, scene: Path) -> None:
    """Rows of the same work by one worker and by two, by turns, and of what a worker reads."""
    store = EmbeddedStore(work / "store")
    count, size = bench.args.batch, sum_sizes(scene)
    specs = make_specs(store, MODULE, 2 * bench.args.rounds * count + 3, scene)
    async with WorkerPool(1, work / "store", work / "cache") as one:
        [pid] = find_children()
        async with WorkerPool(2, work / "store", work / "cache") as two:
            await run_all(one, [specs.pop()])
            await run_all(two, [specs.pop(), specs.pop()])
            for _ in range(bench.args.rounds):
                read = read_counters(pid)
                one_s, _ = await run_all(one, [specs.pop() for _ in range(count)])
                read = {name: value - read[name] for name, value in read_counters(pid).items()}
                two_s, _ = await run_all(two, [specs.pop() for _ in range(count)])
                bench.record("workers", {"tasks": count, "one_s": one_s, "two_s": two_s})
                bench.record("reads", {"input_bytes": size * count, **read})


def sum_sizes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def find_children() -> list[int]:
    """Process ids of this process's children."""
    lists = Path("/proc/self/task").glob("*/children")
    return [int(pid) for path in lists for pid in path.read_text().split()]


def read_counters(pid: int) -> dict[str, int]:
    """A process's I/O counters: `rchar` bytes by read calls, `read_bytes` from the disk."""
    pairs = (line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return {name: int(value) for name, value in pairs if name in ("rchar", "read_bytes")}


def compute_figures(bench: Bench) -> dict[str, Any]:
    """All figures, from rows alone."""
    wasi, small, workers, reads = map(bench.rows, ("wasi", "small", "workers", "reads"))
    return {
        "wasi_ratio": median(row["ours_s"] / row["native_s"] for row in wasi),
        "wasi_ratio_best": round(min(row["ours_s"] for row in wasi) / min(row["native_s"] for row in wasi), 4),
        "wasi_seconds": median(row["ours_s"] for row in wasi),
        "small_job_ms": median(row["worker_s"] * 1000 for row in small),
        "small_job_ms_p99": round(sorted(row["worker_s"] for row in small)[len(small) * 99 // 100] * 1000, 4),
        "small_job_pool_ms": median(row["pool_s"] * 1000 for row in small),
        "two_worker_speedup": median(row["one_s"] / row["two_s"] for row in workers),
        "bytes_read_per_input_byte": median(row["rchar"] / row["input_bytes"] for row in reads),
        "disk_bytes_per_input_byte": median(row["read_bytes"] / row["input_bytes"] for row in reads),
    }


def main() -> None:
    """Run it."""
    bench = Bench(
        "exec",
        __doc__ or "",
        {
            "--runs": {"type": whole(1), "default": 15, "help": "pairs of runs for the WASI ratio (default: 15)"},
            "--small": {"type": whole(1), "default": 500, "help": "small jobs (default: 500)"},
            "--rounds": {"type": whole(1), "default": 5, "help": "rounds of one and two workers (default: 5)"},
            "--batch": {"type": whole(2), "default": 6, "help": "tasks of such a round (default: 6)"},
        },
    )
    work = Path(tempfile.mkdtemp(prefix="quorate-bench-"))
    try:
        scene = make_scene(work / "scene", bench.args.seed)
        bench.say("WASI in memory and wasmtime's own, by turns")
        compare_wasi(bench, work, scene)
        bench.say("small jobs")
        asyncio.run(time_small_jobs(bench, work, build_small(work)))
        bench.say("one worker and two, by turns")
        asyncio.run(compare_workers(bench, work, scene))
    finally:
        shutil.rmtree(work)
    bench.finish(compute_figures(bench))


if __name__ == "__main__":
    main()
