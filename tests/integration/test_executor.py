"""Real worker processes over a real store: what they cost each other, and what survives when one dies."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import wasmtime

from quorate.protocol.errors import Busy
from quorate.protocol.result import TaskStatus
from quorate.protocol.spec import JobSpec, Limits
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate_node.executor.base import Executed, ExecutionTask, FailureReason, LocalFailure, WorkerCrashed
from quorate_node.executor.pool import WorkerPool

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "client" / "examples" / "cloud-detection"
HELLO = """(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 8) "\\10\\00\\00\\00\\06\\00\\00\\00hello\\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))))"""
LOOP = '(module (func (export "_start") (loop $l (br $l))))'


class Site:
    """A store and what runs on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = EmbeddedStore(folder / "store")

    def pool(self, count: int = 1, **options: float) -> WorkerPool:
        return WorkerPool(count, self.folder / "store", self.folder / "cache", **options)  # type: ignore[arg-type]

    def task(self, module: str | bytes, *, fuel: int = 1_000_000, task_input: str | None = None) -> ExecutionTask:
        wasm = bytes(wasmtime.wat2wasm(module)) if isinstance(module, str) else module
        return ExecutionTask(JobSpec(str(self.store.add_bytes(wasm)), task_input, limits=Limits(fuel=fuel)))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    yield site
    site.store.close()


def ended(outcome: Executed | LocalFailure) -> Executed:
    assert isinstance(outcome, Executed), outcome
    return outcome


def failed(outcome: Executed | LocalFailure) -> LocalFailure:
    assert isinstance(outcome, LocalFailure), outcome
    return outcome


async def test_workers_run_tasks_side_by_side(site: Site) -> None:
    async with site.pool(2) as pool:
        task = site.task(HELLO)
        outcomes = await asyncio.gather(*(pool.execute(task, timeout_s=10) for _ in range(20)))
    results = {ended(outcome).result for outcome in outcomes}
    assert len(results) == 1
    assert site.store.read(Cid.parse(results.pop().stdout_cid)) == b"hello\n"


async def test_a_loop_with_endless_fuel_times_out_and_the_worker_goes_on(site: Site) -> None:
    async with site.pool() as pool:
        started = time.monotonic()
        failure = failed(await pool.execute(site.task(LOOP, fuel=1 << 62), timeout_s=0.2))
        assert failure.reason is FailureReason.TIMEOUT
        assert time.monotonic() - started < 60
        assert ended(await pool.execute(site.task(HELLO), timeout_s=10)).result.status is TaskStatus.OK
        assert pool.restarts == 0


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_killed_worker_takes_down_its_own_task_only(site: Site) -> None:
    async with site.pool(2) as pool:
        doomed = asyncio.create_task(pool.execute(site.task(LOOP, fuel=1 << 62), timeout_s=600))
        await asyncio.sleep(0.3)
        (busy,) = (worker.pid for worker in pool._busy)
        other = pool.execute(site.task(HELLO), timeout_s=10)
        os.kill(busy, signal.SIGKILL)
        failure = failed(await doomed)
        assert failure.reason is FailureReason.WORKER_DIED
        assert "SIGKILL" in failure.detail
        assert ended(await other).result.status is TaskStatus.OK
        again = await asyncio.gather(*(pool.execute(site.task(HELLO), timeout_s=10) for _ in range(4)))
        assert all(ended(outcome).result.status is TaskStatus.OK for outcome in again)
        assert pool.restarts == 1


async def test_a_cancelled_task_frees_its_worker(site: Site) -> None:
    async with site.pool() as pool:
        running = asyncio.create_task(pool.execute(site.task(LOOP, fuel=1 << 62), timeout_s=600))
        await asyncio.sleep(0.3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert ended(await pool.execute(site.task(HELLO), timeout_s=10)).result.status is TaskStatus.OK


async def test_closing_ends_all_workers_at_once(site: Site) -> None:
    before = set(children_of(os.getpid()))
    pool = site.pool(2)
    await pool.start()
    waiting = [asyncio.create_task(pool.execute(site.task(LOOP, fuel=1 << 62), timeout_s=600)) for _ in range(5)]
    await asyncio.sleep(0.3)
    await pool.close()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LocalFailure] * 2 + [Busy] * 3
    with pytest.raises(Busy):
        await pool.execute(site.task(HELLO), timeout_s=1)
    assert set(children_of(os.getpid())) <= before


async def test_a_poisoned_cache_is_not_run(site: Site) -> None:
    task = site.task(HELLO)
    async with site.pool() as pool:
        good = ended(await pool.execute(task, timeout_s=10)).result
    (file,) = (site.folder / "cache").glob("*.cwasm")
    noise = random.Random(1).randbytes(file.stat().st_size)
    file.write_bytes(noise)
    async with site.pool() as pool:
        assert ended(await pool.execute(task, timeout_s=10)).result == good
    assert file.read_bytes() != noise


async def test_missing_data_is_no_vote(site: Site) -> None:
    async with site.pool() as pool:
        gone = str(Cid.of(b"nobody has this"))
        failure = failed(await pool.execute(ExecutionTask(JobSpec(gone)), timeout_s=10))
        assert failure.reason is FailureReason.DATA_UNAVAILABLE


async def test_workers_that_cannot_start_are_an_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkerCrashed):
        await site.pool().start()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_node_that_dies_leaves_no_worker(site: Site) -> None:
    """A worker in the middle of an endless task notices that its parent is gone."""
    task = site.task(LOOP, fuel=1 << 62)
    program = f"""
import asyncio, os, sys
from pathlib import Path
from quorate.protocol.spec import JobSpec
from quorate_node.executor.base import ExecutionTask
from quorate_node.executor.pool import WorkerPool
async def main():
    spec = JobSpec.from_bytes({task.spec.to_bytes()!r})
    async with WorkerPool(1, Path({str(site.folder / "store")!r}), Path({str(site.folder / "cache")!r})) as pool:
        running = asyncio.create_task(pool.execute(ExecutionTask(spec), timeout_s=600))
        await asyncio.sleep(0.5)
        print(next(iter(pool._busy)).pid, flush=True)
        os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    worker = int(done.stdout)
    for _ in range(100):
        if not is_alive(worker):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the worker lives on")


def make_scene(folder: Path, size: int, seed: int = 1) -> None:
    command = [sys.executable, str(EXAMPLE / "make_scene.py"), str(folder), "--size", str(size), "--seed", str(seed)]
    subprocess.run(command, check=True)


async def test_clouds_are_found_alike_by_every_worker(site: Site, tmp_path: Path) -> None:
    make_scene(tmp_path / "scene", 300)
    scene = str(site.store.add_path(tmp_path / "scene"))
    task = site.task((EXAMPLE / "cloud-detection.wasm").read_bytes(), fuel=10_000_000_000, task_input=scene)
    async with site.pool(2) as pool:
        outcomes = await asyncio.gather(*(pool.execute(task, timeout_s=60) for _ in range(4)))
    runs = [ended(outcome) for outcome in outcomes]
    assert {run.result.status for run in runs} == {TaskStatus.OK}
    assert len({run.result.leaf for run in runs}) == 1
    assert len({run.fuel_used for run in runs}) == 1
    outputs = {entry.name: entry.cid for entry in site.store.list(Cid.parse(runs[0].result.outputs_cid))}
    assert set(outputs) == {"cloudmask.pgm", "stats.json"}
    stats = json.loads(site.store.read(outputs["stats.json"]))
    mask = site.store.read(outputs["cloudmask.pgm"])
    assert mask.startswith(b"P5\n300 300\n255\n")
    assert mask[15:].count(b"\xff") == stats["cloud_pixels"]
    assert 0.05 < stats["cloud_share"] < 0.25


def test_a_scene_is_the_same_for_a_seed(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_scene(tmp_path / name, 64, seed)
        content = b"".join(path.read_bytes() for path in sorted((tmp_path / name).iterdir()))
        digests.append(hashlib.sha256(content).hexdigest())
    assert digests[0] == digests[1] != digests[2]


async def test_bad_scenes_end_with_a_message(site: Site, tmp_path: Path) -> None:
    """Whatever is wrong with a band: exit code 3 and a reason, never a trap."""
    make_scene(tmp_path / "scene", 64)
    good = {path.name: path.read_bytes() for path in (tmp_path / "scene").iterdir()}
    band, rng = good["l8_B4.tif"], random.Random(7)
    broken: list[dict[str, bytes]] = [
        {},
        {"l8_MTL.txt": good["l8_MTL.txt"]},
        good | {"l8_MTL.txt": b""},
        good | {"l8_MTL.txt": good["l8_MTL.txt"].replace(b"SUN_ELEVATION = 60.0", b"SUN_ELEVATION = -3")},
        good | {"l8_B4.tif": b""},
        good | {"l8_B4.tif": band[: len(band) // 2]},
        good | {"l8_B4.tif": band.replace(b"II", b"MM", 1)},
        good | {"l8_B4.tif": b"II*\0\xff\xff\xff\xff" + band[8:]},
    ]
    fuzzed = []
    for _ in range(40):
        spoilt = bytearray(band)
        for _ in range(3):
            spoilt[rng.randrange(8, 160)] = rng.randrange(256)
        fuzzed.append(good | {"l8_B4.tif": bytes(spoilt)})
    module = (EXAMPLE / "cloud-detection.wasm").read_bytes()
    async with site.pool(2) as pool:
        for index, files in enumerate([*broken, *fuzzed]):
            task = site.task(module, fuel=10_000_000_000, task_input=str(site.store.add_tree(files)))
            executed = ended(await pool.execute(task, timeout_s=60))
            assert executed.result.exit_code in ((3,) if index < len(broken) else (0, 3)), executed
            assert executed.stderr.startswith(b"cloud-detection: ") or executed.result.exit_code == 0
