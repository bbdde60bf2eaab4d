"""A provider that takes a connection and says nothing costs its own time, not that of those behind it."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

from quorate.storage.embedded import EmbeddedStore
from quorate.storage.fetch import fetch_dag
from quorate.storage.gateway import build_gateway
from quorate.storage.serve import LoopbackServer
from quorate.storage.transfer import FetchLimits

LIMITS = FetchLimits(timeout_s=1.0, stall_s=1.0, connect_s=1.0)


def test_one_that_is_silent_leaves_time_for_the_next(tmp_path: Path) -> None:
    with (
        closing(EmbeddedStore(tmp_path / "donor")) as donor,
        closing(EmbeddedStore(tmp_path / "store")) as store,
        socket.create_server(("127.0.0.1", 0)) as silent,
        LoopbackServer(build_gateway(donor)) as server,
    ):
        root = donor.add_bytes(b"input")
        report = fetch_dag(store, root, [f"http://127.0.0.1:{silent.getsockname()[1]}", server.url], limits=LIMITS)
        assert report.provider == server.url
