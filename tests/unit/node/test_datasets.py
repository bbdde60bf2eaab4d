"""Holding a dataset: what is pinned when fetching it fails."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from quorate.protocol.errors import ContentUnavailable
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate_node.cli.datasets import hold

ROOT = Cid.of(b"nobody has it")


@pytest.mark.parametrize("was_pinned", [True, False])
def test_a_fetch_that_fails_leaves_pins_as_they_were(tmp_path: Path, was_pinned: bool) -> None:
    with closing(EmbeddedStore(tmp_path / "store")) as store:
        if was_pinned:
            store.pin(ROOT)
    with pytest.raises(ContentUnavailable):
        hold(tmp_path, ROOT, [])
    with closing(EmbeddedStore(tmp_path / "store")) as store:
        assert (ROOT in store.pins()) == was_pinned
