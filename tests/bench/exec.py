"""The executor by itself: what its WASI costs beside wasmtime's own, small jobs, two workers, and what is read.

Both sides of each ratio run by turns, with one engine configuration (metered, deterministic). Our side of the WASI
ratio is a whole job, its inputs checked against their CIDs and its outputs stored; native WASI's is the bare program
over folders. A small job is timed by the worker that ran it, from the spec to the stored result. Beside the gain of a
second worker stands that of a second process of native WASI: what this machine had to give in the same minute.
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
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import wasmtime
from _bench import ROOT, Bench, median, whole
from _scenes import MODULE, NativeWasi, make_scene

from quorate.protocol.spec import JobSpec, Limits
from quorate.storage.embedded import EmbeddedStore
from quorate_node.executor.base import Executed, ExecutionTask, LocalFailure
from quorate_node.executor.cache import ModuleCache
from quorate_node.executor.pool import WorkerPool
from quorate_node.executor.runner import TaskRunner
from quorate_node.executor.wasm import TICK_SECONDS, Ending, Runtime, build_engine

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
    """Rows of a job of ours, native WASI twice, and another job: what drifts evenly in between falls on both alike.

    Native WASI writes its outputs where no disk is waited for. Our store has them from the first row on, so that it
    hashes but does not write them again.
    """
    engine = build_engine()
    runtime, store = Runtime(engine), EmbeddedStore(work / "store")
    runner = TaskRunner(store, ModuleCache(engine, work / "cache", os.urandom(32)), runtime)
    native = NativeWasi(MODULE, engine, LIMITS.fuel)
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else work
    with tempfile.TemporaryDirectory(dir=in_memory) as folder, ticking(runtime):
        outputs = Path(folder)
        specs = make_specs(store, MODULE, 2 * (bench.args.runs + 1), scene)
        for number in range(bench.args.runs + 1):
            first = time_job(runner, specs.pop())
            native_s = [native.time(scene, outputs) for _ in range(2)]
            ours_s = [first, time_job(runner, specs.pop())]
            if number:  # the first row warms caches
                bench.record("wasi", {"ours_s": ours_s, "native_s": native_s})


def time_job(runner: TaskRunner, spec: JobSpec) -> float:
    """Seconds from the spec to the stored result."""
    outcome = runner.run(ExecutionTask(spec), TIMEOUT_S)
    check(outcome)
    assert isinstance(outcome, Executed)
    return outcome.seconds


class PartedRuntime(Runtime):
    """Notes when the last run began and how long it took."""

    began = seconds = 0.0

    def run(self, *args: Any, **options: Any) -> Ending | LocalFailure:
        """As Runtime's."""
        self.began = time.perf_counter()
        try:
            return super().run(*args, **options)
        finally:
            self.seconds = time.perf_counter() - self.began


def time_parts(bench: Bench, work: Path, module: Path) -> None:
    """A row for each small job in this process: before the run, the run with its instance's making and end, after."""
    engine = build_engine()
    runtime, store = PartedRuntime(engine), EmbeddedStore(work / "store")
    runner = TaskRunner(store, ModuleCache(engine, work / "cache", os.urandom(32)), runtime)
    with ticking(runtime):
        for number, spec in enumerate(make_specs(store, module, bench.args.small + 5)):
            began = time.perf_counter()
            seconds = time_job(runner, spec)
            before = runtime.began - began
            if number >= 5:
                row = {"before_s": before, "run_s": runtime.seconds, "after_s": seconds - before - runtime.seconds}
                bench.record("parts", row)


@contextmanager
def ticking(runtime: Runtime) -> Iterator[None]:
    """Let the runtime's time pass, as in a worker."""
    stop = threading.Event()
    thread = threading.Thread(target=lambda: tick(runtime, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


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
    """Rows of the same work by one worker and by two, by one native process and by two, and of what a worker reads."""
    store = EmbeddedStore(work / "store")
    count, size = bench.args.batch, sum_sizes(scene)
    specs = make_specs(store, MODULE, 2 * bench.args.rounds * count + 3, scene)
    async with WorkerPool(1, work / "store", work / "cache") as one:
        [pid] = find_children()
        async with WorkerPool(2, work / "store", work / "cache") as two, native_processes(work, scene) as processes:
            await run_all(one, [specs.pop()])
            await run_all(two, [specs.pop(), specs.pop()])
            for number in range(bench.args.rounds):
                read = read_counters(pid)
                row: dict[str, float] = {"tasks": count}
                turn = 1 if number % 2 else -1
                for pool, name in ((one, "one_s"), (two, "two_s"))[::turn]:
                    row[name], _ = await run_all(pool, [specs.pop() for _ in range(count)])
                for some, name in ((processes[:1], "native_one_s"), (processes, "native_two_s"))[::turn]:
                    row[name] = await run_native(some, count)
                bench.record("workers", row)
                after = read_counters(pid)
                read = {name: after[name] - before for name, before in read.items()}
                bench.record("reads", {"input_bytes": size * count, **read})


@asynccontextmanager
async def native_processes(work: Path, scene: Path) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Two processes of native WASI, warm."""
    processes: list[asyncio.subprocess.Process] = []
    script = str(ROOT / "tests" / "bench" / "_native.py")
    try:
        for number in range(2):
            command = [sys.executable, script, str(scene), str(work / f"native{number}"), str(LIMITS.fuel)]
            pipe = asyncio.subprocess.PIPE
            processes.append(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe))
            await read_answer(processes[-1])
        yield processes
    finally:
        for process in processes:
            process.kill()
            await process.wait()


async def read_answer(process: asyncio.subprocess.Process) -> None:
    """Wait for a native run's end."""
    assert process.stdout is not None
    if not await process.stdout.readline():
        raise SystemExit("a process of native WASI died; its reason is on standard error")


async def run_native(processes: Sequence[asyncio.subprocess.Process], count: int) -> float:
    """Seconds that processes take for `count` runs, each taking the next when it is free."""
    left = count

    async def work_on(process: asyncio.subprocess.Process) -> None:
        nonlocal left
        assert process.stdin is not None
        while left:
            left -= 1
            process.stdin.write(b"\n")
            await read_answer(process)

    began = time.perf_counter()
    await asyncio.gather(*map(work_on, processes))
    return time.perf_counter() - began


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
    kinds = ("wasi", "small", "parts", "workers", "reads")
    wasi, small, parts, workers, reads = map(bench.rows, kinds)
    ours, native = ([second for row in wasi for second in row[name]] for name in ("ours_s", "native_s"))
    return {
        "wasi_ratio": median(sum(row["ours_s"]) / sum(row["native_s"]) for row in wasi),
        "wasi_ratio_best": round(min(ours) / min(native), 4),
        "wasi_seconds": median(ours),
        "small_job_ms": median(row["worker_s"] * 1000 for row in small),
        "small_job_ms_p99": round(sorted(row["worker_s"] for row in small)[len(small) * 99 // 100] * 1000, 4),
        "small_job_pool_ms": median(row["pool_s"] * 1000 for row in small),
        "small_job_parts_ms": {name[:-2]: median(row[name] * 1000 for row in parts) for name in sorted(parts[0])},
        "two_worker_speedup": median(row["one_s"] / row["two_s"] for row in workers),
        "native_two_process_speedup": median(row["native_one_s"] / row["native_two_s"] for row in workers),
        "bytes_read_per_input_byte": median(row["rchar"] / row["input_bytes"] for row in reads),
        "disk_bytes_per_input_byte": median(row["read_bytes"] / row["input_bytes"] for row in reads),
    }


def main() -> None:
    """Run it."""
    bench = Bench(
        "exec",
        __doc__ or "",
        {
            "--runs": {"type": whole(1), "default": 40, "help": "rows of four runs for the WASI ratio (default: 40)"},
            "--small": {"type": whole(1), "default": 500, "help": "small jobs (default: 500)"},
            "--rounds": {"type": whole(1), "default": 11, "help": "rounds of one and two workers (default: 11)"},
            "--batch": {"type": whole(2), "default": 12, "help": "tasks of such a round (default: 12)"},
        },
    )
    work = Path(tempfile.mkdtemp(prefix="quorate-bench-"))
    try:
        scene = make_scene(work / "scene", bench.args.seed)
        bench.say("WASI in memory and wasmtime's own, by turns")
        compare_wasi(bench, work, scene)
        bench.say("small jobs")
        small = build_small(work)
        asyncio.run(time_small_jobs(bench, work, small))
        time_parts(bench, work, small)
        bench.say("one worker and two, by turns")
        asyncio.run(compare_workers(bench, work, scene))
    finally:
        shutil.rmtree(work)
    bench.finish(compute_figures(bench))


if __name__ == "__main__":
    main()
