"""What does not count alike on every host ends without a vote: compile time, a full disk, an operator's ceilings; and a
module that is too long is not even fetched."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import wasmtime
from tests.unit.node.simulation import Network0

from quorate.messages import RootChange, RootsMessage
from quorate.protocol.profiles import Description
from quorate.protocol.result import EXIT_REFUSED, TaskResult
from quorate.protocol.spec import WASM_PROFILE, JobSpec, Limits
from quorate.protocol.types import AbstainReason, JobId
from quorate.storage import dagpb, varint
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import build_gateway
from quorate.storage.serve import LoopbackServer
from quorate_node.core.instructions import Execute
from quorate_node.core.policy import DEFAULT_CEILINGS
from quorate_node.core.policy import Limits as NodeLimits
from quorate_node.core.stimuli import BundleExecuted, BundleFailed
from quorate_node.core.views import ChainView
from quorate_node.execution import ExecutionService
from quorate_node.executor.base import COMPILE_WALL_FACTOR, Executed, ExecutionTask, FailureReason, LocalFailure
from quorate_node.executor.pool import WorkerPool
from quorate_node.http_messaging import HttpMessenger
from quorate_node.metrics import Metrics
from quorate_node.performer import LeafShelf, Performer, Tools
from quorate_node.room import Room, RoomLimits
from quorate_node.roots import Holders, OwnRoots

IDLE = bytes(wasmtime.wat2wasm('(module (func (export "_start")))'))
# Writes 1 MiB to the file "f" in /outputs.
WRITER = bytes(
    wasmtime.wat2wasm("""(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 20) (data (i32.const 0) "f") (data (i32.const 16) "\\00\\00\\01\\00\\00\\00\\10\\00")
  (func (export "_start")
    (drop (call $open (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1)
      (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32)))
    (drop (call $write (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 40)))))""")
)


def section(number: int, content: bytes) -> bytes:
    return bytes([number]) + varint.encode(len(content)) + content


def compile_bomb(functions: int) -> bytes:
    """A valid module of `functions` long functions: 300 KB take about a second."""
    step = bytes.fromhex("200042077c20007e2100")  # x = (x + 7) * x
    body = b"\0" + step * 60 + b"\x20\x00\x0b"
    types = b"\2\x60\0\0\x60\1\x7e\1\x7e"
    code = varint.encode(functions + 1) + b"\2\0\x0b" + (varint.encode(len(body)) + body) * functions
    return b"\0asm\1\0\0\0" + b"".join((
        section(1, types),
        section(3, varint.encode(functions + 1) + b"\0" + b"\1" * functions),
        section(7, b"\1\6_start\0\0"),
        section(10, code),
    ))  # fmt: skip


async def run_in(pool: WorkerPool, store: EmbeddedStore, wasm: bytes, limits: Limits) -> Executed | LocalFailure:
    return await pool.execute(ExecutionTask(JobSpec(str(store.add_bytes(wasm)), limits=limits)), timeout_s=30)


@pytest.mark.parametrize("own_limit", [True, False])
async def test_a_module_that_compiles_for_too_long_is_no_vote(tmp_path: Path, own_limit: bool) -> None:
    """By what its spec says, and by what the operator allows at most."""
    with closing(EmbeddedStore(tmp_path / "store")) as store:
        compile_s = 600.0 if own_limit else 0.2
        async with WorkerPool(1, tmp_path / "store", tmp_path / "cache", compile_s=compile_s) as pool:
            limits = Limits(compile_seconds=1 if own_limit else 60)
            outcome = await run_in(pool, store, compile_bomb(30_000 if own_limit else 4_000), limits)
            assert isinstance(outcome, LocalFailure), outcome
            assert outcome.reason is FailureReason.COMPILE_TIMEOUT
            assert "compile_seconds" in outcome.detail
            after = await run_in(pool, store, IDLE, limits)
            assert isinstance(after, Executed)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize(
    ("seconds", "factor", "block", "status"),
    [
        (0.2, 60, "time.sleep(0.5)", 0),  # waits, as on a machine that is busy with other things
        (0.2, 600, "while True: pass", -signal.SIGPROF),  # here it may really get little of it
        (0.05, COMPILE_WALL_FACTOR, "time.sleep(60)", -signal.SIGALRM),
    ],
)
def test_compile_time_is_processor_time(seconds: float, factor: int, block: str, status: int) -> None:
    program = (
        "import time\nfrom quorate_node.executor import worker\n"
        f"worker.COMPILE_WALL_FACTOR = {factor}\nwith worker.time_limit({seconds}):\n  {block}"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == status


def test_a_trial_says_so_too(tmp_path: Path) -> None:
    """`exec` ends by itself, with the code of a time-out, and says which limit it was."""
    (tmp_path / "bomb.wasm").write_bytes(compile_bomb(30_000))
    command = [sys.executable, "-m", "quorate_node.cli.main", "exec", str(tmp_path / "bomb.wasm")]
    env = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, "--limit", "compile_seconds=1", "--output", "json"],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 124
    assert "raise --limit compile_seconds=N" in done.stderr
    told = json.loads(done.stdout)
    assert (told["status"], told["exit_code"], told["digest"]) == ("COMPILE_TIMEOUT", None, None)


async def test_a_full_disk_is_no_vote_and_the_worker_goes_on(tmp_path: Path) -> None:
    """The kernel holds the worker to files of 64 KiB, and then no more: writing fails as on a disk that is full."""
    with closing(EmbeddedStore(tmp_path / "store")) as store:
        async with WorkerPool(1, tmp_path / "store", tmp_path / "cache") as pool:
            warming = asyncio.create_task(run_in(pool, store, IDLE, Limits()))
            while not pool._busy and not warming.done():  # noqa: ASYNC110  (the pool tells nobody)
                await asyncio.sleep(0)
            (worker,) = pool._busy
            assert isinstance(await warming, Executed)
            unlimited = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (64 << 10, unlimited[1]))
            failed = await run_in(pool, store, WRITER, Limits())
            assert isinstance(failed, LocalFailure), failed
            assert failed.reason is FailureReason.HOST_DISK
            assert "make room on its disk" in failed.detail
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, unlimited)
            fine = await run_in(pool, store, WRITER, Limits())
            assert isinstance(fine, Executed), fine
            assert pool.restarts == 0
        outputs = {entry.name: entry.size for entry in store.list(Cid.parse(fine.result.outputs_cid))}
        assert outputs == {"f": 1 << 20}


@asynccontextmanager
async def service_of(
    store: EmbeddedStore, folder: Path, provider: str, ceilings: Limits = DEFAULT_CEILINGS
) -> AsyncIterator[ExecutionService]:
    """What a node executes with, which knows of one provider."""
    messenger = HttpMessenger(ChainView(), is_local=True)
    async with WorkerPool(1, folder / "store", folder / "cache") as pool:
        service = ExecutionService(
            store, pool, messenger, "http://127.0.0.1:1", is_local=True, hints=lambda _: [provider],
            limits=NodeLimits(ceilings=ceilings),
        )  # fmt: skip
        try:
            yield service
        finally:
            service.fetchers.shutdown()
            await messenger.close()


async def execute(service: ExecutionService, spec: JobSpec, input_bytes: int) -> BundleExecuted | BundleFailed:
    return await service.run(make_execute(spec, input_bytes))


def make_execute(spec: JobSpec, input_bytes: int) -> Execute:
    fuel = spec.limits.fuel
    order = replace(Network0().order().order, spec_hash=spec.digest, input_bytes=input_bytes, fuel_limit=fuel)
    return Execute((1, 0), JobId(bytes(32)), order, 0, (), (), 20, Description(WASM_PROFILE).digest)


class Counting(EmbeddedStore):
    """Counts how often it waited for the disk."""

    synced = 0

    def sync(self) -> None:
        super().sync()
        self.synced += 1


async def test_a_node_waits_for_the_disk_before_it_votes(tmp_path: Path) -> None:
    """Workers do not: after a power cut a vote would stand for outputs that nobody has."""
    with closing(Counting(tmp_path / "store")) as store:
        spec = JobSpec(str(store.add_bytes(WRITER)), limits=Limits(fuel=10**9))
        store.put_raw(spec.to_bytes())
        async with service_of(store, tmp_path, "http://127.0.0.1:1") as service:
            outcome = await execute(service, spec, 0)
        assert isinstance(outcome, BundleExecuted), outcome
        assert store.synced == 1


async def test_making_room_spares_what_a_job_needs_and_leaves(tmp_path: Path) -> None:
    """Its program, fetched a moment ago, and its outputs, which no pin names; nothing else."""
    with closing(EmbeddedStore(tmp_path / "theirs")) as theirs, closing(EmbeddedStore(tmp_path / "store")) as ours:
        spec = JobSpec(str(theirs.add_bytes(WRITER)), limits=Limits(fuel=10**9))
        theirs.put_raw(spec.to_bytes())
        loose = ours.add_bytes(os.urandom(1 << 20))
        with LoopbackServer(build_gateway(theirs)) as server:
            async with service_of(ours, tmp_path, server.url) as service:
                outcome = await execute(service, spec, 1 << 20)
                assert isinstance(outcome, BundleExecuted), outcome
                await asyncio.to_thread(ours.collect)
        assert not ours.has(loose)
        assert ours.is_complete(Cid.parse(spec.module))
        assert ours.is_complete(Cid.from_digest(spec.digest))
        result = TaskResult.from_bytes(ours.get(Cid.from_digest(outcome.leaves[0])))
        assert [entry.size for entry in ours.list(Cid.parse(result.outputs_cid))] == [1 << 20]
        assert ours.is_complete(Cid.parse(result.outputs_cid))
        assert ours.is_complete(Cid.parse(result.stdout_cid))
        assert ours.collect().blocks == 0


async def test_content_that_the_store_has_no_room_for_is_no_vote_and_no_hang(tmp_path: Path) -> None:
    """It is refused before any of it comes, and comes when there is room."""
    net, told = Network0(), list[object]()
    with closing(EmbeddedStore(tmp_path / "theirs")) as theirs, closing(EmbeddedStore(tmp_path / "store")) as ours:
        spec = JobSpec(str(theirs.add_bytes(WRITER)), limits=Limits(fuel=10**9))
        theirs.put_raw(spec.to_bytes())
        stays = ours.add_bytes(os.urandom(3 << 20))
        ours.pin(stays)
        with LoopbackServer(build_gateway(theirs)) as server:
            async with service_of(ours, tmp_path, server.url) as service:
                service.room = Room(ours, RoomLimits(6 << 20), OwnRoots(), lambda: 0.0)
                nothing = cast(Any, None)
                tools = Tools(nothing, service.messenger, nothing, service, Metrics(), LeafShelf(), "", nothing)
                performer = Performer(net.nodes[0].core, net.keys[0], nothing, tools, told.append)
                await performer.perform(make_execute(spec, 4 << 20))
                assert not ours.has(Cid.parse(spec.module))
                ours.unpin(stays)
                await performer.perform(make_execute(spec, 4 << 20))
    refused, done = told
    assert isinstance(refused, BundleFailed), refused
    assert (refused.abstention, refused.is_host_fault, refused.retry) == (AbstainReason.RESOURCES, True, True)
    assert "store_bytes" in refused.reason
    assert isinstance(done, BundleExecuted), done


async def test_a_module_of_100_mb_is_refused_alike_by_all_and_not_fetched(tmp_path: Path) -> None:
    with closing(EmbeddedStore(tmp_path / "theirs")) as theirs, closing(EmbeddedStore(tmp_path / "store")) as ours:
        module = theirs.add_bytes(b"\0asm\1\0\0\0" + bytes(100 << 20))
        spec = JobSpec(str(module))
        theirs.put_raw(spec.to_bytes())
        with LoopbackServer(build_gateway(theirs)) as server:
            async with service_of(ours, tmp_path, server.url) as service:
                outcome = await execute(service, spec, 101 << 20)
        assert isinstance(outcome, BundleExecuted), outcome
        (leaf,) = outcome.leaves
        assert TaskResult.from_bytes(ours.get(Cid.from_digest(leaf))).exit_code == EXIT_REFUSED
        assert ours.has(module)
        links = [link.cid for link in dagpb.decode(theirs.get(module)).links]
        assert links
        assert not any(map(ours.has, links))


async def test_a_spec_above_a_ceiling_is_neither_fetched_nor_run(tmp_path: Path) -> None:
    with closing(EmbeddedStore(tmp_path / "theirs")) as theirs, closing(EmbeddedStore(tmp_path / "store")) as ours:
        specs = [JobSpec(str(theirs.add_bytes(IDLE)), limits=Limits(memory_bytes=size)) for size in (1 << 26, 1 << 27)]
        for spec in specs:
            theirs.put_raw(spec.to_bytes())
        ceilings = replace(DEFAULT_CEILINGS, memory_bytes=1 << 26)
        with LoopbackServer(build_gateway(theirs)) as server:
            async with service_of(ours, tmp_path, server.url, ceilings) as service:
                above = await execute(service, specs[1], 1000)
                assert not ours.has(Cid.parse(specs[1].module))
                within = await execute(service, specs[0], 1000)
    assert isinstance(above, BundleFailed), above
    assert (above.abstention, above.retry) == (AbstainReason.RESOURCES, False)
    assert "memory_bytes" in above.reason
    assert isinstance(within, BundleExecuted), within


async def test_one_worker_that_compiles_does_not_hold_up_another(tmp_path: Path) -> None:
    with closing(EmbeddedStore(tmp_path / "store")) as store:
        async with WorkerPool(2, tmp_path / "store", tmp_path / "cache", compile_s=1.0) as pool:
            both = await asyncio.gather(*(run_in(pool, store, IDLE, Limits()) for _ in range(2)))  # have started
            assert all(isinstance(each, Executed) for each in both)
            bomb = asyncio.create_task(run_in(pool, store, compile_bomb(30_000), Limits()))
            assert isinstance(await run_in(pool, store, IDLE, Limits()), Executed)
            assert not bomb.done()
            outcome = await bomb
            assert isinstance(outcome, LocalFailure)
            assert outcome.reason is FailureReason.COMPILE_TIMEOUT


@pytest.mark.parametrize("is_known", [True, False])
def test_content_comes_from_a_peer_that_has_it_whole(tmp_path: Path, is_known: bool) -> None:
    """Nobody else has it: the job's provider is away."""

    async def run(url: str, spec: JobSpec) -> BundleExecuted | BundleFailed:
        with closing(EmbeddedStore(tmp_path / "store")) as store:
            store.put_raw(spec.to_bytes())
            async with service_of(store, tmp_path, "http://127.0.0.1:1") as service:
                service.holders = Holders([url])
                if is_known:
                    held = [RootChange(cid=cid, size=1) for cid in spec.contents]
                    told = RootsMessage(epoch="e", next=len(held), is_whole=True, changes=held)
                    service.holders.take(url, told, 0.1)
                outcome = await execute(service, spec, 1000)
                assert (spec.module in service.roots) == is_known, "and tells others of it in turn"
                return outcome

    with closing(EmbeddedStore(tmp_path / "donor")) as donor, LoopbackServer(build_gateway(donor)) as server:
        spec = JobSpec(str(donor.add_bytes(bytes(WRITER))))
        outcome = asyncio.run(run(server.url, spec))
    assert isinstance(outcome, BundleExecuted if is_known else BundleFailed), outcome


@pytest.mark.parametrize(("most", "fault"), [("2 << 30", "ulimit -d allows"), ("resource.RLIM_INFINITY", "None")])
def test_a_host_that_may_refuse_memory_to_a_job_runs_none(most: str, fault: str) -> None:
    """Growing would fail here and nowhere else, which a program may tell: a wrong vote."""
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_DATA, ({most}, resource.RLIM_INFINITY)); "
        "from quorate_node.executor.pool import find_host_fault; print(find_host_fault())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(fault)
