"""Jobs that name Filecoin data by its root and by its piece, and what a node does that may not pay for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.adversarial.buying import CAP, PRICE, Client, create_ledger, make_bytes
from tests.adversarial.selling import Seller
from tests.integration.test_kubo_jobs import COPY
from tests.unit.node.simulation import Network0

from quorate.filecoin.spending import Scope, ScopeKind
from quorate.protocol.encoding import compute_job_id
from quorate.protocol.profiles import Description
from quorate.protocol.result import TaskResult, TaskStatus
from quorate.protocol.spec import WASM_PROFILE, JobSpec, Limits, Partition
from quorate.protocol.types import AbstainReason
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import build_gateway
from quorate.storage.serve import LoopbackServer
from quorate_node.core.instructions import Execute
from quorate_node.core.stimuli import BundleExecuted, BundleFailed
from quorate_node.core.views import ChainView
from quorate_node.execution import ExecutionService
from quorate_node.executor.pool import WorkerPool
from quorate_node.filecoin.reading import FilecoinSource
from quorate_node.http_messaging import HttpMessenger

DATA = make_bytes(50_000, 21)
LIMITS = Limits(fuel=10**8)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    create_ledger(tmp_path)
    with Client(tmp_path) as made:
        yield made


class Node:
    """An execution service with the client's purse, and the jobs that it is given."""

    def __init__(self, store: EmbeddedStore, service: ExecutionService) -> None:
        self.store, self.service = store, service
        self.program = str(store.add_bytes(COPY).to_v1())
        self.count = 0

    async def run(self, source: str, partition: Partition | None = None, grant: int = 100_000) -> object:
        """One job over an input."""
        self.count += 1
        env = {"JOB": str(self.count)}
        spec = JobSpec(self.program, source, "f", env=env, limits=LIMITS, partition=partition or Partition())
        self.store.put_raw(spec.to_bytes())
        made = Network0().order().order
        order = replace(made, spec_hash=spec.digest, input_bytes=grant, fuel_limit=spec.limits.fuel)
        profile = Description(WASM_PROFILE).digest
        job_id = compute_job_id(bytes(32), order)
        return await self.service.run(Execute((1, 0), job_id, order, 0, (), (), 20, profile))

    def read(self, outcome: object) -> bytes:
        """What the program copied of its input's file f."""
        assert isinstance(outcome, BundleExecuted), outcome
        result = TaskResult.from_bytes(self.store.get(Cid.from_digest(outcome.leaves[0])))
        assert result.status is TaskStatus.OK
        outputs = Cid.parse(result.outputs_cid)
        return self.store.read(self.store.resolve(outputs, "f"))


@asynccontextmanager
async def node_of(client: Client, folder: Path) -> AsyncIterator[Node]:
    messenger = HttpMessenger(ChainView(), is_local=True)
    with closing(EmbeddedStore(folder / "store")) as store:
        async with WorkerPool(1, folder / "store", folder / "cache") as pool:
            source = FilecoinSource(folder, lambda: client.reader)
            service = ExecutionService(
                store, pool, messenger, "http://127.0.0.1:1", is_local=True, hints=lambda _: [], filecoin=source
            )
            try:
                yield Node(store, service)
            finally:
                service.fetchers.shutdown()
                await messenger.close()


def sell(client: Client, seller: Seller, folder: Path, price: int = PRICE) -> tuple[str, str, int]:
    """A directory with the file f for sale: its root, the piece of its CAR, and what either costs."""
    client.ask(seller)
    with closing(EmbeddedStore(folder / "donor")) as donor:
        root = donor.add_tree({"f": DATA})
        car = b"".join(donor.export_car(root))
    piece = seller.add_car(str(root.to_v1()), car, price)
    return str(root.to_v1()), str(piece.v2), len(car) if price else 0


@pytest.mark.parametrize("by", ["root", "piece", "files"])
async def test_a_job_names_paid_data(client: Client, tmp_path: Path, by: str) -> None:
    with Seller() as seller:
        root, piece, cost = sell(client, seller, tmp_path)
        async with node_of(client, tmp_path) as node:
            source, partition = piece if by == "piece" else root, Partition("*") if by == "files" else None
            first = await node.run(source, partition)
            assert node.read(first) == DATA
            assert client.charged == seller.redeemable == cost
            again = await node.run(source, partition)
            assert node.read(again) == DATA
            assert client.charged == cost, "what is here is not bought again"
        [receipt] = client.ledger.list_receipts()
        assert receipt.entry.purpose.dataset == (piece if by == "piece" else root)
        assert len(receipt.entry.purpose.job) == 64, "the job's id"


async def test_files_whose_list_a_peer_has_are_bought_as_the_dataset(client: Client, tmp_path: Path) -> None:
    with (
        Seller() as seller,
        closing(EmbeddedStore(tmp_path / "peer")) as peer,
        closing(EmbeddedStore(tmp_path / "donor")) as donor,
    ):
        client.ask(seller)
        root = donor.add_tree({"f": DATA, "g/f": b"another"})
        car = b"".join(donor.export_car(root))
        seller.add_car(str(root.to_v1()), car, PRICE)
        for cid in (root, donor.resolve(root, "g")):
            peer.put(cid, donor.get(cid))
        async with node_of(client, tmp_path) as node:
            with LoopbackServer(build_gateway(peer)) as server:
                node.service.hints = lambda _: [server.url]
                assert node.read(await node.run(str(root.to_v1()), Partition("f"))) == DATA
        assert client.charged == seller.redeemable == len(car)


async def test_a_piece_that_is_no_car_is_a_file(client: Client, tmp_path: Path) -> None:
    with Seller() as seller:
        client.ask(seller)
        piece = seller.add_piece(DATA, PRICE)
        async with node_of(client, tmp_path) as node:
            assert node.read(await node.run(str(piece.v2))) == DATA
        async with node_of(client, tmp_path) as node:  # as after a restart
            assert node.read(await node.run(str(piece.v2))) == DATA
        assert seller.redeemable == len(DATA)


async def test_free_data_costs_nothing(client: Client, tmp_path: Path) -> None:
    with Seller() as seller:
        root, piece, _ = sell(client, seller, tmp_path, price=0)
        async with node_of(client, tmp_path) as node:
            assert node.read(await node.run(root)) == DATA
            assert node.read(await node.run(piece)) == DATA
        assert (client.purses, client.signer.signed) == (0, 0)


@pytest.mark.parametrize("by", ["root", "piece"])
async def test_above_the_limit_the_seat_abstains_and_nothing_is_signed(client: Client, tmp_path: Path, by: str) -> None:
    with Seller() as seller:
        root, piece, cost = sell(client, seller, tmp_path)
        client.ledger.set_cap(Scope(ScopeKind.JOB), cost - 1)
        async with node_of(client, tmp_path) as node:
            outcome = await node.run(root if by == "root" else piece)
            assert isinstance(outcome, BundleFailed)
            assert (outcome.abstention, outcome.retry) == (AbstainReason.POLICY, False)
            for part in ("not paid for", "limit for job", f"cap {cost - 1}", "used 0", f"requested {cost}"):
                assert part in outcome.reason
            assert (client.signer.signed, client.charged, seller.redeemable) == (0, 0, 0)
            client.ledger.set_cap(Scope(ScopeKind.JOB), cost)
            assert node.read(await node.run(root if by == "root" else piece)) == DATA
        assert client.charged == seller.redeemable == cost < CAP


async def test_a_node_with_a_lost_ledger_abstains_and_goes_on(client: Client, tmp_path: Path) -> None:
    with Seller() as seller:
        root, _, _ = sell(client, seller, tmp_path)
        client.ledger.close()
        client._ledger = None
        (tmp_path / "ledger.db").unlink()
        async with node_of(client, tmp_path) as node:
            outcome = await node.run(root)
            assert isinstance(outcome, BundleFailed)
            assert outcome.abstention is AbstainReason.RESOURCES
            assert "is lost" in outcome.reason
        assert seller.redeemable == 0


async def test_a_piece_larger_than_the_order_says_is_not_bought(client: Client, tmp_path: Path) -> None:
    with Seller() as seller:
        client.ask(seller)
        piece = seller.add_piece(make_bytes(2_000_000, 22), PRICE)
        async with node_of(client, tmp_path) as node:
            outcome = await node.run(str(piece.v2), grant=1000)
        assert isinstance(outcome, BundleFailed)
        assert "over the limit" in outcome.reason
        assert seller.redeemable == 0
