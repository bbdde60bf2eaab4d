"""What a stranger's container can find out, and reach: nothing of other jobs, of the node, or of the host."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.dockers import Bench, bench_of, needs_docker
from tests.integration.network import wait_for
from tests.unit.images.test_images import make_archive, make_tar, set_in

from quorate.images.archive import verify_archive
from quorate.protocol.container import Image
from quorate_node.executor.base import ContainerTask, Executed
from quorate_node.executor.docker_executor import connect

pytestmark = needs_docker
SECRET = "quorate-ascrdob-cdruwk"  # as the program puts it together
CONTROL = {
    "cap_add": ["SYS_ADMIN", "SYS_PTRACE", "SYSLOG", "SYS_TIME", "DAC_READ_SEARCH"],
    "network_mode": "host", "pid_mode": "host", "security_opt": ["seccomp=unconfined"],
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_of("escape", tmp_path_factory.mktemp("escape")) as made:
        yield made


@contextmanager
def secrets_of_a_node(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A keystore and a journal beside the folder of tasks, and a passphrase in this process."""
    for name in ("keystore.json", "journal"):
        (bench.folder / name).write_text(SECRET)
    monkeypatch.setenv("QUORATE_PASSPHRASE", SECRET)
    yield
    for name in ("keystore.json", "journal"):
        (bench.folder / name).unlink()


def test_nothing_of_another_job_or_of_the_node_is_to_be_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    executor, api = bench.make(workers=2), connect(bench.daemon.host)

    async def run(*args: str, **fields: Any) -> Any:
        return await executor.execute(ContainerTask(bench.spec(*args, **fields)), timeout_s=60)

    async def side_by_side() -> tuple[Any, Any]:
        given = str(bench.store.add_bytes(SECRET.encode()).to_v1())
        hiding = asyncio.create_task(run("hide", "6", input=given, env={"TOKEN": SECRET}))
        assert await asyncio.to_thread(wait_for, lambda: bool(api.containers()))
        await asyncio.sleep(1)  # the secret is everywhere by now
        seeking = await run("seek")
        is_beside = bool(api.containers())
        assert is_beside, "it has looked while the other was there"
        return await hiding, seeking

    with secrets_of_a_node(bench, monkeypatch):
        hidden, sought = asyncio.run(side_by_side())
        assert bench.read(hidden) == "hidden\n"
        assert (bench.read(sought), sought.stderr) == ("found 0\n", b"")
        afterwards = bench.run("seek", executor=executor)
        assert (bench.read(afterwards), afterwards.stderr) == ("found 0\n", b"")
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


def test_nothing_of_the_host_can_be_reached_or_changed(bench: Bench) -> None:
    """The control runs the same probes, none of which changes anything, in a container without any of the walls."""
    with listeners() as port:
        words = ["probe", str(port), str(os.getpid())]
        inside = bench.read(bench.run(*words)).splitlines()
        api = connect(bench.daemon.host)
        made = api.create_container(bench.image.id, words, host_config=api.create_host_config(**CONTROL))
        api.start(made)
        api.wait(made, timeout=60)
        outside = api.logs(made).decode().splitlines()
        api.remove_container(made, force=True)
        api.close()
    assert inside[0] == "user 65534 of 65534"
    assert [line for line in inside[1:] if not line.endswith(" refused")] == []
    done = {line.removesuffix(" done") for line in outside if line.endswith(" done")}
    expected = {"loopback", "abstract", "raw", "signal", "bpf", "log", "clock", "name"}
    assert done >= expected | {"namespace"}
    assert len(inside) == len(outside)


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
    made = api.create_container(image_id, ["probe", "1", "1"], user="65534")
    api.start(made)
    api.wait(made, timeout=60)
    assert api.logs(made).decode().startswith("user 0 of 65534\n")
    api.remove_container(made, force=True)
    api.close()


def bench_architecture(bench: Bench) -> str:
    api = connect(bench.daemon.host)
    found = api.inspect_image(bench.image.id)["Architecture"]
    api.close()
    return str(found)


def test_what_was_left_of_a_task_is_gone(bench: Bench) -> None:
    outcome = bench.run("hide", "0")
    assert isinstance(outcome, Executed)
    left = [path for path in (bench.folder / "scratch").rglob("*") if path.is_file()]
    assert left == []
    assert str(bench.folder / "scratch") not in Path("/proc/mounts").read_text()
