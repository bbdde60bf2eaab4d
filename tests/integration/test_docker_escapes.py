"""What a stranger's container can find out, and reach: nothing of other jobs, of the node, or of the host."""

from __future__ import annotations

import asyncio
import io
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.dockers import LIMITS, Bench, bench_of, needs_docker
from tests.integration.network import wait_for
from tests.unit.images.test_images import make_archive, make_tar, set_in

from quorate.images.archive import verify_archive
from quorate.protocol.container import Image
from quorate.protocol.spec import MIB
from quorate_node.executor.base import ContainerTask, Executed
from quorate_node.executor.docker_client import connect
from quorate_node.executor.docker_clock import Allowance
from quorate_node.executor.docker_container import Plan, _configure
from quorate_node.executor.docker_folders import make_folders

pytestmark = needs_docker
SECRET = "quorate-ascrdob-cdruwk"  # as the program puts it together
CONTROL = {
    "cap_add": ["SYS_ADMIN", "SYS_PTRACE", "SYSLOG", "SYS_TIME", "SYS_MODULE", "SYS_RAWIO", "DAC_READ_SEARCH"],
    "network_mode": "host", "pid_mode": "host", "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
    "device_cgroup_rules": ["c *:* rwm"], "tmpfs": {"/tmp": "dev"},
}  # fmt: skip
NOT_EVERYWHERE = {
    "metadata",
    "dns",
    "ipv6",
    "memory",
    "kcore",
    "sysrq",
    "perf",
    "faults",
    "module",
}  # even without any wall


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_of("escape", tmp_path_factory.mktemp("escape")) as made:
        yield made


@contextmanager
def node_with_secrets(bench: Bench) -> Iterator[str]:
    """A keystore and a journal beside the folder of tasks, and a process with a passphrase: its number."""
    for name in ("keystore.json", "journal"):
        (bench.folder / name).write_text(SECRET)
    process = subprocess.Popen(["sleep", "600"], env={"QUORATE_PASSPHRASE": SECRET})
    try:
        yield str(process.pid)
    finally:
        process.kill()
        process.wait()
        for name in ("keystore.json", "journal"):
            (bench.folder / name).unlink()


def run_freely(api: Any, image: str, words: list[str], config: Any = None, **walls: Any) -> tuple[str, str]:
    """Both outputs of a container that the executor does not make: of `config`, else behind these walls alone."""
    config = config or api.create_container_config(image, words, host_config=api.create_host_config(**walls))
    made = api.create_container_from_config(config)
    try:
        api.start(made)
        api.wait(made, timeout=60)
        return api.logs(made, stderr=False).decode(), api.logs(made, stdout=False).decode()
    finally:
        api.remove_container(made, force=True)


def test_nothing_of_another_job_or_of_the_node_is_to_be_found(bench: Bench) -> None:
    """The control looks from a container that shares with the other job and the node whatever can be shared."""
    executor, api = bench.make(workers=2), connect(bench.daemon.host)

    async def run(*args: str, **fields: Any) -> Any:
        return await executor.execute(ContainerTask(bench.spec(*args, **fields)), timeout_s=60)

    async def side_by_side() -> tuple[Any, Any, str]:
        given = str(bench.store.add_bytes(SECRET.encode()).to_v1())
        hiding = asyncio.create_task(run("hide", "600", input=given, env={"TOKEN": SECRET}))
        assert await asyncio.to_thread(wait_for, lambda: any(bench.folder.glob("scratch/*/outputs/ready")))
        seeking = await run("seek")
        (beside,) = api.containers()
        shared = dict.fromkeys(("network_mode", "pid_mode"), f"container:{beside['Id']}")
        walls = {"binds": [f"{bench.folder}:/node:ro"], "cap_add": ["SYS_PTRACE"], **shared}
        _, found = await asyncio.to_thread(run_freely, api, bench.image.id, ["seek"], **walls)
        api.kill(beside["Id"], "SIGHUP")
        return await hiding, seeking, found

    with node_with_secrets(bench):
        hidden, sought, found = asyncio.run(side_by_side())
        assert bench.read(hidden) == "hidden\n"
        assert (bench.read(sought), sought.stderr) == ("found 0\n", b"")
        places = ("/node/keystore.json", "/node/journal", "config.v2.json", "/outputs/secret", "/inputs/input")
        places += ("/environ", "abstract", "loopback")
        assert [place for place in places if place not in found] == []
        afterwards = bench.run("seek", executor=executor)
        assert (bench.read(afterwards), afterwards.stderr) == ("found 0\n", b"")
    left = [path for path in bench.folder.glob("data/**/*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert left == [], "the daemon has forgotten it too"
    api.close()


def test_the_seeker_would_find_it(bench: Bench) -> None:
    """The control: in one container, where all of it is to be found."""
    outcome = bench.run("both", input=str(bench.store.add_bytes(SECRET.encode()).to_v1()), env={"TOKEN": SECRET})
    found = outcome.stderr.decode()
    places = ("/tmp/secret", "/outputs/secret", "/inputs/input", "/environ", "shared memory", "abstract", "loopback")
    for place in places:
        assert place in found
    assert int(bench.read(outcome).split()[1]) >= len(places)


@contextmanager
def listeners() -> Iterator[int]:
    """Services of the host that trust whoever reaches them: a port on loopback, and an abstract socket."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        local = stack.enter_context(socket.socket(socket.AF_UNIX))
        local.bind("\0quorate-host")
        local.listen()
        yield server.getsockname()[1]


def find_done(shown: str) -> set[str]:
    return {line.removesuffix(" done") for line in shown.splitlines() if line.endswith(" done")}


def test_nothing_of_the_host_can_be_reached_or_changed(bench: Bench) -> None:
    """The control runs the same probes, none of which changes anything, in a container without any of the walls."""
    api = connect(bench.daemon.host)
    with listeners() as port, node_with_secrets(bench) as process:
        words = ["probe", str(port), process]
        inside = bench.read(bench.run(*words)).splitlines()
        walls = api.create_host_config(**CONTROL) | {"MaskedPaths": [], "ReadonlyPaths": []}
        config = api.create_container_config(bench.image.id, words, host_config=walls)
        outside = run_freely(api, bench.image.id, words, config)[0].splitlines()
    api.close()
    assert inside[0] == "user 65534 of 65534"
    assert [line for line in inside[1:] if not line.endswith(" refused")] == []
    assert len(inside) == len(outside) > 30
    assert {line.removesuffix(" refused") for line in outside if line.endswith(" refused")} <= NOT_EVERYWHERE


# What of the executor's own settings is taken away, and what the same program achieves then.
@pytest.mark.parametrize(
    ("name", "value", "achieved"),
    [
        ("NetworkMode", "host", {"loopback", "abstract"}),
        ("PidMode", "host", {"sees"}),
        ("SecurityOpt", ["no-new-privileges", "seccomp=unconfined"], {"keyring", "key"}),
    ],
)
def test_each_wall_is_one(bench: Bench, name: str, value: Any, achieved: set[str]) -> None:
    api = connect(bench.daemon.host)
    with listeners() as port, node_with_secrets(bench) as process:
        spec = bench.spec("probe", str(port), process)
        with make_folders(bench.folder / "scratch", bench.store, spec, MIB, Allowance.of(60)) as folders:
            plan = Plan(bench.image.id, ("/escape", *spec.args), {}, "/", folders, LIMITS, "walls")
            config = _configure(api, plan)
            assert name in config["HostConfig"] or name == "PidMode"
            config["HostConfig"] |= {name: value, "LogConfig": {"Type": "json-file", "Config": {}}}
            config["NetworkDisabled"] = False
            shown, _ = run_freely(api, bench.image.id, [], config)
    api.close()
    assert find_done(shown) >= achieved
    assert find_done(shown) - achieved <= NOT_EVERYWHERE | {"users"}


def test_a_program_that_the_image_lends_root_gets_none(bench: Bench) -> None:
    """The control again: without our flags the mode of the file counts."""
    program = (bench.folder / "escape").read_bytes()
    info = tarfile.TarInfo("x")
    info.size, info.mode = len(program), 0o4755
    archive = make_archive(make_tar([(info, program)]), set_in("architecture", value=bench_architecture(bench)))
    image_id = verify_archive(io.BytesIO(archive), len(archive), None, 1 << 20).id
    image = Image(str(bench.store.add_bytes(archive).to_v1()), image_id)
    outcome = bench.run("probe", "1", "1", image=image)
    assert bench.read(outcome).startswith("user 65534 of 65534\n")
    api = connect(bench.daemon.host)
    config = api.create_container_config(image_id, ["probe", "1", "1"], user="65534")
    assert run_freely(api, image_id, [], config)[0].startswith("user 0 of 65534\n")
    api.close()


def bench_architecture(bench: Bench) -> str:
    with (bench.folder / "image.tar").open("rb") as file:
        return verify_archive(file, (bench.folder / "image.tar").stat().st_size, bench.image.id, 1 << 30).architecture


def test_what_was_left_of_a_task_is_gone(bench: Bench) -> None:
    outcome = bench.run("hide", "0")
    assert isinstance(outcome, Executed)
    left = [path for path in (bench.folder / "scratch").rglob("*") if path.is_file()]
    assert left == []
    assert str(bench.folder / "scratch") not in Path("/proc/mounts").read_text()
