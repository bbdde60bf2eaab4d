"""A store with content, and a gateway that serves it; each module says what is in it by its fixture `root`.

And a retrieval provider with a chain: `provider` sells `tiles` and `raw` to `buyer`; modules may have their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from tests.integration.providing import FUNDS, PERIOD, PRICE, Buyer, Provider, make_account, make_bytes
from tests.kubo import Kubo

from quorate.chain.account import SigningAccount
from quorate.devnet.filecoin import FilecoinDevnet
from quorate.filecoin import rails
from quorate.filecoin.pay import PayChain
from quorate.filecoin.piecetree import CHUNK_BYTES
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


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilecoinDevnet]:
    with FilecoinDevnet(tmp_path_factory.mktemp("filecoin"), block_time_s=0.05, lockup_period=PERIOD) as made:
        yield made


@pytest.fixture(scope="module")
def chain(devnet: FilecoinDevnet) -> Iterator[PayChain]:
    with closing(devnet.connect()) as made:
        yield made


@pytest.fixture(scope="module")
def buyer(devnet: FilecoinDevnet, chain: PayChain) -> Iterator[Buyer]:
    account = make_account(devnet, 2 * FUNDS)
    rails.fund(chain, account, FUNDS)
    rails.allow(chain, account, FUNDS)
    with httpx.Client(timeout=60) as client:
        yield Buyer(chain, account, client)


@pytest.fixture(scope="module")
def key(devnet: FilecoinDevnet) -> SigningAccount:
    return make_account(devnet, 0)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 4 MB, with a small file and one of some blocks."""
    folder = tmp_path_factory.mktemp("tiles")
    (folder / "far").mkdir()
    (folder / "far" / "small.txt").write_bytes(b"a small tile")
    for name in ("one", "two"):
        (folder / name).write_bytes(make_bytes(2_000_000, name))
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 2.5 chunks."""
    path = tmp_path_factory.mktemp("raw") / "raw.bin"
    path.write_bytes(make_bytes(5 * CHUNK_BYTES // 2, "raw"))
    return path


@pytest.fixture(scope="module")
def provider(
    tmp_path_factory: pytest.TempPathFactory, devnet: FilecoinDevnet, key: SigningAccount, tiles: Path, raw: Path
) -> Iterator[Provider]:
    """Sells the tiles' CAR and the raw file; gives one tile away."""
    with Provider(tmp_path_factory.mktemp("provider") / "home", devnet.network_file, key) as made:
        made.add(tiles, PRICE)
        made.add(raw, PRICE, is_piece=True)
        made.add(tiles / "far")
        made.start()
        yield made
