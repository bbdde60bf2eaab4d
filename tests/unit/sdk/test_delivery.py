"""Orders to collators and results from seats, over real HTTP, with those among them that lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from quorate.chain.account import SigningAccount
from quorate.delivery import CollatorAway, OrderRefused, Pushed, push_content, send_order
from quorate.devnet.ports import pick_ports
from quorate.layout import write_result
from quorate.messages import OrderMessage
from quorate.protocol.encoding import compute_domain_separator, compute_job_id
from quorate.protocol.errors import ConfigurationError, ContentUnavailable, DataError
from quorate.protocol.result import TaskResult, TaskStatus, compute_merkle_root
from quorate.protocol.spec import JobSpec
from quorate.protocol.types import Address, JobOrder, SignedOrder, Vote
from quorate.results import Refusals, fetch_leaves, fetch_output, fetch_task_result
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import build_gateway
from quorate.storage.serve import LoopbackServer

SEPARATOR = compute_domain_separator(31337, Address(bytes(20)))
KEY = SigningAccount.from_key(bytes(range(1, 33)))
ORDER = JobOrder(KEY.address, 0, 1, bytes(32), 1, 10**9, 100, 3, 2, 60, 0, 10**12, 0, 2**32)
JOB_ID = compute_job_id(SEPARATOR, ORDER)
SIGNED = SignedOrder(ORDER, KEY.sign(JOB_ID))


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def serve(running: ExitStack, *routes: Route) -> str:
    return running.enter_context(LoopbackServer(Starlette(routes=list(routes)))).url


def collator(status: int, body: dict[str, object], seen: list[OrderMessage]) -> Route:
    async def take(request: Request) -> Response:
        seen.append(OrderMessage.model_validate_json(await request.body()))
        return JSONResponse(body, status)

    return Route("/quorate/v1/orders", take, methods=["POST"])


def test_an_order_arrives_whole(running: ExitStack) -> None:
    seen: list[OrderMessage] = []
    url = serve(running, collator(202, {"job_id": f"0x{JOB_ID.hex()}"}, seen))
    assert send_order(SIGNED, JOB_ID, [url], ["http://127.0.0.1:1"]) == url
    assert (seen[0].to_signed(), seen[0].providers) == (SIGNED, ["http://127.0.0.1:1"])


def test_the_next_collator_is_asked_when_one_is_away_or_broken(running: ExitStack) -> None:
    seen: list[OrderMessage] = []
    away = f"http://127.0.0.1:{pick_ports(1)[0]}"
    broken = serve(running, collator(500, {}, []))
    good = serve(running, collator(202, {"job_id": f"0x{JOB_ID.hex()}"}, seen))
    assert send_order(SIGNED, JOB_ID, [away, broken, good], []) == good
    with pytest.raises(CollatorAway, match=r"no collator took the order .*ConnectError.*HTTP 500"):
        send_order(SIGNED, JOB_ID, [away, broken], [])


def test_a_refusal_is_told_in_the_collators_words(running: ExitStack) -> None:
    error = {"error": {"type": "EXPIRED", "message": "valid_until has passed"}}
    url = serve(running, collator(400, error, []))
    with pytest.raises(OrderRefused, match="refused the order: valid_until has passed"):
        send_order(SIGNED, JOB_ID, [url], [])


def test_a_collator_of_another_deployment_is_noticed(running: ExitStack) -> None:
    url = serve(running, collator(202, {"job_id": "0x00"}, []))
    with pytest.raises(OrderRefused, match="another deployment"):
        send_order(SIGNED, JOB_ID, [url], [])
    with pytest.raises(ConfigurationError, match="QUORATE_COLLATORS"):
        send_order(SIGNED, JOB_ID, [], [])


def test_content_is_pushed_as_a_car(running: ExitStack, tmp_path: Path) -> None:
    ours, theirs = EmbeddedStore(tmp_path / "ours"), EmbeddedStore(tmp_path / "theirs")
    root = ours.add_bytes(bytes(3_000_000))

    async def take(request: Request) -> Response:
        theirs.import_car([await request.body()], Cid.parse(request.query_params["root"]))
        return Response(status_code=204)

    async def refuse(request: Request) -> Response:
        return JSONResponse({"error": {"type": "Full", "message": "no room"}}, 507)

    push_content(ours, [root], serve(running, Route("/quorate/v1/import", take, methods=["POST"])))
    assert theirs.is_complete(root)
    with pytest.raises(OrderRefused, match="no room"):
        push_content(ours, [root], serve(running, Route("/quorate/v1/import", refuse, methods=["POST"])))


def test_what_a_collator_took_of_late_is_not_pushed_again(running: ExitStack, tmp_path: Path) -> None:
    ours, taken, status, now = EmbeddedStore(tmp_path / "ours"), list[str](), [204], [0.0]
    roots = [ours.add_bytes(b"%d" % i) for i in range(3)]
    spec, module, other = map(str, roots)

    async def take(request: Request) -> Response:
        taken.append(request.query_params["root"])
        return Response(status_code=status[0]) if status[0] == 204 else JSONResponse({}, status[0])

    url, away = (
        serve(running, Route("/quorate/v1/import", take, methods=["POST"])),
        f"http://127.0.0.1:{pick_ports(1)[0]}",
    )
    pushed = Pushed(lambda: now[0])

    def push(*wanted: Cid, to: str = url) -> list[str]:
        taken.clear()
        push_content(ours, wanted, to, pushed)
        return taken

    assert push(*roots[:2]) == [spec, module]
    assert push(*roots[:2]) == [spec], "the first tells whether anybody is there"
    assert push(*roots) == [spec, other]
    now[0] = 299.0
    assert push(roots[1], roots[2]) == [module]
    now[0] = 301.0
    assert push(*roots) == [spec, other], "after five minutes, but for what went there since"
    with pytest.raises(CollatorAway):
        push(*roots, to=away)
    assert push(*roots) == [spec], "another's absence says nothing of this one"
    pushed.forget(url)
    status[0] = 507
    with pytest.raises(OrderRefused):
        push(*roots)
    status[0] = 204
    assert push(*roots) == [spec, module, other], "what was refused is not there"


def test_who_did_not_answer_is_given_everything_again(running: ExitStack, tmp_path: Path) -> None:
    ours, port, taken = EmbeddedStore(tmp_path / "ours"), pick_ports(1)[0], list[str]()
    roots, pushed = [ours.add_bytes(b"%d" % i) for i in range(2)], Pushed()
    url = f"http://127.0.0.1:{port}"
    for root in roots:
        pushed.note(url, root)
    with pytest.raises(CollatorAway):
        push_content(ours, roots, url, pushed)

    async def take(request: Request) -> Response:
        taken.append(request.query_params["root"])
        return Response(status_code=204)

    app = Starlette(routes=[Route("/quorate/v1/import", take, methods=["POST"])])
    running.enter_context(LoopbackServer(app, port=port))
    push_content(ours, roots, url, pushed)
    assert taken == [str(root) for root in roots]


# results ------------------------------------------------------------------------------------------------------------


class Seat:
    """A seat's store with one result, served as a node serves it; `leaves` may be lies."""

    def __init__(self, folder: Path) -> None:
        self.store = EmbeddedStore(folder)
        self.spec = JobSpec(module=str(Cid.of(b"module")))
        outputs = self.store.add_tree({"mask.bin": bytes(100_000)})
        stdout = self.store.put_raw(b"done\n")
        self.result = TaskResult(self.spec.cid, 0, TaskStatus.OK, 0, str(stdout), str(outputs))
        self.store.put_raw(self.result.to_bytes())
        self.vote = Vote(compute_merkle_root([self.result.leaf]))

    def routes(self, leaves: object) -> list[Route]:
        async def answer(_: Request) -> Response:
            return JSONResponse(leaves, 200 if leaves else 404)

        return [Route("/quorate/v1/leaves/{root}", answer), *build_gateway(self.store).routes]


def test_a_result_is_fetched_from_the_honest_and_liars_are_named(running: ExitStack, tmp_path: Path) -> None:
    seat = Seat(tmp_path / "seat")
    honest = serve(running, *seat.routes({"leaves": [seat.result.leaf.hex()]}))
    liar = serve(running, *seat.routes({"leaves": [bytes(32).hex()]}))
    silly = serve(running, *seat.routes({"leaves": "x"}))
    away = f"http://127.0.0.1:{pick_ports(1)[0]}"
    refused: Refusals = []
    assert fetch_leaves(seat.vote, [liar, silly, away, honest], refused) == [seat.result.leaf]
    assert [url for url, _ in refused] == [liar, silly, away]

    async def rubbish(_: Request) -> Response:
        return Response(b"rubbish", media_type="application/vnd.ipld.raw")

    forger = serve(running, Route("/ipfs/{cid}", rubbish))
    ours = EmbeddedStore(tmp_path / "ours")
    result, received = fetch_task_result(ours, seat.result.leaf, seat.spec.cid, 0, [forger, honest], refused)
    assert result == seat.result
    assert received == len(seat.result.to_bytes()), "the output is fetched only by who wants it"
    assert fetch_output(ours, result, [forger, honest], refused) > 100_000
    assert forger in [url for url, _ in refused]
    write_result(ours, result, tmp_path / "out")
    assert (tmp_path / "out" / "outputs" / "mask.bin").read_bytes() == bytes(100_000)
    assert (tmp_path / "out" / "stdout").read_bytes() == b"done\n"
    with pytest.raises(DataError, match="exists"):
        write_result(ours, result, tmp_path / "out")


def test_when_all_lie_the_liar_is_named(running: ExitStack, tmp_path: Path) -> None:
    seat = Seat(tmp_path / "seat")
    liar = serve(running, *seat.routes({"leaves": [bytes(32).hex()]}))
    with pytest.raises(DataError, match=liar):
        fetch_leaves(seat.vote, [liar], [])
    empty = serve(running, *seat.routes(None))
    with pytest.raises(ContentUnavailable, match=empty):
        fetch_leaves(seat.vote, [empty], [])
    with pytest.raises(ContentUnavailable, match="no seat has announced"):
        fetch_leaves(seat.vote, [], [])


def test_a_result_of_another_job_is_refused(running: ExitStack, tmp_path: Path) -> None:
    seat = Seat(tmp_path / "seat")
    honest = serve(running, *seat.routes({"leaves": [seat.result.leaf.hex()]}))
    ours = EmbeddedStore(tmp_path / "ours")
    with pytest.raises(DataError, match="not of this job"):
        fetch_task_result(ours, seat.result.leaf, str(Cid.of(b"other")), 0, [honest], [])
