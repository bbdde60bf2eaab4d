"""A store with content, and a gateway that serves it; each module says what is in it by its fixture `root`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.gateway import build_gateway
from quorate.storage.serve import LoopbackServer


@pytest.fixture(scope="module")
def donor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path_factory.mktemp("donor"))
    yield store
    store.close()


@pytest.fixture(scope="module")
def server(donor: EmbeddedStore, root: Cid) -> Iterator[LoopbackServer]:
    with LoopbackServer(build_gateway(donor)) as running:
        yield running
