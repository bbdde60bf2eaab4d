"""Datasets that operators hold whole, and jobs that go to where the data is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.network import (
    NOTHING,
    PATIENCE_S,
    Chain,
    check_the_end,
    run_node_command,
    three_farms,
    wait_for,
)

from quorate.devnet.devnet import Devnet
from quorate.orders import OrderWishes
from quorate.placement import Locality
from quorate.progress import JobStage
from quorate.protocol.params import LOCAL
from quorate.protocol.profiles import WrongClass
from quorate.protocol.spec import Limits
from quorate.sdk import QuorateClient
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore

pytestmark = [pytest.mark.anvil, pytest.mark.slow]
HOLDERS, CLASS = (0, 1), 2
LIMITS = Limits(fuel=10**8)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    (folder / "deep").mkdir(parents=True)
    for number in range(5):
        (folder / "deep" / f"{number}.bin").write_bytes(bytes([number]) * 300_000)
    return folder


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    with three_farms(tmp_path_factory.mktemp("net"), 4, {}) as started:
        yield started


def operator(devnet: Devnet, node: int, *words: str) -> Any:
    done = run_node_command("dataset", *words, "--output", "json", home=devnet.nodes[node].home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_jobs_go_to_where_the_data_is(devnet: Devnet, dataset: Path, tmp_path: Path) -> None:
    module = tmp_path / "nothing.wasm"
    module.write_bytes(NOTHING)
    owner = QuorateClient.open(devnet.make_config(tmp_path / "owner"))
    with owner, owner.serving() as url:
        root = owner.store.add_path(dataset)
        early = run_node_command("dataset", "join", str(root), home=devnet.nodes[0].home)
        assert (early.returncode, "with --create it is made" in early.stderr) == (2, True)
        words = ["class", "create", "quorate-wasm-1", f"dataset={root}", "--unit", "0.05ether"]  # not too small to ask
        assert run_node_command(*words, home=devnet.nodes[0].home).returncode == 0
        for node in HOLDERS:
            found = operator(devnet, node, "join", str(root), "--provider", url)
            assert (found["class"], found["files"], found["bytes"]) == (CLASS, 5, 1_500_000)
            assert found["received_bytes"] > 1_500_000
        absent = run_node_command(
            "class", "join", str(CLASS), "quorate-wasm-1", f"dataset={root}", home=devnet.nodes[2].home
        )
        assert (absent.returncode, f"does not hold {root} whole" in absent.stderr) == (2, True)
        Chain(devnet).pass_time(LOCAL.era_period)
        assert wait_for(lambda: devnet.gateway.class_info(CLASS).table > 0)
        listed = operator(devnet, 1, "list")["datasets"]
        assert [(each["class"], each["complete"], each["pinned"], each["members"]) for each in listed] == [
            (CLASS, True, True, 8)
        ]
    # Whoever orders now has no data, and nobody serves it to the seats: those that hold it need no more.
    stranger = QuorateClient.open(devnet.make_config(tmp_path / "stranger"))
    with stranger:
        prepared = stranger.prepare(str(module), str(root), limits=LIMITS)
        wishes = OrderWishes(seats=3, input_bytes=1_600_000)
        job = stranger.submit(prepared, replace(wishes, locality=Locality.REQUIRE))
        assert job.order.class_id == CLASS
        assert stranger.wait(job, timeout_s=PATIENCE_S).stage is JobStage.ACCEPTED
        assert stranger.quote(prepared, wishes).class_id == CLASS, "preferred, unless told"
        assert stranger.quote(prepared, replace(wishes, locality=Locality.IGNORE)).class_id == 1
        # A class that is too small for an order's other wishes is not asked.
        for more in ({"min_units": 81}, {"seats": 5}):
            assert stranger.quote(prepared, replace(wishes, **more)).class_id == 1
            with pytest.raises(WrongClass, match=f"class {CLASS}: it has"):
                stranger.quote(prepared, replace(wishes, locality=Locality.REQUIRE, **more))
        other = stranger.prepare(str(module), str(module), limits=LIMITS)
        assert stranger.quote(other, wishes).class_id == 1
        with pytest.raises(WrongClass, match="whose members hold"):
            stranger.quote(other, replace(wishes, locality=Locality.REQUIRE))
    check_the_end(devnet)


def test_who_leaves_keeps_the_data_as_long_as_it_may_be_drawn(devnet: Devnet) -> None:
    [listed] = operator(devnet, 1, "list")["datasets"]
    root = listed["dataset"]
    Chain(devnet).begin_era(CLASS)  # it may be drawn until this era's end, which must not come between two commands
    assert operator(devnet, 1, "leave", root)["pinned"] is True
    again = run_node_command("dataset", "leave", root, home=devnet.nodes[1].home)
    assert (again.returncode, "it may be drawn for jobs" in again.stderr) == (2, True)
    Chain(devnet).pass_time(LOCAL.era_period)
    assert wait_for(lambda: operator(devnet, 1, "list")["datasets"][0]["drawn_until"] is None)
    assert operator(devnet, 1, "leave", root)["pinned"] is False
    store = EmbeddedStore(devnet.nodes[1].home / "store")
    assert store.pins() == []
    store.collect()
    assert store.is_complete(Cid.parse(root)), "a seat of its last era may still read it"
    store.close()
