"""Jobs whose content lies in Kubo daemons: one of the requester, and one beside the nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import wasmtime
from tests.integration.network import wait_for
from tests.kubo import BINARY, WHY_NOT, Kubo

from quorate.devnet import Devnet, DevnetOptions
from quorate.orders import OrderWishes
from quorate.progress import JobStage
from quorate.protocol.result import TaskStatus
from quorate.protocol.spec import Limits
from quorate.sdk import QuorateClient
from quorate.storage.cid import Cid
from quorate.storage.fetch import fetch_dag
from quorate.storage.kubo import KuboStore
from quorate.storage.memory import MemoryStore

pytestmark = [pytest.mark.anvil, pytest.mark.kubo, pytest.mark.slow]

LIMITS = Limits(fuel=10**8)
# Copies the first 64 KiB of /inputs/f to /outputs/f and to standard output.
COPY = bytes(
    wasmtime.wat2wasm("""(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4) (data (i32.const 0) "f") (data (i32.const 16) "\\00\\00\\01\\00\\00\\00\\01\\00")
  (func (export "_start")
    (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))
    (drop (call $read (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 20)))
    (drop (call $open (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1)
      (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32)))
    (drop (call $write (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 40)))
    (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 40)))))""")
)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubo]:
    if BINARY is None:
        pytest.skip(WHY_NOT)
    with Kubo(tmp_path_factory.mktemp("beside")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def devnet(beside: Kubo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    home = tmp_path_factory.mktemp("home") / "devnet"
    with Devnet(DevnetOptions(home=home, nodes=4, settings={"kubo": beside.url}, ready_s=120)) as devnet:
        yield devnet


def put_input(daemon: Kubo, folder: Path, data: bytes) -> str:
    """As people do: with `ipfs add`."""
    folder.mkdir()
    (folder / "f").write_bytes(data)
    return daemon.run("add", "-r", "-Q", "--cid-version=1", str(folder)).decode().strip()


def test_a_requester_whose_content_is_in_kubo(devnet: Devnet, kubo: Kubo, in_kubo: KuboStore, tmp_path: Path) -> None:
    data = os.urandom(5000)
    source = put_input(kubo, tmp_path / "in", data)
    (tmp_path / "copy.wasm").write_bytes(COPY)
    config = replace(devnet.make_config(tmp_path / "client"), store=kubo.url)
    with QuorateClient.open(config) as client, client.serving() as url:
        prepared = client.prepare(str(tmp_path / "copy.wasm"), source, limits=LIMITS)
        assert prepared.input_bytes is not None
        assert prepared.input_bytes >= len(data)
        job = client.submit(prepared, OrderWishes(seats=2, rounds=0), providers=[url])
        assert client.wait(job, timeout_s=90).stage is JobStage.ACCEPTED
        result = client.fetch_result(job, tmp_path / "out").results[0]
    assert result.status is TaskStatus.OK
    assert (tmp_path / "out" / "outputs" / "f").read_bytes() == (tmp_path / "out" / "stdout").read_bytes() == data
    assert kubo.run("cat", f"{result.outputs_cid}/f") == data
    assert kubo.run("cat", result.cid) == result.to_bytes()
    copy, outputs = MemoryStore(), Cid.parse(result.outputs_cid)
    fetch_dag(copy, outputs, [kubo.gateway])
    assert copy.read(copy.resolve(outputs, "f")) == data


def test_nodes_read_from_the_kubo_beside_them_and_put_results_there(
    devnet: Devnet, beside: Kubo, tmp_path: Path
) -> None:
    data = os.urandom(5000)
    source = put_input(beside, tmp_path / "in", data)
    (tmp_path / "copy.wasm").write_bytes(COPY)
    with QuorateClient.open(devnet.make_config(tmp_path / "client")) as client:
        prepared = client.prepare(str(tmp_path / "copy.wasm"), source, limits=LIMITS)
        assert prepared.input_bytes is None, "the requester has it not"
        job = client.submit(prepared, OrderWishes(seats=2, rounds=0, input_bytes=10_000))
        assert client.wait(job, timeout_s=90).stage is JobStage.ACCEPTED
        result = client.fetch_result(job, tmp_path / "out").results[0]
    assert (result.status, (tmp_path / "out" / "stdout").read_bytes()) == (TaskStatus.OK, data)
    with closing(KuboStore(beside.url)) as store:
        assert wait_for(lambda: store.is_complete(Cid.parse(result.outputs_cid)) and store.has(Cid.parse(result.cid)))
    assert beside.run("cat", f"{result.outputs_cid}/f") == data


def test_jobs_go_on_without_the_kubo_beside_the_nodes(devnet: Devnet, beside: Kubo, tmp_path: Path) -> None:
    """Last: the daemon does not come back at the same address."""
    data = b"no daemon has this"
    (tmp_path / "f").write_bytes(data)
    (tmp_path / "copy.wasm").write_bytes(COPY)
    beside.kill()
    with QuorateClient.open(devnet.make_config(tmp_path / "client")) as client, client.serving() as url:
        prepared = client.prepare(str(tmp_path / "copy.wasm"), str(tmp_path / "f"), limits=LIMITS)
        job = client.submit(prepared, OrderWishes(seats=2, rounds=0), providers=[url])
        assert client.wait(job, timeout_s=90).stage is JobStage.ACCEPTED
        result = client.fetch_result(job, tmp_path / "out").results[0]
    assert (result.status, (tmp_path / "out" / "stdout").read_bytes()) == (TaskStatus.OK, data)
