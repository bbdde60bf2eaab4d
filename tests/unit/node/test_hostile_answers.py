"""A node that answers with a bomb: a kilobyte that unpacks to a gigabyte, or a body without end."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from quorate.answers import MAX_ANSWER_BYTES
from quorate.delivery import CollatorAway, ask_logs
from quorate.protocol.errors import ContentUnavailable
from quorate.protocol.types import JobId, Vote
from quorate.results import fetch_leaves
from quorate.storage.serve import LoopbackServer
from quorate_node.core.views import ChainView
from quorate_node.http_messaging import HttpMessenger

PLENTY = 16 << 20
ROOT = Vote(bytes(32))


def bomb() -> Response:
    """Some kilobytes, packed twice: whoever unpacks as much as comes in has it all in memory at once."""
    body = gzip.compress(gzip.compress(bytes(2 * PLENTY)))
    assert len(body) < 4096
    return Response(body, headers={"Content-Encoding": "gzip, gzip"}, media_type="application/json")


def endless() -> Response:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(2 * PLENTY >> 16):
            yield bytes(1 << 16)

    return StreamingResponse(body(), media_type="application/json")


def serve(answer: Callable[[], Response]) -> LoopbackServer:
    ready = answer()

    async def give(request: Request) -> Response:
        return ready

    return LoopbackServer(Starlette(routes=[Route("/{path:path}", give, methods=["GET", "POST"])]))


def ask_as_node(url: str) -> None:
    async def ask() -> list[bytes]:
        messenger = HttpMessenger(ChainView(), is_local=True)
        try:
            return await messenger.ask_leaves(url, ROOT)
        finally:
            await messenger.close()

    assert asyncio.run(ask()) == []


def ask_as_requester(url: str) -> None:
    with pytest.raises(ContentUnavailable):
        fetch_leaves(ROOT, [url], [])
    with pytest.raises(CollatorAway):
        ask_logs(JobId(bytes(32)), [url])


@pytest.mark.parametrize("ask", [ask_as_node, ask_as_requester])
@pytest.mark.parametrize("answer", [bomb, endless])
def test_an_answer_takes_no_more_than_one_may(answer: Callable[[], Response], ask: Callable[[str], None]) -> None:
    assert MAX_ANSWER_BYTES < PLENTY
    with serve(answer) as server:
        tracemalloc.start()
        try:
            ask(server.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < PLENTY
