"""Outputs of a container as the host reads them, when something still changes them: which nothing should."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from quorate.protocol.container import ContainerLimits
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate_node.executor.docker_folders import _list_outputs, _read, store_folder
from quorate_node.executor.wasi.tree import OverLimit

LIMITS = ContainerLimits()


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """One file two folders deep, beside a secret of the host's under the same names."""
    for folder, text in (("outputs", b"own"), ("host", b"secret")):
        (tmp_path / folder / "a" / "b").mkdir(parents=True)
        (tmp_path / folder / "a" / "b" / "file").write_bytes(text)
    return tmp_path / "outputs"


def test_what_is_there_is_stored(outputs: Path, tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "store")
    with store.adding() as additions:
        root = Cid.parse(store_folder(outputs, LIMITS, additions))
    assert [(path, store.read(entry.cid)) for path, entry in store.walk(root) if entry.kind == "file"] == [
        ("a/b/file", b"own")
    ]
    store.close()


def link_file(outputs: Path) -> None:
    (outputs / "a/b/file").unlink()
    (outputs / "a/b/file").symlink_to(outputs.parent / "host/a/b/file")


def link_folder(outputs: Path) -> None:
    (outputs / "a").rename(outputs / "away")
    (outputs / "a").symlink_to(outputs.parent / "host/a")


def link_inner_folder(outputs: Path) -> None:
    (outputs / "a/b").rename(outputs / "away")
    (outputs / "a/b").symlink_to("../../host/a/b")


def pipe(outputs: Path) -> None:
    (outputs / "a/b/file").unlink()
    os.mkfifo(outputs / "a/b/file")


def folder(outputs: Path) -> None:
    (outputs / "a/b/file").unlink()
    (outputs / "a/b/file").mkdir()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("swap", [link_file, link_folder, link_inner_folder, pipe, folder])
def test_what_was_a_file_when_listed_is_read_as_nothing_else(outputs: Path, swap: Callable[[Path], None]) -> None:
    ((name, path),) = _list_outputs(outputs, LIMITS)
    assert (name, path) == ("a/b/file", b"a/b/file")
    assert _read(outputs, path) == b"own"
    swap(outputs)
    if swap.__name__.startswith("link"):
        assert (outputs / name).read_bytes() == b"secret", "whoever follows links is led astray"
    with pytest.raises(OSError, match=r"symbolic links|Not a directory|is none any more"):
        _read(outputs, path)
    if swap is not folder:
        with pytest.raises(OverLimit, match="is a link, a device, a pipe or a socket"):
            _list_outputs(outputs, LIMITS)
