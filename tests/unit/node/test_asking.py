"""What `quorate-node status --of` makes of whatever answers at the node's address."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from quorate.protocol.errors import RecoverableError
from quorate.storage.serve import LoopbackServer
from quorate_node.cli.asking import ask_node, ask_operator


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"[]", 200, "no node answers"),
        (b"no JSON", 200, "no node answers"),
        (b'{"error": {"type": "UNREACHABLE", "message": "nobody knows where"}}', 503, "nobody knows where"),
        (b'{"error": "odd"}', 500, "HTTP 500"),
        (b"{}", 404, "HTTP 404"),
    ],
)
def test_what_no_node_answers_is_told_in_a_line(tmp_path: Path, body: bytes, status: int, why: str) -> None:
    async def answer(request: Request) -> Response:
        return Response(body, status)

    with LoopbackServer(Starlette(routes=[Route("/{path:path}", answer)])) as server:
        listen = f"127.0.0.1:{server.port}"
        settings = {"rpc_url": "http://127.0.0.1:1", "deployment": "d.json", "keystore": "k.json", "listen": listen}
        (tmp_path / "config.json").write_text(json.dumps(settings))
        with pytest.raises(RecoverableError, match=why):
            ask_operator(tmp_path, 7)
        assert ask_node(listen) is None
    with pytest.raises(RecoverableError, match="no node answers"):
        ask_operator(tmp_path, 7)
