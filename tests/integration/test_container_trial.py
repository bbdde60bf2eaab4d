"""`quorate-node docker exec`: a container outside any job gives what nodes would agree on, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.dockers import Bench, bench_of, needs_docker
from tests.integration.network import wait_for

from quorate.protocol.container import ContainerLimits
from quorate.protocol.result import EXIT_OVER_LIMIT
from quorate.spec import prepare_container
from quorate_node.executor.base import ContainerTask, Executed
from quorate_node.executor.docker_client import connect

pytestmark = needs_docker


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_of("hostile", tmp_path_factory.mktemp("trial")) as found:
        (found.folder / "input").write_bytes(b"word\n")
        yield found


def start(bench: Bench, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "quorate_node.cli.main", "docker", "exec", str(bench.folder / "image.tar"), *words]
    env = os.environ | {"DOCKER_HOST": bench.daemon.host, "HOME": str(bench.folder), "NO_COLOR": "1", "COLUMNS": "300"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def run(bench: Bench, *words: str) -> tuple[int, str, str]:
    process = start(bench, *words)
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def is_clean(bench: Bench) -> bool:
    api = connect(bench.daemon.host)
    left = api.containers(all=True), api.images("quorate.invalid/*")
    api.close()
    return left == ([], [])


def test_it_gives_what_a_job_would(bench: Bench) -> None:
    out, source = bench.folder / "out", str(bench.folder / "input")
    words = ["-i", source, "--env", "WORD=w", "--out", str(out), "--output", "json", "--", "good"]
    code, stdout, stderr = run(bench, *words)
    said, told = stdout.splitlines()
    found = json.loads(told)
    assert (code, said, stderr, found["status"], found["exit_code"]) == (0, "w 1", "", "OK", 0)
    assert (out / "copy").read_bytes() == b"word\n"
    assert (out / "empty").is_dir()
    image = str(bench.folder / "image.tar")
    prepared = prepare_container(bench.store, image, source, args=["good"], env=["WORD=w"], limits=ContainerLimits())
    executor = bench.make()
    fields = {"image": prepared.spec.image, "input": prepared.spec.input, "input_name": "input"}
    outcome = bench.run("good", executor=executor, env={"WORD": "w"}, limits=ContainerLimits(), **fields)
    executor.forget_images()
    assert isinstance(outcome, Executed)
    assert ContainerTask(prepared.spec).spec.cid == found["spec"]
    assert f"0x{outcome.result.leaf.hex()}" == found["digest"]
    again = run(bench, *words)
    assert (again[0], "is not empty" in again[2]) == (2, True), "nothing is written over"
    assert is_clean(bench)


def test_exit_codes_tell_who_failed(bench: Bench) -> None:
    for words, code, why in (
        (["--", "exit", "7"], 7, ""),
        (["--", "link"], 153, "is a link"),
        (["--seconds", "1", "--", "sleep"], 124, "all the time that it may have: --seconds N gives it more"),
        (["--entrypoint", "/absent"], 126, "cannot be executed"),
        (["-i", "absent"], 2, "does not exist"),
    ):
        found = run(bench, *words)
        assert (found[0], why in found[2], "Traceback" in found[2]) == (code, True, False), found
    assert is_clean(bench)


def test_one_that_is_ended_takes_its_container_along(bench: Bench) -> None:
    api = connect(bench.daemon.host)
    process = start(bench, "--seconds", "60", "--", "sleep")
    assert wait_for(lambda: len(api.containers()) == 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert is_clean(bench)
    process = start(bench, "--seconds", "60", "--", "sleep")
    assert wait_for(lambda: len(api.containers()) == 1)
    process.kill()
    process.wait(60)
    assert len(api.containers()) == 1, "nobody was left to remove it"
    assert run(bench, "--", "exit", "0")[0] == 0
    assert is_clean(bench), "the next one did"
    api.close()


def test_what_it_says_is_shown_as_it_comes(bench: Bench) -> None:
    """Also what is too much to be a result."""
    code, stdout, stderr = run(bench, "--output", "json", "--", "talk")
    told = json.loads(stdout[stdout.rindex("{") :])
    assert (code, told["status"], told["exit_code"]) == (153, "FAILED", EXIT_OVER_LIMIT)
    assert len(stdout) > ContainerLimits().stdout_bytes
    assert "it wrote more than stdout_bytes" in stderr
    assert is_clean(bench)


def test_where_no_daemon_is_it_says_so(tmp_path: Path, bench: Bench) -> None:
    env = os.environ | {"DOCKER_HOST": f"unix://{tmp_path}/none", "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "quorate_node.cli.main", "docker", "exec", str(bench.folder / "image.tar")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert "start Docker, or name its socket in DOCKER_HOST" in done.stderr
