"""A store with content, and a gateway that serves it; each module says what is in it by its fixture `root`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.kubo import Kubo

from quorate.storage.base import BlobStore
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import build_gateway
from quorate.storage.kubo import KuboStore
from quorate.storage.serve import LoopbackServer


@pytest.fixture(scope="module", params=["embedded", pytest.param("kubo", marks=pytest.mark.kubo)])
def donor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlobStore]:
    daemon: Kubo | None = request.getfixturevalue("kubo") if request.param == "kubo" else None
    store = KuboStore(daemon.url) if daemon else EmbeddedStore(tmp_path_factory.mktemp("donor"))
    yield store
    store.close()
    if daemon is not None:
        daemon.empty()


@pytest.fixture(scope="module")
def server(donor: BlobStore, root: Cid) -> Iterator[LoopbackServer]:
    with LoopbackServer(build_gateway(donor)) as running:
        yield running
