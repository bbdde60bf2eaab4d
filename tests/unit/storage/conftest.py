"""All stores, so that every test of the port holds for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.storage.base import BlobStore
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.memory import MemoryStore


@pytest.fixture(params=["memory", "embedded", pytest.param("kubo", marks=pytest.mark.kubo)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobStore]:
    if request.param == "kubo":
        yield request.getfixturevalue("in_kubo")
        return
    made: BlobStore = MemoryStore() if request.param == "memory" else EmbeddedStore(tmp_path / "store")
    yield made
    made.close()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedStore]:
    made = EmbeddedStore(tmp_path / "embedded")
    yield made
    made.close()
