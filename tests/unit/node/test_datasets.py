"""Holding a dataset: what is pinned when fetching it fails."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from quorate.protocol.errors import ContentUnavailable
from quorate.storage.cid import Cid
from quorate.storage.dagpb import Link
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import build_gateway
from quorate.storage.serve import LoopbackServer
from quorate_node.cli.datasets import claim_missing, hold
from quorate_node.config import NodeConfig, build_config
from quorate_node.room import StoreFull

ROOT = Cid.of(b"nobody has it")
MIB = 1 << 20


def make_config(home: Path, **more: int) -> NodeConfig:
    return build_config(home, {"rpc_url": "http://x", "deployment": "d", "keystore": "k", **more}, "test")


@pytest.mark.parametrize("was_pinned", [True, False])
def test_a_fetch_that_fails_leaves_pins_as_they_were(tmp_path: Path, was_pinned: bool) -> None:
    with closing(EmbeddedStore(tmp_path / "store")) as store:
        if was_pinned:
            store.pin(ROOT)
    with pytest.raises(ContentUnavailable):
        hold(make_config(tmp_path), ROOT, [])
    with closing(EmbeddedStore(tmp_path / "store")) as store:
        assert (ROOT in store.pins()) == was_pinned


def test_a_dataset_that_does_not_fit_is_refused_before_it_comes_and_one_that_is_half_here_fits(tmp_path: Path) -> None:
    """Its root alone tells how large it is; what is here already is not counted twice."""
    with closing(EmbeddedStore(tmp_path / "source")) as source, LoopbackServer(build_gateway(source)) as server:
        chance = random.Random(1)
        halves = [source.add_tree({f"{n}.bin": chance.randbytes(3 * MIB)}) for n in range(2)]
        root = source.add_tree({f"half-{n}": half for n, half in enumerate(halves)})
        with pytest.raises(StoreFull, match=r"no room for 6291886 bytes.*store_bytes"):
            hold(make_config(tmp_path, store_bytes=5 * MIB), root, [server.url])
        with closing(EmbeddedStore(tmp_path / "store")) as store:
            assert root not in store.pins()
            assert claim_missing(store, root) > 6 * MIB
            assert store.used_bytes() < MIB
        config = make_config(tmp_path, store_bytes=8 * MIB)
        assert hold(config, halves[0], [server.url])["complete"] is True
        assert hold(config, root, [server.url])["bytes"] == 6 * MIB
        with closing(EmbeddedStore(tmp_path / "store")) as store:
            assert claim_missing(store, root) == 0
        # Whole, it may be joined again, whatever the store is bounded to meanwhile.
        assert hold(make_config(tmp_path, store_bytes=MIB), root, [])["received_bytes"] == 0


def test_more_than_a_dataset_claims_does_not_come_in(tmp_path: Path) -> None:
    """A directory may say of a file that it is small; the store's bound holds all the same."""
    with closing(EmbeddedStore(tmp_path / "source")) as source, LoopbackServer(build_gateway(source)) as server:
        large = source.add_bytes(random.Random(2).randbytes(6 * MIB))
        root = source.add_tree({"large": Link(large, "", 10)})
        with pytest.raises(ContentUnavailable, match=r"more than|limit|over"):
            hold(make_config(tmp_path, store_bytes=3 * MIB), root, [server.url])
