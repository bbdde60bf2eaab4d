"""Outputs of a container as the host reads them, when something still changes them: which nothing should."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from quorate.protocol.container import ContainerLimits, ContainerSpec, Image
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.extent import Extent
from quorate_node.executor.docker_clock import Allowance, TaskOver
from quorate_node.executor.docker_folders import (
    SPARE_BYTES,
    HostFull,
    _fill_inputs,
    _list_outputs,
    _read,
    check_extent,
    store_folder,
)
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


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["-h"], 0), ([], 2), (["--hlep"], 2), (["a", "b"], 2)])
def test_a_daemon_starts_for_a_folder_alone(words: list[str], code: int, tmp_path: Path) -> None:
    """Not in a folder --help: it would run as root until somebody finds it."""
    command = [sys.executable, "-m", "quorate_node.executor.dockerd", *words]
    done = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert "FOLDER" in (done.stdout if code == 0 else done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_files_without_a_byte_take_of_a_tasks_time(tmp_path: Path) -> None:
    """A million of them are a small input, and minutes of work."""
    store = EmbeddedStore(tmp_path / "store")
    root = store.add_tree({f"{number}": b"" for number in range(20)})
    spec = ContainerSpec(Image(str(root), "sha256:" + "0" * 64), input=str(root.to_v1()))
    with pytest.raises(TaskOver, match="its time was up"):
        _fill_inputs(store, spec, tmp_path / "late", 10**6, Allowance.of(0.0))
    _fill_inputs(store, spec, tmp_path / "inputs", 10**6, Allowance.of(60.0))
    assert len(list((tmp_path / "inputs").iterdir())) == 20
    store.close()


def test_small_files_need_the_room_that_they_take_up() -> None:
    small = Extent(files=150_000, entries=150_000, bytes=150_000)
    with pytest.raises(HostFull, match="614550000 bytes"):
        check_extent(small, 10**9, SPARE_BYTES + 614_550_000 - 1)
    check_extent(small, 10**9, SPARE_BYTES + 614_550_000)
