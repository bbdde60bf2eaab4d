"""Mail of many operators for one host: one request carries what waits, and every letter has its own answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as HttpRoute
from tests.unit.node.simulation import Network0
from tests.unit.node.test_core import run_to_round
from tests.unit.node.test_edge import make_client

from quorate.messages import (
    MAX_LETTERS,
    OPENING_BYTES,
    CommitmentsMessage,
    Letter,
    MailMessage,
    OpeningsMessage,
    VoteOpeningMessage,
)
from quorate.protocol.types import Opening, Vote
from quorate.storage.serve import LoopbackServer
from quorate_node.core.views import ChainView
from quorate_node.http_messaging import HttpMessenger
from quorate_node.messaging import Route, Undelivered

LETTERS = 300


def make_opening(member: int) -> VoteOpeningMessage:
    return VoteOpeningMessage(dispute_id=1, member=member, vote=b"v" * 32, salt=b"s" * 16)


class Host:
    """Refuses every third member, and counts requests by their path."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    async def mail(self, request: Request) -> Response:
        self.requests.append("mail")
        letters = MailMessage.model_validate_json(await request.body()).letters
        return JSONResponse({"refused": [self._judge(each.body) for each in letters]})

    async def single(self, request: Request) -> Response:
        self.requests.append("single")
        reason = self._judge((await request.body()).decode())
        return JSONResponse({"taken": True}, 202) if reason is None else JSONResponse({"error": reason}, 409)

    @staticmethod
    def _judge(body: str) -> dict[str, str] | None:
        member = VoteOpeningMessage.model_validate_json(body).member
        return {"type": "NOT_YET", "message": f"member {member}"} if member % 3 == 0 else None

    @property
    def app(self) -> Starlette:
        routes = [("mail", self.mail), ("vote-openings", self.single)]
        return Starlette(routes=[HttpRoute(f"/quorate/v1/{name}", take, methods=["POST"]) for name, take in routes])


async def send_all(url: str, members: range) -> list[BaseException | None]:
    messenger = HttpMessenger(ChainView(), is_local=True)
    try:
        sent = (messenger.send(Route(url), "vote-openings", make_opening(member)) for member in members)
        return await asyncio.gather(*sent, return_exceptions=True)
    finally:
        await messenger.close()


class TestSending:
    def test_what_waits_for_a_host_goes_together_and_each_learns_its_own_fate(self) -> None:
        host = Host()
        with LoopbackServer(host.app) as server:
            answers = asyncio.run(send_all(server.url, range(LETTERS)))
        for member, answer in enumerate(answers):
            if member % 3:
                assert answer is None
            else:
                assert isinstance(answer, Undelivered)
                assert answer.code == "NOT_YET"
                assert f"member {member}" in str(answer)
        assert len(host.requests) <= 2 + LETTERS // MAX_LETTERS + 1

    def test_a_single_message_goes_as_ever(self) -> None:
        host = Host()
        with LoopbackServer(host.app) as server:
            assert asyncio.run(send_all(server.url, range(1, 2))) == [None]
        assert host.requests == ["single"]

    def test_nobody_waits_for_a_host_that_is_away(self) -> None:
        answers = asyncio.run(send_all("http://127.0.0.1:9", range(LETTERS)))
        assert {getattr(answer, "code", None) for answer in answers} == {"UNREACHABLE"}

    @pytest.mark.parametrize("answer", [{"refused": []}, {"refused": "no"}, {}])
    def test_an_answer_that_makes_no_sense_delivers_nothing(self, answer: dict[str, object]) -> None:
        async def take(request: Request) -> Response:
            return JSONResponse(answer)

        routes = [HttpRoute(f"/quorate/v1/{name}", take, methods=["POST"]) for name in ("mail", "vote-openings")]
        with LoopbackServer(Starlette(routes=routes)) as server:
            answers = asyncio.run(send_all(server.url, range(5)))
        assert all(isinstance(each, Undelivered) for each in answers)


def fail(message: object) -> None:
    raise AssertionError("reading it takes a thousand times longer than sending it does")


class TestTaking:
    async def test_each_letter_is_judged_by_itself(self, tmp_path: Path) -> None:
        openings = OpeningsMessage.from_openings(77, 0, [((0, 0), Opening(Vote(b"v" * 32), b"s" * 16))])
        letters = [
            Letter(kind="openings", body=openings.model_dump_json()),
            Letter(kind="orders", body="{}"),
            Letter(kind="votes", body="{}"),
        ]
        async with make_client(Network0(8), tmp_path, None) as client:
            body = MailMessage(letters=letters).model_dump_json()
            answer = await client.post("/quorate/v1/mail", content=body)
            empty = await client.post("/quorate/v1/mail", content=b'{"letters":[]}')
        assert answer.status_code == httpx.codes.OK
        assert [each["type"] for each in answer.json()["refused"]] == ["NOT_YET", "MALFORMED", "MALFORMED"]
        assert empty.status_code == httpx.codes.UNPROCESSABLE_ENTITY

    async def test_a_page_that_no_batch_needs_is_not_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        net = Network0(8)
        net.submit(net.order())
        run_to_round(net)
        (batch,) = net.nodes[0].core.state.chain.batches.values()
        assert net.run(until=lambda: batch.round is not None and batch.round.domain is not None)
        monkeypatch.setattr(OpeningsMessage, "to_openings", fail)
        monkeypatch.setattr(CommitmentsMessage, "to_list", fail)
        bodies = [
            OpeningsMessage(batch_id=batch.id, round=0, page=bytes(4 * OPENING_BYTES)),
            CommitmentsMessage(batch_id=batch.id, round=0, page=bytes(69 + 4 * 35)),
        ]
        letters = [
            Letter(kind=kind, body=body.model_dump_json())
            for kind, body in zip(("openings", "commitments"), bodies, strict=True)
        ]
        async with make_client(net, tmp_path, None) as client:
            answer = await client.post("/quorate/v1/mail", content=MailMessage(letters=letters).model_dump_json())
        assert [each["type"] for each in answer.json()["refused"]] == ["SIZE", "SIZE"]

    async def test_what_is_good_is_taken(self, tmp_path: Path) -> None:
        net = Network0(8)
        net.submit(net.order())
        batches = net.nodes[0].core.state.chain.batches
        assert net.run(until=lambda: any(batch.round and batch.round.committed for batch in batches.values()))
        batch = next(iter(batches.values()))
        assert batch.round is not None
        batch.round.openings.clear()
        groups = [g for node in net.nodes for each in node.core.state.own.groups.values() for g in each]
        secret = next(s for g in groups for s in g.secrets if (s.bundle, s.seat) in batch.round.committed)
        opening, seat = Opening(secret.vote, secret.salt), (secret.bundle, secret.seat)
        good = OpeningsMessage.from_openings(batch.id, 0, [(seat, opening)]).model_dump_json()
        bad = OpeningsMessage.from_openings(batch.id, 0, [(seat, Opening(secret.vote, bytes(16)))]).model_dump_json()
        letters = [Letter(kind="openings", body=body) for body in (bad, good)]
        async with make_client(net, tmp_path, None) as client:
            answer = await client.post("/quorate/v1/mail", content=MailMessage(letters=letters).model_dump_json())
        assert [each and each["type"] for each in answer.json()["refused"]] == ["OPENING", None]
        assert batch.round.openings[seat] == opening
