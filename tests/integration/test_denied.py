"""What an operator denies leaves a gateway by no way, and a small DAG does not become an endless CAR."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from quorate.storage import car, dagpb, gateway
from quorate.storage.base import BlobStore
from quorate.storage.cid import DAG_PB, Cid
from quorate.storage.dagpb import Link
from quorate.storage.denylist import DenyList
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import build_gateway, gateway_routes
from quorate.storage.rpc import rpc_routes
from quorate.storage.serve import LoopbackServer

SECRET, OTHER = b"denied" * 1000, b"allowed" * 1000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with closing(EmbeddedStore(tmp_path / "store")) as made:
        yield made


def read_until_it_breaks(client: httpx.Client, method: str, url: str) -> tuple[bytes, bool]:
    """What came, and whether it was cut off."""
    came = b""
    with client.stream(method, url) as answer:
        try:
            for piece in answer.iter_raw():
                came += piece
        except httpx.RemoteProtocolError:
            return came, True
    return came, answer.status_code != 200


def test_what_is_denied_is_in_no_car_and_no_answer_of_the_rpc(store: EmbeddedStore, tmp_path: Path) -> None:
    root = store.add_tree({"a/other": OTHER, "z/secret": SECRET})
    folder, secret = store.resolve(root, "z"), store.resolve(root, "z/secret")
    listed = tmp_path / "deny.txt"
    listed.write_text("# nothing yet\n")
    denied = DenyList(listed)
    app = Starlette(routes=[*gateway_routes(store, denied), *rpc_routes(store, denied, may_write=True)])
    reads = [("GET", f"/ipfs/{where}?format=car{more}") for where in (root, folder) for more in ("", "&car-dups=y")]
    calls = [f"cat?arg={secret}", f"cat?arg={root}/z/secret", f"block/get?arg={secret}", f"dag/export?arg={secret}"]
    calls += [f"dag/export?arg={root}", f"get?arg={secret}", f"get?arg={root}", f"dag/get?arg={secret}"]
    reads += [("POST", f"/api/v0/{call}") for call in calls]
    with LoopbackServer(app) as running, httpx.Client(base_url=running.url, trust_env=False) as client:
        for method, url in reads[:-1]:
            came, is_cut = read_until_it_breaks(client, method, url)
            assert (SECRET in came, is_cut) == (True, False), url
        listed.write_text(f"{secret}  # since today\n")
        for method, url in reads:
            came, is_cut = read_until_it_breaks(client, method, url)
            assert (SECRET[:100] in came, is_cut) == (False, True), url
        refused = client.post(f"/api/v0/cat?arg={secret}")
        assert (refused.status_code, "does not serve" in refused.json()["Message"]) == (500, True)
        assert client.post(f"/api/v0/cat?arg={root}/a/other").content == OTHER
        assert OTHER in client.get(f"/ipfs/{root}/a?format=car").content
        assert client.post(f"/api/v0/pin/add?arg={root}").status_code == 200, "an operator keeps what it does not serve"
        listed.write_text(f"{folder}\n")
        assert client.get(f"/ipfs/{root}/z/secret?format=raw").status_code == 410
        assert client.post(f"/api/v0/get?arg={folder}").status_code == 500


def make_doubling(store: BlobStore, depth: int) -> Cid:
    """A DAG of `depth` nodes, each of which names the one below twice."""
    below = store.put_raw(b"x" * 1000)
    for _ in range(depth):
        block = dagpb.encode([Link(below, "", 1), Link(below, "", 1)], b"\x08\x01")
        below = Cid.of(block, DAG_PB)
        store.put(below, block)
    return below


def test_a_car_with_duplicates_has_an_end(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "MAX_REPEATED_BYTES", 100_000)
    few, many = make_doubling(store, 5), make_doubling(store, 40)
    with LoopbackServer(build_gateway(store)) as running, httpx.Client(base_url=running.url, trust_env=False) as client:
        came, is_cut = read_until_it_breaks(client, "GET", f"/ipfs/{few}?format=car&car-dups=y")
        assert (came.count(b"x" * 1000), is_cut) == (2**5, False)
        came, is_cut = read_until_it_breaks(client, "GET", f"/ipfs/{many}?format=car&car-dups=y")
        assert is_cut
        assert len(came) < 100_000 + 10_000
        verifier = car.CarVerifier(many)
        verifier.push(client.get(f"/ipfs/{many}?format=car").content)
        verifier.finish()
