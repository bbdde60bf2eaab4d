"""From what a person types to a spec."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.protocol.errors import ContentUnavailable, DataError, QuorateError, ValidationError
from quorate.protocol.spec import JobSpec, Limits, Partition
from quorate.spec import parse_env, prepare_spec
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore

MODULE = b"\0asm\x01\0\0\0"


@pytest.fixture
def store(tmp_path: Path) -> EmbeddedStore:
    return EmbeddedStore(tmp_path / "store")


@pytest.fixture
def module(tmp_path: Path) -> str:
    path = tmp_path / "program.wasm"
    path.write_bytes(MODULE)
    return str(path)


def test_files_and_folders(store: EmbeddedStore, module: str, tmp_path: Path) -> None:
    scene = tmp_path / "scene"
    (scene / "deep").mkdir(parents=True)
    (scene / "a.bin").write_bytes(bytes(1000))
    (scene / "deep" / "b.bin").write_bytes(bytes(500_000))
    folder = prepare_spec(store, module, str(scene), args=["x"], env=["A=b=c"])
    assert folder.input_bytes == len(MODULE) + 501_000
    assert (folder.spec.args, folder.spec.env) == (("x",), {"A": "b=c"})
    assert JobSpec.from_bytes(store.get(Cid.parse(folder.spec.cid))) == folder.spec
    again = prepare_spec(store, folder.spec.module, folder.spec.input, args=["x"], env=["A=b=c"])
    assert again == folder
    single = prepare_spec(store, module, str(scene / "a.bin"))
    assert (single.spec.input_name, single.input_bytes) == ("a.bin", len(MODULE) + 1000)
    assert prepare_spec(store, module).spec.input is None


def test_a_folder_is_divided_and_its_largest_bundle_counted(store: EmbeddedStore, module: str, tmp_path: Path) -> None:
    scene = tmp_path / "scene"
    (scene / "deep").mkdir(parents=True)
    for number in range(300):
        (scene / "deep" / f"{number:03}.bin").write_bytes(b"%03d" % number * (100 if number < 256 else 1000))
    (scene / "large").write_bytes(bytes(1_000_000))
    one = prepare_spec(store, module, str(scene), partition=Partition("*.bin"))
    assert one.task_count == 300
    assert one.input_bytes is not None
    assert 44 * 3000 < one.input_bytes - len(MODULE) < 44 * 3000 + 301 * 100, "the last bundle's, and the listing"
    assert prepare_spec(store, module, str(scene), partition=Partition("*.bin", 7)).task_count == 43
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, pattern, why in (
        (scene, "*.tif", "no path"),
        (empty, "*", "folder is empty"),
        (scene / "large", "*", "no directory"),
    ):
        with pytest.raises(ValidationError, match=why):
            prepare_spec(store, module, str(source), partition=Partition(pattern))
    with pytest.raises(ValidationError, match="needs an input"):
        prepare_spec(store, module, partition=Partition("*"))
    with pytest.raises(ContentUnavailable, match="--provider"):
        prepare_spec(store, module, str(Cid.of(b"elsewhere", 0x70)), partition=Partition("*"))


def test_an_input_that_is_elsewhere_has_no_known_size(store: EmbeddedStore, module: str) -> None:
    assert prepare_spec(store, module, str(Cid.of(b"elsewhere"))).input_bytes is None


@pytest.mark.parametrize("name", ["missing.wasm", "scene", "text.wasm", "large.wasm"])
def test_modules_that_are_none(store: EmbeddedStore, tmp_path: Path, name: str) -> None:
    (tmp_path / "scene").mkdir()
    (tmp_path / "text.wasm").write_text("not wasm")
    (tmp_path / "large.wasm").write_bytes(MODULE + bytes(100))
    with pytest.raises(DataError, match=name):
        prepare_spec(store, str(tmp_path / name), limits=Limits(module_bytes=50))


def test_an_input_that_is_missing(store: EmbeddedStore, module: str) -> None:
    with pytest.raises(DataError, match="neither a file nor a CID"):
        prepare_spec(store, module, "missing")


@pytest.mark.parametrize("item", ["", "A", "=b"])
def test_variables_that_are_none(item: str) -> None:
    with pytest.raises(ValidationError, match="NAME=VALUE"):
        parse_env([item])


def test_limits_of_specs_are_kept(store: EmbeddedStore, module: str) -> None:
    with pytest.raises(QuorateError):
        prepare_spec(store, module, args=["x" * 5000])
