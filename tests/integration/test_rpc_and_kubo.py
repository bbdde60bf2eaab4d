"""The same requests to a Kubo daemon and to ours: the same CIDs, the same lines, the same CARs."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from tests.kubo import Kubo

from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import gateway_routes
from quorate.storage.rpc import rpc_routes
from quorate.storage.serve import LoopbackServer

FILES = {
    "a.bin": random.Random(5).randbytes(1_500_000),
    "dir/b.txt": b"hello\n",
    "dir/c.txt": b"hello\n",
    "dir/none": b"",
}


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[str]:
    store = EmbeddedStore(tmp_path / "store")
    with LoopbackServer(Starlette(routes=[*gateway_routes(store), *rpc_routes(store, may_write=True)])) as running:
        yield running.url
    store.close()


def add(client: httpx.Client, options: str) -> list[dict[str, Any]]:
    parts = [("file", ("tree", "", "application/x-directory"))]
    parts += [("file", (f"tree/{name}".replace("/", "%2F"), data, "")) for name, data in FILES.items()]
    answer = client.post(f"/api/v0/add?{options}", files=parts).raise_for_status()
    return sorted((json.loads(line) for line in answer.text.splitlines()), key=lambda row: str(row["Name"]))


def test_both_answer_alike(kubo: Kubo, ours: str) -> None:
    with (
        httpx.Client(base_url=kubo.url, trust_env=False, timeout=60) as theirs_api,
        httpx.Client(base_url=kubo.gateway, trust_env=False, timeout=60) as theirs,
        httpx.Client(base_url=ours, trust_env=False, timeout=60) as mine,
    ):
        for options in (
            "",
            "cid-version=1",
            "raw-leaves=true",
            "wrap-with-directory=true&cid-version=1",
            "chunker=size-1000&cid-version=1",
            "cid-version=1&chunker=size-1048576&max-file-links=1024",
        ):
            rows = add(theirs_api, options)
            assert rows == add(mine, options), options
        root = next(row["Hash"] for row in rows if row["Name"] == "tree")
        for command in (
            f"dag/get?arg={root}",
            f"dag/get?arg={root}/dir/b.txt",
            f"dag/resolve?arg={root}/dir",
            f"resolve?arg=/ipfs/{root}/dir",
            f"block/stat?arg={root}",
            f"cat?arg={root}/a.bin&offset=1048570&length=10",
            f"pin/add?arg={root}",
            f"dag/export?arg={root}",
        ):
            answers = [client.post(f"/api/v0/{command}").raise_for_status().content for client in (theirs_api, mine)]
            if answers[0].startswith(b"{"):
                assert json.loads(answers[0]) == json.loads(answers[1]), command
            else:
                assert answers[0] == answers[1], command
        for query in (
            "format=raw",
            "format=car",
            "format=car&car-dups=y",
            "format=car&dag-scope=entity",
            "format=car&dag-scope=block",
        ):
            found, mirrored = theirs.get(f"/ipfs/{root}?{query}"), mine.get(f"/ipfs/{root}?{query}")
            assert (found.status_code, found.content) == (mirrored.status_code, mirrored.content), query
            for name in ("content-type", "x-ipfs-path", "x-ipfs-roots", "cache-control", "accept-ranges"):
                assert found.headers.get(name) == mirrored.headers.get(name), (query, name)
