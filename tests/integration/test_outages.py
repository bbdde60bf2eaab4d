"""A chain that hurries or stands still, beacons that nobody proves, jobs that nobody can run, results that are lost."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.network import (
    NOTHING,
    PATIENCE_S,
    Books,
    Chain,
    Requester,
    find_events,
    is_quiet,
    requester,
    wait_for,
)
from wasmtime import wat2wasm

from quorate.devnet.devnet import Devnet
from quorate.devnet.options import DevnetOptions
from quorate.progress import JobStage
from quorate.protocol import events
from quorate.protocol.errors import ContentUnavailable
from quorate.protocol.params import LOCAL
from quorate.protocol.result import TaskResult
from quorate.protocol.spec import JobSpec
from quorate.sdk import QuorateClient
from quorate.storage import dagpb, varint
from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import build_gateway
from quorate.storage.index import Index
from quorate.storage.serve import LoopbackServer

pytestmark = pytest.mark.anvil
RECURSION = bytes(wat2wasm('(module (func $r (call $r) (call $r)) (func (export "_start") (call $r)))'))

# It does nothing, and has 3 MiB of a custom section: several blocks.
LARGE = NOTHING + b"\0" + varint.encode(4 + (3 << 20)) + b"\x03pad" + bytes(range(256)) * (3 << 12)


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    # One job in a hundred would be audited: its result made again, its auditor paid, where a test counts on neither.
    params, home = replace(LOCAL, audit_bps=0), tmp_path_factory.mktemp("outages") / "net"
    options = DevnetOptions(home=home, nodes=3, operators_per_node=4, params=params)
    with Devnet(options) as started:
        yield started


@contextmanager
def frozen(devnet: Devnet) -> Iterator[None]:
    """All nodes are stopped, and go on afterwards."""
    groups = [node.running.id.pid for node in devnet.nodes]
    for group in groups:
        os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        for group in groups:
            os.killpg(group, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["recursion", "missing", "half"])
def test_what_nobody_can_run_ends_with_reasons_for_a_fifth(devnet: Devnet, tmp_path: Path, attack: str) -> None:
    """A program that recurses without end; one that nobody serves; and one of which the second half is missing."""
    assert wait_for(lambda: is_quiet(devnet))
    books, free = Books(devnet), Books(devnet).free_of(devnet.requester.address)
    before, period = devnet.gateway.head().number, 30 if attack == "recursion" else 8
    half = EmbeddedStore(tmp_path / "half")
    with requester(devnet, tmp_path, LARGE if attack == "half" else RECURSION) as people, ExitStack() as stack:
        # The spec is of this test alone, so no node has it from another.
        providers = {"recursion": [], "missing": ["http://127.0.0.1:9"]}.get(attack)
        if providers is None:
            providers = [stack.enter_context(LoopbackServer(build_gateway(half))).url]
        job = people.submit(commit_period=period, providers=providers)
        if attack == "half":
            copy_half(people.client.store, half, Cid.from_digest(job.order.spec_hash))
        last = people.client.wait(job, timeout_s=PATIENCE_S)
        described = people.client.describe(job)
    half.close()
    reason = "RESOURCES" if attack == "recursion" else "NO_DATA"
    assert last.stage is JobStage.VOID
    assert reason in last.detail
    assert described["abstentions"] == {reason: 9}, "three seats in each of three rounds"
    times = [step["timestamp"] for step in described["steps"]]
    # Three rounds are over before one's first window would be; but data may still come until a round's last call.
    most = period if attack == "recursion" else 3 * (period + 3)
    assert times[-1] - times[0] <= most, "no round waits for its later windows"
    assert not find_events(devnet, events.OperatorFined, before)
    assert wait_for(lambda: is_quiet(devnet))
    price = 10**8 * devnet.gateway.class_info(1).price // 10**9
    spent = free - books.free_of(devnet.requester.address)
    assert spent > 0
    assert abs(spent - 9 * (price // 5)) <= spent // 5, "prices move by a tenth with an era"
    books.check()


def copy_half(source: BlobStore, target: EmbeddedStore, spec: Cid) -> None:
    """The spec, and of its module the root and the first part alone."""
    target.put(spec, source.get(spec))
    module = Cid.parse(JobSpec.from_bytes(source.get(spec)).module)
    first, second, *_ = (link.cid for link in dagpb.decode(source.get(module)).links)
    assert first != second
    for cid in (module, first):
        target.put(cid, source.get(cid))


def test_a_result_that_its_voters_lost(devnet: Devnet, tmp_path: Path) -> None:
    with requester(devnet, tmp_path) as people:
        for _ in range(20):
            job = people.submit()
            assert people.client.wait(job, timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
            seats = sorted(seat["operator"] for seat in people.client.describe(job)["seats"])
            holders = {(operator - 1) // 4 for operator in seats}
            if len(holders) > 1:
                break
        assert len(holders) > 1
        first = min(holders)
        # Somebody else asks each time: what was fetched once is here.
        result = people.client.fetch_result(job, tmp_path / "out").results[0]
        lose_result(devnet, first, result)
        with stranger(people, tmp_path / "one") as client:
            assert client.fetch_result(job, tmp_path / "one" / "out").results == (result,)
        for other in {0, 1, 2} - {first}:
            lose_result(devnet, other, result)
        with stranger(people, tmp_path / "two") as client, pytest.raises(ContentUnavailable) as caught:
            client.fetch_result(job, tmp_path / "two" / "out")
    names = ", ".join(map(str, seats[:-1])) + f" and {seats[-1]}"
    assert f"operators {names} voted for it, and keep it until it is final" in str(caught.value)


def test_a_whole_job_within_one_second_of_the_chain(devnet: Devnet, tmp_path: Path) -> None:
    """Many blocks with one timestamp, and none at all for a while in the middle."""
    chain, paused = Chain(devnet), False
    with requester(devnet, tmp_path) as people, chain.standing_still():
        now = chain.head().timestamp + 1
        job = people.submit(commit_period=30)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            chain.mine(1, now)
            if find_events(devnet, events.RoundStarted, job.from_block) and not paused:
                paused = True
                time.sleep(3)
            if people.client.track(job).stage is JobStage.ACCEPTED:
                break
            time.sleep(0.2)
        assert people.client.track(job).stage is JobStage.ACCEPTED
        times = {devnet.gateway.block(step.block).timestamp for step in people.client.track(job).history}
        assert times == {now}
        assert people.client.fetch_result(job, tmp_path / "out").results[0].exit_code == 0


def test_without_a_beacon_the_deposit_is_back_and_the_bond_lost(devnet: Devnet, tmp_path: Path) -> None:
    chain, books, gateway = Chain(devnet), Books(devnet), devnet.gateway
    assert wait_for(lambda: is_quiet(devnet))
    chain.begin_era(1)  # else the end of one may be what waits for a block, and the batch is not there yet
    collator, bond = devnet.nodes[0].operators[0].account.address, gateway.params().batch_bond
    before = books.free_of(devnet.requester.address), books.free_of(collator), gateway.ledgers().treasury
    stakes = books.stake_of(range(1, 13))
    with requester(devnet, tmp_path) as people:
        with chain.standing_still():
            job = people.submit()
            assert wait_for(lambda: chain.count_pending() > 0)
            with frozen(devnet):
                chain.mine(1)
                chain.mine(258)
        last = people.client.wait(job, timeout_s=PATIENCE_S)
    assert last.stage is JobStage.VOID
    assert "nobody closed it or drew its committees in time; the deposit is back" in last.detail
    assert wait_for(lambda: is_quiet(devnet))
    after = books.free_of(devnet.requester.address), books.free_of(collator), gateway.ledgers().treasury
    assert after == (before[0], before[1] - bond, before[2] + bond)
    assert books.stake_of(range(1, 13)) == stakes
    books.check()


def lose_result(devnet: Devnet, index: int, result: TaskResult) -> None:
    store = Index(devnet.nodes[index].home / "store" / "index.sqlite3")
    store.forget(Cid.parse(result.cid).multihash)
    store.close()


@contextmanager
def stranger(people: Requester, home: Path) -> Iterator[QuorateClient]:
    """The same requester on another machine, with its records of jobs and no content."""
    config = people.client.config
    shutil.copytree(config.jobs, home / "jobs")
    with QuorateClient.open(replace(config, home=home, store=home / "store")) as client:
        yield client
