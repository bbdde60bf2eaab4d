"""What this host can run, found out by running it: `quorate-node doctor`."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import wasmtime

from quorate.protocol.container import DOCKER_PROFILE
from quorate.protocol.errors import QuorateError
from quorate.protocol.profiles import GPU_PROFILE, Description
from quorate.protocol.spec import GIB, WASM_PROFILE, JobSpec
from quorate.storage.embedded import EmbeddedStore
from quorate_node.executor.base import DockerSettings, ExecutionTask, LocalFailure
from quorate_node.executor.pool import WorkerPool
from quorate_node.executor.trial import EngineName, Trial, run_trial

GPU_DEVICES = ("/dev/nvidia[0-9]*", "/dev/kfd")

# Numbers that engines may get wrong (a NaN's bits), random bytes, a clock, and a file among the outputs.
PROBE = """(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "probe")
  (data (i32.const 16) "\\40\\00\\00\\00\\40\\00\\00\\00")
  (func (export "_start") (local $n i32)
    (loop $again
      (f64.store (i32.const 64) (f64.add (f64.load (i32.const 64)) (f64.sqrt (f64.convert_i32_u (local.get $n)))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 100000))))
    (f32.store (i32.const 72) (f32.div (f32.const 0) (f32.load (i32.const 124))))
    (drop (call $random (i32.const 80) (i32.const 16)))
    (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 96)))
    (drop (call $open (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 1)
      (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32)))
    (drop (call $write (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 40)))))"""


def diagnose(docker: DockerSettings) -> dict[str, Any]:
    """One entry for each kind of work, with `ok` and, where it is not, `why`."""
    return {
        "host": _describe_host(),
        "wasm": _try_wasm(),
        "docker": _try_docker(docker),
        "gpu": _look_for_gpu(),
    }


def find_obstacle(description: Description, docker: DockerSettings) -> str | None:
    """Why this host cannot run programs of a profile; None where it can."""
    if description.name == DOCKER_PROFILE:
        found = _try_docker(docker)
    else:
        found = _look_for_gpu() if description.name == GPU_PROFILE else _try_wasm()
    if found["ok"]:
        return "this version of Quorate runs nothing on GPUs yet" if description.name == GPU_PROFILE else None
    failed = (f"{name}: {run['why']}" for name, run in found.get("runs", {}).items() if not run["ok"])
    return str(found.get("why") or "; ".join(failed))


def _describe_host() -> dict[str, Any]:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "wasmtime": version("wasmtime"),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": pages,
        "free_disk_bytes": shutil.disk_usage(Path.home() if Path.home().exists() else "/").free,
    }


def _try_wasm() -> dict[str, Any]:
    """Run the probe on both engines, and in a worker process as a node does."""
    wasm = bytes(wasmtime.wat2wasm(PROBE))
    runs = {engine.value: _try_engine(wasm, engine) for engine in EngineName}
    found = compare_runs(runs | {"worker": asyncio.run(_try_worker(wasm))})
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if 0 < soft < 16 * GIB:
        found["warning"] = f"ulimit -v allows {soft} bytes; a worker reserves (not uses) up to {16 * GIB}"
    return found | {"profile": WASM_PROFILE}


def compare_runs(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """All must end and agree, or this host's votes would be wrong."""
    can_all_run = all(run["ok"] for run in runs.values())
    agree = len({(run.get("digest"), run.get("fuel")) for run in runs.values()}) == 1
    found: dict[str, Any] = {"ok": can_all_run and agree, "runs": runs}
    if can_all_run and not agree:
        found["why"] = "the same program gives different results: do not stake on this host"
    return found


def _try_engine(wasm: bytes, engine: EngineName) -> dict[str, Any]:
    try:
        outcome = run_trial(Trial(wasm, engine=engine, timeout_s=60))
    except (QuorateError, wasmtime.WasmtimeError, OSError, MemoryError) as error:
        return {"ok": False, "why": f"{type(error).__name__}: {error}"}
    if outcome.result is None or outcome.code != 0:
        return {"ok": False, "why": f"{outcome.status}: {outcome.detail}"}
    shown = outcome.to_dict()
    return {"ok": True} | {name: shown[name] for name in ("digest", "fuel", "seconds")}


async def _try_worker(wasm: bytes) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder, "store"))
        task = ExecutionTask(JobSpec(str(store.add_bytes(wasm).to_v1())))
        try:
            async with WorkerPool(1, Path(folder, "store"), Path(folder, "cache")) as pool:
                outcome = await pool.execute(task, timeout_s=60)
        except (QuorateError, OSError) as error:
            return {"ok": False, "why": f"{type(error).__name__}: {error}"}
        finally:
            store.close()
    if isinstance(outcome, LocalFailure):
        return {"ok": False, "why": f"{outcome.reason}: {outcome.detail}"}
    digest, seconds = f"0x{outcome.result.leaf.hex()}", round(outcome.seconds, 6)
    return {"ok": True, "digest": digest, "fuel": outcome.fuel_used, "seconds": seconds}


def _try_docker(settings: DockerSettings) -> dict[str, Any]:
    from quorate_node.executor.docker_probe import try_docker  # it takes a while to import

    return try_docker(settings)


def _look_for_gpu() -> dict[str, Any]:
    devices = [str(path) for pattern in GPU_DEVICES for path in Path("/").glob(pattern.lstrip("/"))]
    if not devices:
        return {"ok": False, "why": f"no GPU: none of {', '.join(GPU_DEVICES)} is there"}
    return {"ok": True, "devices": sorted(devices)}
