"""What goes wrong around a container: memory, daemons that hang, nodes that die, inputs and images without end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.dockers import LIMITS, Bench, Daemon, bench_of, expect, needs_docker
from tests.integration.network import wait_for
from tests.integration.registries import Registry, serving

from quorate.images.build import ImageRecipe, build_image
from quorate.protocol.container import Image
from quorate.protocol.spec import MIB
from quorate.protocol.types import AbstainReason
from quorate_node.executor import docker_client, docker_executor, docker_images
from quorate_node.executor.base import ContainerTask, Executed, FailureReason, LocalFailure
from quorate_node.executor.docker_cgroup import MemoryEnd, make_prefix, watching
from quorate_node.executor.docker_client import connect
from quorate_node.executor.docker_clock import Allowance
from quorate_node.executor.docker_container import Plan, _configure
from quorate_node.executor.docker_executor import DockerExecutor
from quorate_node.executor.docker_folders import make_folders
from quorate_node.failures import FAILURES

pytestmark = needs_docker
CGROUPS = Path("/sys/fs/cgroup")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_of("hostile", tmp_path_factory.mktemp("faults")) as made:
        yield made


def find_cgroups(scratch: Path) -> list[Path]:
    return [*CGROUPS.glob(f"{make_prefix(str(scratch))}*"), *CGROUPS.glob(f"*/{make_prefix(str(scratch))}*")]


def watch_program(
    bench: Bench, word: str, driver: str = "cgroupfs", meanwhile: Callable[[], Any] | None = None
) -> MemoryEnd:
    """What a watch says of a program, whatever the daemon noticed; with `meanwhile` it is ended after that."""
    spec, api = bench.spec(word), connect(bench.daemon.host)
    with make_folders(bench.folder / "scratch", bench.store, spec, MIB, Allowance.of(60)) as folders:
        owner = str(bench.folder / "watched")
        plan = Plan(bench.image.id, ("/hostile", word), {}, "/", folders, LIMITS, owner)
        with watching(owner, plan.memory_bytes, driver) as watch:
            plan = replace(plan, watch=watch)
            made = api.create_container_from_config(_configure(api, plan))
            try:
                api.start(made)
                if meanwhile is not None:
                    meanwhile()
                    api.kill(made)
                api.wait(made, timeout=60)
                return watch.judge()
            finally:
                api.remove_container(made, force=True)
                api.close()


def test_memory_that_ran_out_is_seen_without_the_daemon(bench: Bench) -> None:
    """A daemon loses the event of a child that was killed in one of some fifty containers; the kernel does not."""
    assert isinstance(bench.run("exit", "0"), Executed)  # so the image is there
    for _ in range(5):
        assert watch_program(bench, "child") is MemoryEnd.EXHAUSTED
    assert watch_program(bench, "good") is MemoryEnd.ENOUGH
    beside = watch_program(bench, "sleep", meanwhile=lambda: watch_program(bench, "child"))
    assert beside is MemoryEnd.ENOUGH, "what died was another's"
    assert watch_program(bench, "child", "none") is MemoryEnd.UNSURE, "by the host's counters alone"
    assert find_cgroups(bench.folder / "watched") == []


def test_cgroups_of_a_node_that_died_are_removed_with_what_runs_there(bench: Bench) -> None:
    scratch = bench.folder / "dead"
    script = f"""
import time
from quorate_node.executor.docker_cgroup import watching
with watching({str(scratch)!r}, 1 << 20, "cgroupfs") as watch:
    print(watch.folder, flush=True)
    time.sleep(600)
"""
    node = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        assert node.stdout is not None
        folder = Path(node.stdout.readline().strip())
        assert folder.is_dir()
        (folder / "below").mkdir()
        (folder / "below" / "cgroup.procs").write_text(str(sleeper.pid))
    finally:
        node.kill()
        node.communicate()
    assert len(find_cgroups(scratch)) == 1
    assert isinstance(bench.run("exit", "0", executor=bench.make("other")), Executed)
    assert len(find_cgroups(scratch)) == 1, "that is another node's"
    assert isinstance(bench.run("exit", "0", executor=bench.make("dead")), Executed)
    assert find_cgroups(scratch) == []
    assert sleeper.wait(10) < 0


def test_what_a_node_that_died_left_is_gone_when_it_starts(bench: Bench) -> None:
    assert isinstance(bench.run("exit", "0"), Executed)  # so the image is there
    api, scratch = connect(bench.daemon.host), bench.folder / "restarted"
    api.create_container(bench.image.id, labels={"quorate.scratch": str(scratch)}, name="left")
    (scratch / "old" / "outputs").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(scratch / "old" / "outputs")], check=True)
    away = bench.make("restarted", host="unix:///run/none")
    asyncio.run(away.start())
    assert list(scratch.iterdir()) == [], "this host is cleared without a daemon, too"
    assert str(scratch) not in Path("/proc/mounts").read_text()
    asyncio.run(bench.make("restarted").start())
    assert api.containers(all=True) == []
    api.close()


def test_an_input_without_end_is_refused_before_any_of_it_is_written(bench: Bench) -> None:
    folder = bench.store.add_tree({"f": bytes(MIB)})
    for _ in range(6):
        folder = bench.store.add_tree({str(number): folder for number in range(40)})
    outcome = bench.run("exit", "0", input=str(folder.to_v1()))
    expect(outcome, FailureReason.INPUT_REFUSED, f"has {40**6 * MIB} bytes")
    assert FAILURES[FailureReason.INPUT_REFUSED] == (AbstainReason.DATA_MISMATCH, False)
    plain = str(bench.store.add_bytes(bytes(MIB)).to_v1())
    task = ContainerTask(bench.spec("exit", "0", input=plain), max_input_bytes=MIB - 1)
    expect(asyncio.run(bench.make().execute(task, timeout_s=60)), FailureReason.INPUT_REFUSED, "grants 1048575")
    task = replace(task, max_input_bytes=MIB)
    assert isinstance(asyncio.run(bench.make().execute(task, timeout_s=60)), Executed)


def test_an_image_of_a_registry_that_is_too_large_is_not_fetched_to_its_end(bench: Bench) -> None:
    with serving(Registry(layer_bytes=1 << 33)) as registry:
        executor = bench.make(registries=(f"127.0.0.1:{registry.port}",))
        outcome = bench.run(image=Image(reference=registry.reference), executor=executor)
        expect(outcome, FailureReason.IMAGE_REFUSED, "over image_bytes")
        assert registry.is_left.wait(60), "the daemon does not want the rest"


def test_an_image_that_does_not_come_holds_up_no_other_and_ends_in_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_executor, "PREPARE_S", 1.0)

    async def run_both(executor: DockerExecutor, stuck: Image, seconds: float) -> tuple[Any, Any, bool]:
        waiting = asyncio.create_task(executor.execute(ContainerTask(bench.spec(image=stuck)), timeout_s=seconds))
        assert await asyncio.to_thread(registry.is_asked.wait, 60)
        other = await executor.execute(ContainerTask(bench.spec("exit", "0")), timeout_s=60)
        is_waiting = not waiting.done()
        return other, await waiting, is_waiting

    for seconds in (4, 16, 64):  # longer where the host is slow
        with serving(Registry(layer_bytes=MIB, stalls=True)) as registry:
            executor = bench.make(registries=(f"127.0.0.1:{registry.port}",), workers=2)
            image = Image(reference=registry.reference)
            other, stuck, is_waiting = asyncio.run(run_both(executor, image, seconds))
        assert isinstance(other, Executed)
        assert isinstance(stuck, LocalFailure)
        assert stuck.reason in {FailureReason.TIMEOUT, FailureReason.DATA_UNAVAILABLE}
        if is_waiting:
            return
    pytest.fail("the other task ended only after the one that waits for its image")


def test_no_image_is_thrown_away_while_a_task_needs_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images take turns with a daemon that keeps one, under two workers."""
    monkeypatch.setattr(docker_images, "KEPT_IMAGES", 1)
    images = []
    for number in range(3):
        path = bench.folder / f"image-{number}.tar"
        config = build_image(ImageRecipe(binary=bench.folder / "hostile", env={"N": str(number)}), path)
        images.append(Image(str(bench.store.add_path(path).to_v1()), config.id))
    executor = bench.make("turns", workers=2)

    async def run_all() -> list[Any]:
        tasks = [ContainerTask(bench.spec("exit", "0", image=images[number % 3])) for number in range(12)]
        return list(await asyncio.gather(*(executor.execute(task, timeout_s=60) for task in tasks)))

    assert [type(outcome) for outcome in asyncio.run(run_all())] == [Executed] * 12
    executor.forget_images()
    api = connect(bench.daemon.host)
    assert not {image.id for image in images} & {each["Id"] for each in api.images()}
    api.close()


def test_a_daemon_that_hangs_holds_neither_a_task_nor_its_node(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped, so that it answers nothing, ends nothing and breaks no connection."""
    daemon = Daemon(bench.folder / "hanging")
    executor = bench.make("hung", host=daemon.host)

    async def hang() -> tuple[Any, Any]:
        api = connect(daemon.host)
        running = asyncio.create_task(executor.execute(ContainerTask(bench.spec("sleep")), timeout_s=600))
        assert await asyncio.to_thread(wait_for, lambda: bool(api.containers()))
        os.kill(daemon.pid, signal.SIGSTOP)
        api.close()
        await executor.close()
        assert await asyncio.to_thread(wait_for, running.done), "long before its time"
        later = ContainerTask(bench.spec("exit", "0"))
        with monkeypatch.context() as patch:
            patch.setattr(docker_client, "HELLO_S", 3.0)
            next_one = await asyncio.wait_for(bench.make("late", host=daemon.host).execute(later, timeout_s=600), 60)
        return await running, next_one

    try:
        outcome, next_one = asyncio.run(hang())
        assert isinstance(outcome, LocalFailure), outcome
        assert outcome.reason in {FailureReason.TIMEOUT, FailureReason.DAEMON_LOST}
        expect(next_one, FailureReason.NO_DAEMON, "answers at")
        assert FAILURES[FailureReason.NO_DAEMON] == (AbstainReason.OTHER, False), "the seat says so at once"
        assert find_cgroups(bench.folder / "hung") == []
        assert str(bench.folder / "hung") not in Path("/proc/mounts").read_text()
        os.kill(daemon.pid, signal.SIGCONT)
        back = bench.make("hung", host=daemon.host)
        assert isinstance(bench.run("exit", "0", executor=back), Executed)
        with contextlib.closing(connect(daemon.host)) as api:
            assert api.containers(all=True) == []
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
        daemon.stop()
