"""Containers on a real Docker daemon: results that peers agree on, and programs that try to get out."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.dockers import LIMITS, Bench, Daemon, bench_of, expect, needs_docker
from tests.integration.network import wait_for
from tests.unit.images.test_images import make_archive, make_tar, set_in

from quorate.devnet.guard import read_start
from quorate.images.archive import verify_archive
from quorate.protocol.container import CONTAINER_FUEL_RATE, Image
from quorate.protocol.result import EXIT_OVER_LIMIT, TaskStatus
from quorate.protocol.spec import MIB
from quorate.storage.cid import Cid
from quorate_node.executor.base import ContainerTask, Executed, FailureReason, LocalFailure
from quorate_node.executor.docker_client import connect

pytestmark = needs_docker
NODE = """
import asyncio, json, sys
from pathlib import Path
from quorate.protocol.container import ContainerSpec, Image
from quorate.storage.embedded import EmbeddedStore
from quorate_node.executor.base import ContainerTask, DockerSettings
from quorate_node.executor.docker_executor import DockerExecutor

host, scratch, store, archive, image = json.loads(sys.argv[1])
executor = DockerExecutor(DockerSettings(host, Path(scratch)), EmbeddedStore(Path(store)))
task = ContainerTask(ContainerSpec(image=Image(archive, image), args=("sleep",)))
print(asyncio.run(executor.execute(task, timeout_s=600)))
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_of("hostile", tmp_path_factory.mktemp("docker")) as made:
        yield made


def test_a_container_gives_the_same_result_every_time(bench: Bench) -> None:
    given = str(bench.store.add_bytes(b"word\n").to_v1())
    outcomes = [bench.run(input=given, env={"WORD": "w", "OMP_NUM_THREADS": "8"}) for _ in range(2)]
    assert bench.read(outcomes[0]) == "w 1\n"
    assert outcomes[0].result == outcomes[1].result
    assert outcomes[0].result.status is TaskStatus.OK
    found = bench.store.list(Cid.parse(outcomes[0].result.outputs_cid))
    assert [(entry.name, entry.kind) for entry in found] == [("copy", "file"), ("empty", "directory")]
    assert bench.store.read(found[0].cid) == b"word\n"
    code = bench.run("exit", "7")
    assert (code.result.status, code.result.exit_code) == (TaskStatus.FAILED, 7)


def test_nothing_is_left_behind(bench: Bench) -> None:
    bench.run("exit", "0", executor=bench.make("tidy"))
    api = connect(bench.daemon.host)
    assert api.containers(all=True) == []
    assert list((bench.folder / "tidy").iterdir()) == []
    # What a node that died left: found by its label, and only what is its own.
    for name in ("tidy", "other"):
        api.create_container(bench.image.id, labels={"quorate.scratch": str(bench.folder / name)}, name=name)
    (bench.folder / "tidy" / "old").mkdir()
    bench.run("exit", "0", executor=bench.make("tidy"))
    assert [each["Names"] for each in api.containers(all=True)] == [["/other"]]
    assert list((bench.folder / "tidy").iterdir()) == []
    api.remove_container("other")
    api.close()


@pytest.mark.parametrize("what", ["link", "links", "climb", "pipe", "socket", "sparse", "name", "many", "fill"])
def test_outputs_that_nobody_should_take_are_an_agreed_failure(bench: Bench, what: str) -> None:
    outcome = bench.run(what)
    assert isinstance(outcome, Executed), outcome
    assert (outcome.result.status, outcome.result.exit_code) == (TaskStatus.FAILED, EXIT_OVER_LIMIT)
    assert list(bench.store.list(Cid.parse(outcome.result.outputs_cid))) == []
    if what == "fill":  # neither folder takes much more than its limit
        inside, temporary = map(int, outcome.stderr.split())
        assert MIB < inside < 2 * MIB
        assert MIB // 2 < temporary <= MIB


def test_modes_times_and_owners_of_outputs_do_not_count(bench: Bench) -> None:
    given = str(bench.store.add_bytes(b"word\n").to_v1())
    plain, dressed = bench.run("good", input=given), bench.run("good", "up", input=given)
    assert bench.read(dressed).splitlines()[1:] == ["link to input refused", "owner refused"]
    assert dressed.result.outputs_cid == plain.result.outputs_cid
    assert bench.store.list(Cid.parse(plain.result.outputs_cid)) != []


def test_endless_output_is_cut_off(bench: Bench) -> None:
    outcome = bench.run("talk")
    assert outcome.result.exit_code == EXIT_OVER_LIMIT
    assert len(bench.read(outcome)) == LIMITS.stdout_bytes


def test_what_hosts_may_see_differently_is_no_vote(bench: Bench) -> None:
    expect(bench.run("memory"), FailureReason.MEMORY_LIMIT, "memory_bytes")
    expect(bench.run("child"), FailureReason.MEMORY_LIMIT, "memory_bytes")
    expect(bench.run("kill"), FailureReason.WORKER_DIED, "SIGKILL")
    expect(bench.run("exit", "143"), FailureReason.WORKER_DIED, "SIGTERM")
    expect(bench.run("sleep", timeout_s=0.5), FailureReason.TIMEOUT, "all the time")
    short = replace(LIMITS, fuel=CONTAINER_FUEL_RATE // 2)
    expect(bench.run("sleep", limits=short), FailureReason.TIMEOUT, "all the time")
    for kept in (0, 1000):  # however little of what the init says is kept
        silent = replace(LIMITS, stderr_bytes=kept)
        expect(bench.run(entrypoint=("/absent",), limits=silent), FailureReason.CANNOT_START, "/absent")
    said = bench.run("fill", limits=replace(LIMITS, stderr_bytes=3))
    assert len(said.stderr) == 3
    wrong = replace(bench.image, id=f"sha256:{'1' * 64}")
    expect(bench.run(image=wrong), FailureReason.IMAGE_REFUSED, "not sha256:1111")
    absent = replace(bench.image, archive="bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
    expect(bench.run(image=absent), FailureReason.DATA_UNAVAILABLE, "does not have")
    pulled = Image(reference=f"127.0.0.1:1/x@sha256:{'1' * 64}")
    expect(bench.run(image=pulled), FailureReason.NOT_ALLOWED, "docker_registries")
    allowed = bench.make(registries=("127.0.0.1:1",))
    expect(bench.run(image=pulled, executor=allowed), FailureReason.DATA_UNAVAILABLE, "cannot be pulled")
    expect(bench.run(executor=bench.make(host="unix:///run/none")), FailureReason.NO_DAEMON, "unix:///run/none")


def test_a_container_sees_nothing_of_its_host(bench: Bench) -> None:
    outcome = bench.run("look")
    lines = bench.read(outcome).splitlines()
    assert outcome.result.exit_code == 0
    assert lines[:2] == ["interfaces 0", "processes 2"]  # itself and the init
    assert len(lines) == 15
    assert [line for line in lines[2:] if not line.endswith(" refused")] == []


def test_without_the_flags_the_same_program_achieves_more(bench: Bench) -> None:
    """The control: refusals come from how the container is made. Never run the program on the host itself."""
    api = connect(bench.daemon.host)
    made = api.create_container(bench.image.id, ["look"], host_config=api.create_host_config(network_mode="none"))
    api.start(made)
    api.wait(made, timeout=60)
    shown = api.logs(made).decode()
    api.remove_container(made, force=True)
    api.close()
    assert "setuid done" in shown
    assert "root done" in shown


def test_forks_are_bounded(bench: Bench) -> None:
    assert bench.read(bench.run("forks")) == "bounded\n"


def find_programs() -> set[str]:
    """Processes of containers that run our program."""
    found = set()
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (each / "comm").read_text() == "hostile\n":
                found.add(each.name)
    return found


def wait_for_container(api: Any) -> Any:
    for _ in range(1500):
        if found := api.containers():
            return found
        time.sleep(0.02)
    raise AssertionError("no container was started")


def test_a_task_that_is_given_up_is_killed(bench: Bench) -> None:
    async def give_up() -> None:
        running = asyncio.create_task(bench.make().execute(ContainerTask(bench.spec("sleep")), timeout_s=60))
        found = await asyncio.to_thread(wait_for_container, api)
        assert found[0]["Labels"]["quorate.scratch"] == str(bench.folder / "scratch")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    api = connect(bench.daemon.host)
    asyncio.run(give_up())
    assert api.containers(all=True) == []
    api.close()


def test_what_does_not_want_to_end_is_ended(bench: Bench) -> None:
    before, api = find_programs(), connect(bench.daemon.host)

    async def time_out() -> Any:
        running = asyncio.create_task(bench.make().execute(ContainerTask(bench.spec("deaf")), timeout_s=6))
        assert await asyncio.to_thread(wait_for, lambda: len(find_programs() - before) == 2), "where they are seen"
        (container,) = await asyncio.to_thread(wait_for_container, api)
        api.kill(container["Id"], "SIGTERM")
        await asyncio.sleep(0.2)
        assert len(find_programs() - before) == 2, "it is deaf"
        return await running

    expect(asyncio.run(time_out()), FailureReason.TIMEOUT, "all the time")
    assert find_programs() <= before
    api.close()


def test_nothing_changes_while_outputs_are_taken(bench: Bench) -> None:
    """A daemon of the program outlives it and swaps files and folders for links, but does not outlive its container."""
    before = find_programs()
    for _ in range(2):
        outcome = bench.run("swap")
        assert isinstance(outcome, Executed), outcome
        assert find_programs() <= before
        assert outcome.result.exit_code == EXIT_OVER_LIMIT
        assert "is a link" in outcome.detail


def test_a_node_that_was_killed_cleans_up_when_it_is_back(bench: Bench) -> None:
    before, api, scratch = find_programs(), connect(bench.daemon.host), bench.folder / "killed"
    word = json.dumps(
        [bench.daemon.host, str(scratch), str(bench.folder / "own-store"), bench.image.archive, bench.image.id]
    )
    shutil.copytree(bench.folder / "store", bench.folder / "own-store")
    node = subprocess.Popen([sys.executable, "-c", NODE, word])
    try:
        wait_for_container(api)
        assert wait_for(lambda: bool(find_programs() - before))
    finally:
        node.kill()
        node.wait()
    assert len(api.containers()) == 1, "a container outlives its node"
    assert str(scratch) in Path("/proc/mounts").read_text()
    assert isinstance(bench.run("exit", "0", executor=bench.make("killed")), Executed)
    assert api.containers(all=True) == []
    assert find_programs() <= before
    assert list(scratch.iterdir()) == []
    assert str(scratch) not in Path("/proc/mounts").read_text()
    api.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_daemon_that_dies_in_mid_task_is_no_vote_and_no_hang(bench: Bench, how: signal.Signals) -> None:
    daemon, before = Daemon(bench.folder / f"mortal-{how}"), find_programs()

    async def kill() -> Any:
        executor = bench.make("mortal-scratch", host=daemon.host)
        running = asyncio.create_task(executor.execute(ContainerTask(bench.spec("sleep")), timeout_s=60))
        await asyncio.to_thread(wait_for_container, api)
        os.kill(daemon.pid, how)
        return await running

    api = connect(daemon.host)
    try:
        outcome = asyncio.run(kill())
        assert isinstance(outcome, LocalFailure), outcome
        # One that is told to end kills its containers first, at once, and may tell of that.
        assert outcome.reason in {FailureReason.DAEMON_LOST, FailureReason.WORKER_DIED}
        assert how is signal.SIGTERM or outcome.reason is FailureReason.DAEMON_LOST
    finally:
        api.close()
        daemon.stop()
    assert str(bench.folder / f"mortal-{how}") not in Path("/proc/mounts").read_text()
    assert find_programs() <= before  # the container of a daemon that was killed is no orphan


def test_a_private_daemon_goes_with_whoever_started_it(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "data")
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.wait()
    assert wait_for(lambda: not read_start(daemon.pid)), "the daemon outlived its supervisor"
    shutil.rmtree(Path(daemon.host.removeprefix("unix://")).parent)


def test_an_executor_that_is_closed_leaves_nothing_running(bench: Bench) -> None:
    executor, api = bench.make("closing"), connect(bench.daemon.host)

    async def close_in_mid_task() -> Any:
        running = asyncio.create_task(executor.execute(ContainerTask(bench.spec("sleep")), timeout_s=60))
        assert await asyncio.to_thread(wait_for, lambda: bool(api.containers()))
        await executor.close()
        return await running

    expect(asyncio.run(close_in_mid_task()), FailureReason.TIMEOUT, "given up")
    assert api.containers(all=True) == []
    api.close()


@pytest.mark.skipif(shutil.which("runsc") is None, reason="no gVisor here: `scripts/setup --docker` installs runsc")
def test_gvisor_gives_the_same_results(bench: Bench) -> None:
    """A kernel of its own between the program and the host's, for whoever wants one more wall."""
    given, second = str(bench.store.add_bytes(b"word\n").to_v1()), bench.make("second", runtime="runsc")
    for words in (["good"], ["exit", "7"], ["link"]):
        found = [bench.run(*words, input=given, executor=each) for each in (second, bench.make())]
        assert isinstance(found[0], Executed), found[0]
        assert found[0].result == found[1].result
    lines = bench.read(bench.run("look", executor=second)).splitlines()
    assert {line for line in lines if line.endswith(" done")} <= {"unshare done"}, "a namespace of its own kernel"
    expect(bench.run("sleep", timeout_s=1, executor=second), FailureReason.TIMEOUT, "all the time")
    if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 1):  # before, the kernel does not tell
        expect(bench.run("forks", executor=second), FailureReason.PROCESS_LIMIT, "pids = 64")
    api = connect(bench.daemon.host)
    assert api.containers(all=True) == []
    api.close()
    expect(bench.run(executor=bench.make(runtime="no-such")), FailureReason.CANNOT_START, "no-such")


def test_an_image_for_another_machine_is_no_vote(bench: Bench) -> None:
    program = (bench.folder / "hostile").read_bytes()
    info = tarfile.TarInfo("x")
    info.size, info.mode = len(program), 0o755
    archive = make_archive(make_tar([(info, program)]), set_in("architecture", value="s390x"))
    image_id = verify_archive(io.BytesIO(archive), len(archive), None, MIB).id
    image = Image(str(bench.store.add_bytes(archive).to_v1()), image_id)
    expect(bench.run("exit", "0", image=image), FailureReason.CANNOT_START, "the image is for 's390x'")
