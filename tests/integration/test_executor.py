"""Real worker processes over a real store: what they cost each other, and what survives when one dies."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from quorate.protocol.errors import Busy
from quorate.protocol.result import TaskResult, TaskStatus, compute_task_id
from quorate.protocol.spec import JobSpec, Limits, compute_raw_cid
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate_node.executor.base import Executed, ExecutionTask, FailureReason, LocalFailure, WorkerCrashed
from quorate_node.executor.pool import MAX_BATCH, MAX_PACES, Paces, WorkerPool
from quorate_node.executor.wasi.host import RandomStream
from quorate_node.executor.worker_process import Worker

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


# Says hello, but for tasks whose first byte of chance is below 32: those loop, on fuel that lasts.
SOME_LOOP = """(module (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (drop (call $random (i32.const 0) (i32.const 1)))
    (if (i32.lt_u (i32.load8_u (i32.const 0)) (i32.const 32)) (then (loop $l (br $l))))))"""


def is_looping(task: ExecutionTask) -> bool:
    first = bytearray(1)
    RandomStream(compute_task_id(task.spec.digest, task.task_index)).fill(memoryview(first))
    return first[0] < 32


def count_asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tasks workers are asked for at a time, from now on; what is known of a job counts as quick."""
    monkeypatch.setattr("quorate_node.executor.pool.BATCH_SECONDS", 600)
    asked: list[int] = []
    ask_for = Worker.ask_for

    async def spy(worker: Worker, count: int, message: dict[str, Any]) -> list[dict[str, Any]]:
        if "tasks" in message:
            asked.append(count)
        return await ask_for(worker, count, message)

    monkeypatch.setattr(Worker, "ask_for", spy)
    return asked


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110  (what it waits for tells nobody)
            await asyncio.sleep(0.02)


async def test_small_tasks_of_a_job_are_asked_for_together(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, other = site.task(HELLO).spec, site.task(HELLO, fuel=999_999).spec
    async with site.pool() as pool:
        await pool.execute(ExecutionTask(spec), timeout_s=10)
        asked = count_asked(monkeypatch)
        tasks = [ExecutionTask(spec, index) for index in range(60)] + [ExecutionTask(other, index) for index in (0, 1)]
        outcomes = await asyncio.gather(*(pool.execute(task, timeout_s=10) for task in tasks))
        assert pool.restarts == 0
    assert sum(asked) == len(tasks)
    assert max(asked) > 1
    assert asked[-2:] == [1, 1]  # of the other job nothing is known yet
    results = [ended(outcome).result for outcome in outcomes]
    assert [(result.spec, result.task_index) for result in results] == [(t.spec.cid, t.task_index) for t in tasks]
    for result in results:
        assert site.store.get(Cid.parse(result.cid)) == result.to_bytes()
        assert site.store.read(Cid.parse(result.stdout_cid)) == b"hello\n"


async def test_of_tasks_asked_for_together_the_one_that_kills_its_worker_fails_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = site.task(SOME_LOOP, fuel=1 << 62).spec
    quick = [task for task in (ExecutionTask(spec, index) for index in range(100)) if not is_looping(task)]
    slow = next(task for task in (ExecutionTask(spec, index) for index in range(100)) if is_looping(task))
    async with site.pool() as pool:
        await pool.execute(quick[0], timeout_s=600)
        asked = count_asked(monkeypatch)
        tasks = [*quick[1:4], slow, *quick[4:7]]
        running = [asyncio.create_task(pool.execute(task, timeout_s=600)) for task in tasks]
        await until(lambda: asked == [len(tasks)])
        for number in (7, 11):  # tasks that were begun, each of those before the slow one twice
            await until(lambda number=number: sum(asked) == number and bool(pool._busy))
            await asyncio.sleep(0.2)
            (busy,) = (worker.pid for worker in pool._busy)
            os.kill(busy, signal.SIGKILL)
        outcomes = await asyncio.gather(*running)
        assert pool.restarts == 2
    assert asked == [7, *[1] * 7]
    assert failed(outcomes.pop(3)).reason is FailureReason.WORKER_DIED
    assert [ended(each).result.task_index for each in outcomes] == [task.task_index for task in quick[1:7]]


async def test_a_cancelled_task_leaves_those_asked_for_with_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = site.task(SOME_LOOP, fuel=1 << 62).spec
    tasks = [ExecutionTask(spec, index) for index in range(100)]
    slow, quick = next(filter(is_looping, tasks)), [task for task in tasks if not is_looping(task)]
    async with site.pool() as pool:
        await pool.execute(quick[0], timeout_s=600)
        asked = count_asked(monkeypatch)
        pair = [asyncio.create_task(pool.execute(task, timeout_s=1)) for task in (quick[1], slow, quick[2])]
        await until(lambda: asked == [3])
        pair[0].cancel()
        assert failed(await pair[1]).reason is FailureReason.TIMEOUT
        assert ended(await pair[2]).result.task_index == quick[2].task_index
        assert pool.restarts == 0


def test_a_worker_is_given_no_more_than_its_share_nor_what_takes_long() -> None:
    paces, job = Paces(), b"job"
    assert paces.count_together(job, 100, 1) == 1  # nobody knows what it takes
    result = TaskResult(compute_raw_cid(b"0" * 32), 0, TaskStatus.OK, 0, *[compute_raw_cid(b"0" * 32)] * 2)
    paces.note(job, [Executed(result, 1, 0.01), LocalFailure(FailureReason.TIMEOUT, "")])
    assert [paces.count_together(job, waiting, 2) for waiting in (1, 4, 100)] == [1, 2, 10]
    paces.note(job, [Executed(result, 1, 1e-9)] * 30)
    for _ in range(60):
        paces.note(job, [Executed(result, 1, 0.0)])
    assert paces.count_together(job, 1000, 2) == MAX_BATCH
    paces.note(job, [Executed(result, 1, 60.0)])
    assert paces.count_together(job, 1000, 2) == 1
    for number in range(MAX_PACES):
        paces.note(bytes([number]), [Executed(result, 1, 0.0)])
    assert paces.count_together(job, 1000, 2) == 1
    assert len(paces._seconds) == MAX_PACES


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


def make_scene(folder: Path, size: int, seed: int = 1, *, is_stacked: bool = False) -> None:
    command = [sys.executable, str(EXAMPLE / "make_scene.py"), str(folder), "--size", str(size), "--seed", str(seed)]
    subprocess.run([*command, "--one-file"] if is_stacked else command, check=True)


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
    # The same scene as one file.
    make_scene(tmp_path / "stack", 300, is_stacked=True)
    stack = str(site.store.add_path(tmp_path / "stack"))
    task = site.task((EXAMPLE / "cloud-detection.wasm").read_bytes(), fuel=10_000_000_000, task_input=stack)
    async with site.pool(1) as pool:
        again = ended(await pool.execute(task, timeout_s=60)).result
    assert (again.outputs_cid, again.stdout_cid) == (runs[0].result.outputs_cid, runs[0].result.stdout_cid)


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
    make_scene(tmp_path / "stack", 64, is_stacked=True)
    stack, size = (tmp_path / "stack" / "l8.tif").read_bytes(), len(good["l8_MTL.txt"]) + 1
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
        {"l8.tif": stack[: len(stack) // 2]},
        {"l8.tif": stack.replace(b"END\n\0", b"END\n\n")},  # a description without its end
        {"l8.tif": stack.replace(struct.pack("<HHII", 284, 3, 1, 2), struct.pack("<HHII", 284, 3, 1, 1))},
        {"l8.tif": stack.replace(struct.pack("<HHI", 270, 2, size), struct.pack("<HHI", 271, 2, size))},
        {"l8.tif": band},
    ]
    fuzzed = []
    for _ in range(40):
        spoilt = bytearray(band)
        for _ in range(3):
            spoilt[rng.randrange(8, 160)] = rng.randrange(256)
        fuzzed.append(good | {"l8_B4.tif": bytes(spoilt)})
    for _ in range(20):
        spoilt = bytearray(stack)
        for _ in range(3):
            spoilt[rng.randrange(8, 160)] = rng.randrange(256)
        fuzzed.append({"l8.tif": bytes(spoilt)})
    module = (EXAMPLE / "cloud-detection.wasm").read_bytes()
    async with site.pool(2) as pool:
        for index, files in enumerate([*broken, *fuzzed]):
            task = site.task(module, fuel=10_000_000_000, task_input=str(site.store.add_tree(files)))
            executed = ended(await pool.execute(task, timeout_s=60))
            assert executed.result.exit_code in ((3,) if index < len(broken) else (0, 3)), executed
            assert executed.stderr.startswith(b"cloud-detection: ") or executed.result.exit_code == 0
