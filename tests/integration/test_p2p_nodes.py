"""Nodes of a devnet that find each other by libp2p: one address and the chain are all that they are told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.network import OUR_PATHS, run_node_command, wait_for

pytest.importorskip("libp2p", reason="libp2p is not installed here (scripts/setup --p2p)")

from quorate.devnet.devnet import Devnet
from quorate.devnet.options import DevnetOptions
from quorate_node.config import change_config
from quorate_node.p2p.membership import RECORDS_FILE

pytestmark = [pytest.mark.anvil, pytest.mark.slow]
NODES, OPERATORS = 3, 2


@pytest.fixture
def devnet(tmp_path: Path) -> Iterator[Devnet]:
    paths = os.pathsep.join(filter(None, [OUR_PATHS["PYTHONPATH"], os.environ.get("PYTHONPATH")]))
    options = DevnetOptions(home=tmp_path / "net", nodes=NODES, operators_per_node=OPERATORS, env={"PYTHONPATH": paths})
    with Devnet(options) as started:
        yield started


def ask(devnet: Devnet, node: int) -> dict[str, Any]:
    try:
        found: dict[str, Any] = httpx.get(f"{devnet.nodes[node].url}/quorate/v1/status", timeout=30).json()["p2p"]
    except httpx.HTTPError:
        return {}
    return found or {}


def join(devnet: Devnet, node: int, **settings: Any) -> None:
    devnet.kill_node(node)
    (devnet.nodes[node].home / RECORDS_FILE).unlink(missing_ok=True)  # what it found before is not to help it
    change_config(devnet.nodes[node].home, p2p_listen="/ip4/127.0.0.1/tcp/0", **settings)
    devnet.restart_node(node)


def test_one_address_and_the_chain_are_enough(devnet: Devnet) -> None:
    assert ask(devnet, 0) == {}
    join(devnet, 0)
    assert wait_for(lambda: ask(devnet, 0).get("addresses"))
    (first,) = ask(devnet, 0)["addresses"]
    for node in (1, 2):
        join(devnet, node, bootstrap=[first])
    urls = {each.url for each in devnet.nodes}
    for node in range(NODES):
        assert wait_for(lambda node=node: ask(devnet, node).get("records") == NODES * OPERATORS)
        assert wait_for(lambda node=node: {*ask(devnet, node)["neighbours"]} == urls - {devnet.nodes[node].url})
        assert ask(devnet, node)["problem"] is None

    # An identity outlives its process, and a node that is told of the dead alone says so, and works on.
    identity = ask(devnet, 1)["identity"]
    devnet.kill_node(0)
    join(devnet, 1)
    assert wait_for(lambda: "none of 1 bootstrap addresses answers" in (ask(devnet, 1).get("problem") or ""))
    assert ask(devnet, 1)["identity"] == identity
    shown = run_node_command("status", home=devnet.nodes[1].home)
    assert shown.returncode == 0, shown.stderr
    assert "bootstrap addresses answers" in shown.stdout
