"""Jobs over the files of a directory: on a network from the command line, and at one node with inputs that are bad."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.network import call_quorate, run_quorate, three_farms
from tests.integration.test_limits import service_of
from tests.unit.node.simulation import Network0

from quorate.devnet.devnet import Devnet
from quorate.protocol.profiles import Description
from quorate.protocol.result import EXIT_REFUSED, TaskResult
from quorate.protocol.spec import WASM_PROFILE, JobSpec, Limits, Partition
from quorate.protocol.types import AbstainReason, JobId
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import build_gateway
from quorate.storage.serve import LoopbackServer
from quorate_node.core.instructions import Execute
from quorate_node.core.stimuli import BundleExecuted, BundleFailed
from quorate_node.execution import ExecutionService
from quorate_node.executor.base import AnyTask, Executed, FailureReason, LocalFailure

PROGRAM = Path(__file__).parent / "programs" / "tell.c"
FILES, BAD = 300, range(0, 300, 50)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "tell.wasm"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O1", "-s", str(PROGRAM)]
    subprocess.run([*command, "-o", str(path)], check=True)
    return path


# one node -----------------------------------------------------------------------------------------------------------


async def execute(service: ExecutionService, spec: JobSpec, task_count: int, input_bytes: int, bundle: int = 0) -> Any:
    order = replace(
        Network0().order().order,
        spec_hash=spec.digest, input_bytes=input_bytes, fuel_limit=spec.limits.fuel, task_count=task_count,
    )  # fmt: skip
    job = JobId(bytes(32))
    return await service.run(Execute((1, bundle), job, order, bundle, (), (), 20, Description(WASM_PROFILE).digest))


def make_spec(store: BlobStore, program: Path, root: Cid, pattern: str = "*", batch_size: int = 1) -> JobSpec:
    module, how = store.add_bytes(program.read_bytes()), Partition(pattern, batch_size)
    spec = JobSpec(str(module), str(root), limits=Limits(fuel=10**8), partition=how)
    store.put_raw(spec.to_bytes())
    return spec


def read(store: BlobStore, outcome: BundleExecuted) -> list[TaskResult]:
    return [TaskResult.from_bytes(store.get(Cid.from_digest(leaf))) for leaf in outcome.leaves]


@dataclass(slots=True)
class Stores:
    theirs: EmbeddedStore
    ours: EmbeddedStore


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with closing(EmbeddedStore(tmp_path / "theirs")) as theirs, closing(EmbeddedStore(tmp_path / "store")) as ours:
        yield Stores(theirs, ours)


async def test_a_node_fetches_and_shows_only_what_a_bundle_is_about(
    stores: Stores, program: Path, tmp_path: Path
) -> None:
    content = {f"d{number % 7}/{number:03}.dat": b"%d" % number for number in range(300)}
    root = stores.theirs.add_tree({**content, "other.txt": b"no task's"})
    spec = make_spec(stores.theirs, program, root, "*.dat")
    with LoopbackServer(build_gateway(stores.theirs)) as server:
        async with service_of(stores.ours, tmp_path, server.url) as service:
            outcome = await execute(service, spec, 300, 1 << 20, bundle=1)
    assert isinstance(outcome, BundleExecuted), outcome
    results, paths = read(stores.ours, outcome), sorted(content)[256:]
    assert [result.task_index for result in results] == list(range(256, 300))
    told = [stores.ours.read(Cid.parse(result.stdout_cid)).decode() for result in results]
    assert told == [f"{path} {len(content[path])}\n" for path in paths]
    here = [path for path, data in content.items() if stores.ours.has(stores.ours.resolve(root, path))]
    assert sorted(here) == paths
    assert not stores.ours.has(stores.theirs.resolve(root, "other.txt"))


async def test_what_everybody_finds_wrong_is_refused_and_what_is_missing_is_not(
    stores: Stores, program: Path, tmp_path: Path
) -> None:
    theirs, ours = stores.theirs, stores.ours
    root = theirs.add_tree({"a.dat": b"1", "b.dat": b"2"})
    elsewhere = EmbeddedStore(tmp_path / "elsewhere")
    holed = elsewhere.add_tree({"a.dat": b"1", "gone.dat": b"nobody has it"})
    theirs.import_car(elsewhere.export_car(holed, scope="entity"), holed, scope="entity")
    elsewhere.close()
    refused = [
        (make_spec(theirs, program, root, "*.tif"), 2),  # no match
        (make_spec(theirs, program, root), 3),  # another number than the order's
        (make_spec(theirs, program, theirs.add_tree({})), 1),
        (make_spec(theirs, program, theirs.add_bytes(b"no directory")), 1),
    ]
    with LoopbackServer(build_gateway(theirs)) as server:
        async with service_of(ours, tmp_path, server.url) as service:
            service.is_shared = False
            for spec, count in refused:
                outcome = await execute(service, spec, count, 1 << 20)
                assert isinstance(outcome, BundleExecuted), outcome
                assert [result.exit_code for result in read(ours, outcome)] == [EXIT_REFUSED] * count
            failed = await execute(service, make_spec(theirs, program, holed), 2, 1 << 20)
            assert isinstance(failed, BundleFailed), failed
            assert failed.abstention is AbstainReason.NO_DATA
            assert "nobody served" in failed.reason
            large = theirs.add_tree({"large.dat": bytes(4 << 20)})
            failed = await execute(service, make_spec(theirs, program, large), 1, 1 << 20)
            assert isinstance(failed, BundleFailed), failed
            assert "its order grants" in failed.reason


class Flaky:
    """An executor whose first try of one task finds no memory; it counts what it was asked."""

    def __init__(self, inner: Any, task: int) -> None:
        self._inner, self._task, self.asked = inner, task, list[int]()

    async def execute(self, task: AnyTask, *, timeout_s: float) -> Executed | LocalFailure:
        self.asked.append(task.task_index)
        if task.task_index == self._task and self.asked.count(self._task) == 1:
            return LocalFailure(FailureReason.HOST_MEMORY, "none left")
        found: Executed | LocalFailure = await self._inner.execute(task, timeout_s=timeout_s)
        return found

    async def close(self) -> None:
        await self._inner.close()


async def test_a_task_that_fails_here_is_run_again_alone(stores: Stores, program: Path, tmp_path: Path) -> None:
    root = stores.ours.add_tree({f"{number}": b"%d" % number for number in range(8)})
    spec = make_spec(stores.ours, program, root)
    async with service_of(stores.ours, tmp_path, "http://127.0.0.1:1") as service:
        flaky = service.executor = Flaky(service.executor, 5)
        failed = await execute(service, spec, 8, 1 << 20)
        assert isinstance(failed, BundleFailed), failed
        assert failed.abstention is AbstainReason.RESOURCES
        outcome = await execute(service, spec, 8, 1 << 20)
    assert isinstance(outcome, BundleExecuted), outcome
    assert sorted(flaky.asked) == sorted([*range(8), 5])
    assert [result.exit_code for result in read(stores.ours, outcome)] == [0] * 8


# a network ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Network:
    devnet: Devnet
    folder: Path
    program: Path

    def quorate(self, *words: str, code: int = 0) -> Any:
        done = call_quorate(*words, "-o", "json", home=self.folder)
        assert done.exit_code == code, (done.exit_code, done.stderr)
        return json.loads(done.stdout) if done.stdout else done.stderr


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, program: Path) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("files")
    for number in range(FILES):
        path = folder / "scene" / f"north/{number % 5}" / f"{number:03}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((b"bad" if number in BAD else b"ok") + b"x" * number)
    (folder / "scene" / "readme.txt").write_text("no task's")
    with three_farms(folder, 4, {}) as devnet:
        (folder / "devnet").symlink_to(devnet.options.home)
        yield Network(devnet, folder, program)


def run(network: Network, *words: str, code: int = 0) -> Any:
    return network.quorate(
        "wasm",
        "run",
        str(network.program),
        "-i",
        str(network.folder / "scene"),
        "--fuel",
        "20000000",
        *words,
        code=code,
    )


def expect_mirror(network: Network, folder: Path, prefix: str = "") -> None:
    scene = network.folder / "scene"
    wanted = {str(path.relative_to(scene)) for path in scene.rglob("*.dat")}
    wanted = {path for path in wanted if path.startswith(prefix)}
    found = {str(path.parent.relative_to(folder / "outputs")) for path in (folder / "outputs").rglob("*.size")}
    assert found == wanted
    for path in wanted:
        size = (scene / path).stat().st_size
        assert (folder / "stdout" / path).read_text() == f"{path} {size}\n"
        assert (folder / "outputs" / path / f"{Path(path).name}.size").read_text() == f"{size}\n"


@pytest.mark.anvil
def test_a_job_over_300_files_in_two_bundles_comes_back_as_a_mirror(network: Network) -> None:
    receipt = run(network, "--partition", "*.dat", "--to", str(network.folder / "out"), code=5)
    assert len(receipt["bundles"]) == 2
    assert receipt["order"]["task_count"] == FILES
    expect_mirror(network, network.folder / "out")
    told = json.loads((network.folder / "out" / "tasks.json").read_text())
    bad = {f"north/{number % 5}/{number:03}.dat" for number in BAD}
    assert {path for each in told if each["exit_code"] == 3 for path in each["paths"]} == bad
    described = network.quorate("job", "describe", receipt["job_id"])
    assert described["tasks_by_status"] == {"OK": FILES - len(BAD), "FAILED": len(BAD)}
    assert described["result_cid"] == receipt["result_cid"] is not None
    text = call_quorate("job", "describe", receipt["job_id"], home=network.folder).stdout
    assert all(path in text for path in bad)

    # A part, from a store that has nothing of it: the client of another machine with our records.
    fresh = network.folder / "fresh"
    fresh.mkdir()
    (fresh / "devnet").symlink_to(network.devnet.options.home)
    (fresh / "jobs").symlink_to(network.folder / "jobs")
    part = ["job", "get", receipt["job_id"], "--to", str(fresh / "part"), "--match", "north/3/*", "-o", "json"]
    done = run_quorate(*part, home=fresh)
    assert done.returncode == 0, done.stderr
    expect_mirror(network, fresh / "part", "north/3/")
    # It goes on with the rest, keeps what is whole, and refuses a folder of anything else.
    kept = fresh / "part" / "outputs" / "north" / "3" / "003.dat"
    before = kept.stat().st_mtime_ns, kept.stat().st_ino
    done = call_quorate("job", "get", receipt["job_id"], "--to", str(fresh / "part"), "-o", "json", home=fresh)
    assert done.exit_code == 5, done.stderr
    expect_mirror(network, fresh / "part")
    assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == before
    for words, why in ((["--match", "*.tif"], "matches"), (["--to", str(network.folder / "scene")], "not of this job")):
        done = call_quorate("job", "get", receipt["job_id"], *words, home=fresh)
        assert done.exit_code != 0
        assert why in done.stderr


@pytest.mark.anvil
def test_batches_and_bad_inputs(network: Network) -> None:
    receipt = run(
        network, "--partition", "*/0/*.dat", "--batch-size", "7", "--to", str(network.folder / "seven"), code=5
    )
    assert receipt["order"]["task_count"] == -(-60 // 7)
    told = json.loads((network.folder / "seven" / "tasks.json").read_text())
    assert [len(each["paths"]) for each in told] == [7] * 8 + [4]
    first = network.folder / "seven" / "outputs" / told[0]["paths"][0]
    assert sorted(path.name for path in first.iterdir()) == [f"{Path(path).name}.size" for path in told[0]["paths"]]
    assert "no path matches" in run(network, "--partition", "*.tif", code=2)


@pytest.mark.anvil
def test_tasks_that_failed_are_run_again_alone(network: Network) -> None:
    words = ["wasm", "run", str(network.program), "-i", str(network.folder / "scene")]
    words += ["--partition", "north/0/0[05]?.dat", "--batch-size", "3"]
    files = [f"north/0/{number:03}.dat" for number in (0, 5, 50, 55)]
    starved = network.quorate(*words, "--fuel", "1000", "--to", str(network.folder / "starved"), code=5)
    assert starved["status"] == ["OUT_OF_FUEL"] * 2
    retry = ["job", "retry", starved["job_id"]]
    fed = network.quorate(*retry, "--fuel", "20000000", "--to", str(network.folder / "fed"), code=5)
    assert fed["status"] == ["FAILED", "OK"]
    told = json.loads((network.folder / "fed" / "tasks.json").read_text())
    assert [each["paths"] for each in told] == [files[:3], files[3:]]
    again = network.quorate("job", "retry", fed["job_id"], "--to", str(network.folder / "again"), code=5)
    assert again["status"] == ["FAILED"]
    told = json.loads((network.folder / "again" / "tasks.json").read_text())
    assert [each["paths"] for each in told] == [files[:3]]
    assert "NAME=NUMBER" in network.quorate("job", "retry", fed["job_id"], "--limit", "pids=3", code=2)
