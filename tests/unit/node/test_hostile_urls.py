"""A URL that no resolver takes is one more stranger's lie: who meets it goes on to the next provider."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.unit.node.simulation import Network0
from tests.unit.node.test_edge import altered, make_client, make_collator

from quorate.chain.gateway import ChainGateway
from quorate.delivery import send_hints
from quorate.messages import MAX_PROVIDERS, OrderMessage
from quorate.protocol.encoding import compute_job_id
from quorate.protocol.errors import ContentUnavailable, DataError
from quorate.protocol.profiles import Description
from quorate.protocol.spec import WASM_PROFILE
from quorate.protocol.types import AbstainReason, Address, JobId, Vote
from quorate.results import fetch_leaves
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.fetch import fetch_dag
from quorate.storage.serve import LoopbackServer
from quorate_node.core.instructions import Execute
from quorate_node.core.stimuli import BundleExecuted, BundleFailed
from quorate_node.core.views import ChainView, OperatorView
from quorate_node.execution import ExecutionService
from quorate_node.executor.dispatcher import Dispatcher
from quorate_node.http_messaging import HttpMessenger
from quorate_node.journal import Journal
from quorate_node.mailbox import Mailbox
from quorate_node.metrics import Metrics
from quorate_node.performer import LeafShelf, Performer, Tools
from quorate_node.providers import check_url

NOBODY = Address(bytes(20))
NO_EXECUTOR = Dispatcher({})
PROFILE = Description(WASM_PROFILE).digest
EMPTY_LABEL, LONG_LABEL = "http://a..b", f"http://{'a' * 64}.example"
HOSTILE = (EMPTY_LABEL, LONG_LABEL, "http://xn--\x80")


@pytest.mark.parametrize("url", HOSTILE)
def test_it_is_refused_with_an_error_of_ours(url: str) -> None:
    with pytest.raises(DataError):
        check_url(url, is_local=False)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::ffff:10.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::a00:1]", "[64:ff9b:1::808:808]",
     "[2002:7f00:1::]", "[2002:c0a8:101::1]", "[::127.0.0.1]", "[fec0::1]", "[ff0e::1]", "[::]", "[::1]"],
)  # fmt: skip
def test_no_way_into_a_private_network_is_asked(host: str) -> None:
    """Gateways and tunnels carry some addresses of IPv6 to those of IPv4 that stand in them."""
    with pytest.raises(DataError, match="not a public address"):
        check_url(f"http://{host}/", is_local=False)


@pytest.mark.parametrize("host", ["8.8.8.8", "[64:ff9b::808:808]", "[2002:808:808::]", "[2606:4700::1111]"])
def test_public_addresses_are_asked_however_they_are_reached(host: str) -> None:
    assert check_url(f"http://{host}/", is_local=False) == f"http://{host}"


async def execute(
    folder: Path, hints: Callable[[bytes], list[str]], operators: tuple[int, ...]
) -> BundleExecuted | BundleFailed:
    """A bundle whose content is nowhere; operator 7 has announced what no resolver takes."""
    net = Network0()
    view = ChainView(operators={7: OperatorView(NOBODY, NOBODY, EMPTY_LABEL)})
    messenger = HttpMessenger(view, is_local=True)
    order = net.order().order
    job_id = compute_job_id(net.world.market.separator, order)
    with closing(EmbeddedStore(folder)) as store:
        service = ExecutionService(store, NO_EXECUTOR, messenger, "http://127.0.0.1:1", is_local=True, hints=hints)
        try:
            return await service.run(Execute((1, 0), job_id, order, 0, (), operators, 5, PROFILE))
        finally:
            service.fetchers.shutdown()
            await messenger.close()


def test_a_requesters_hint_does_not_end_the_execution_of_all_seats(tmp_path: Path) -> None:
    outcome = asyncio.run(execute(tmp_path, lambda _: [EMPTY_LABEL], ()))
    assert isinstance(outcome, BundleFailed)
    assert outcome.abstention is AbstainReason.NO_DATA


def test_a_liars_endpoint_does_not_end_the_look_of_the_class(tmp_path: Path) -> None:
    """Seats are asked for the content of a dispute: a lie's author must not be the one who stops the vote."""
    outcome = asyncio.run(execute(tmp_path, lambda _: [], (7,)))
    assert isinstance(outcome, BundleFailed)
    assert outcome.abstention is AbstainReason.NO_DATA


def test_a_collator_names_few_providers(tmp_path: Path) -> None:
    """Each that does not answer costs seconds: thousands, before the seats that have the content, outlast any vote."""
    collator, seat = Address(b"c" * 20), Address(b"s" * 20)

    async def hints(_: Request) -> JSONResponse:
        return JSONResponse({"providers": [f"http://127.0.0.{1 + i % 200}:{1 + i}" for i in range(3000)]})

    async def find(url: str) -> list[str]:
        operators = {1: OperatorView(collator, collator, url), 2: OperatorView(seat, seat, "http://127.0.0.1:2")}
        messenger = HttpMessenger(ChainView(operators=operators, operator_by_address={collator: 1}), is_local=True)
        order = Network0().order().order
        with closing(EmbeddedStore(tmp_path)) as store:
            service = ExecutionService(
                store, NO_EXECUTOR, messenger, "http://127.0.0.1:1", is_local=True, hints=lambda _: []
            )
            try:
                return await service._find_providers(
                    Execute((1, 0), JobId(bytes(32)), order, 0, (collator,), (2,), 5, PROFILE)
                )
            finally:
                service.fetchers.shutdown()
                await messenger.close()

    with LoopbackServer(Starlette(routes=[Route("/quorate/v1/hints/{job_id}", hints)])) as server:
        found = asyncio.run(find(server.url))
    assert "http://127.0.0.1:2" in found[: MAX_PROVIDERS + 2]


@pytest.mark.parametrize("url", HOSTILE)
def test_a_requester_goes_on_to_the_next_seat(url: str, tmp_path: Path) -> None:
    with pytest.raises(ContentUnavailable):
        fetch_leaves(Vote(bytes(32)), [url], [])
    with closing(EmbeddedStore(tmp_path)) as store, pytest.raises(ContentUnavailable):
        fetch_dag(store, Cid.from_digest(bytes(32)), [url])
    send_hints(Network0().order(), [url], [])


async def test_nobody_else_replaces_what_a_requester_said_of_its_input(tmp_path: Path) -> None:
    """Order and signature are on the chain for all to copy: they do not show that the sender is the requester."""
    net = Network0(8)
    collator, _ = make_collator(net, tmp_path)
    signed = altered(net, valid_until=2_000_000_000)
    async with make_client(net, tmp_path, collator) as client:
        good = OrderMessage.from_signed(signed, ["http://127.0.0.1:1"]).model_dump_json()
        job_id = (await client.post("/quorate/v1/orders", content=good)).json()["job_id"]
        copied = OrderMessage.from_signed(signed, ["http://127.0.0.1:666"]).model_dump_json()
        await client.post("/quorate/v1/hints", content=copied)
        hints = (await client.get(f"/quorate/v1/hints/{job_id}")).json()["providers"]
        assert hints[:1] == ["http://127.0.0.1:1"]


def test_whatever_breaks_an_execution_the_core_hears_of_it(tmp_path: Path) -> None:
    net = Network0()
    node, heard = net.nodes[0], list[object]()
    order = net.order().order
    instruction = Execute((1, 0), JobId(bytes(32)), order, 0, (), (), 5, PROFILE)

    def trip(_: bytes) -> list[str]:
        raise RuntimeError("nobody thought of this")

    async def perform() -> None:
        messenger = HttpMessenger(ChainView(), is_local=True)
        with closing(EmbeddedStore(tmp_path)) as store:
            service = ExecutionService(store, NO_EXECUTOR, messenger, "http://127.0.0.1:1", is_local=True, hints=trip)
            mailbox = Mailbox(lambda: node.core.state, heard.append)
            tools = Tools(
                cast(ChainGateway, None), messenger, mailbox, service, Metrics(), LeafShelf(), "", lambda *_: None
            )
            performer = Performer(node.core, node.key, Journal(tmp_path / "journal"), tools, heard.append)
            await performer.perform(instruction)
            await messenger.close()

    asyncio.run(perform())
    (outcome,) = heard
    assert isinstance(outcome, BundleFailed)
    assert outcome.retry
