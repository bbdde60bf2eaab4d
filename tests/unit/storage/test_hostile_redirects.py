"""Where a provider redirects to is a stranger's text: one that is no URL drops the provider, and nothing else."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from quorate.protocol.errors import ContentUnavailable
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.fetch import fetch_dag
from quorate.storage.serve import LoopbackServer


@pytest.mark.parametrize("location", ["http://[", "http://a]b/", "//]", "http://a..b/", "http://a:99999/", "", "\x7f"])
def test_a_location_that_is_no_url_drops_its_provider(location: str, tmp_path: Path) -> None:
    async def redirect(_: Request) -> Response:
        return Response(status_code=302, headers={"location": location})

    app = Starlette(routes=[Route("/ipfs/{cid}", redirect)])
    refused = pytest.raises(ContentUnavailable)
    with LoopbackServer(app) as server, closing(EmbeddedStore(tmp_path)) as store, refused:
        fetch_dag(store, Cid.from_digest(bytes(32)), [server.url])
