"""The cache of machine code: what it saves, and what it refuses to run."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from quorate.protocol.errors import ConfigurationError
from quorate.protocol.spec import Limits
from quorate_node.executor.cache import ModuleCache, load_secret
from quorate_node.executor.wasm import PULLEY, build_engine

WASM = bytes(wasmtime.wat2wasm('(module (func (export "_start")))'))
OTHER = bytes(wasmtime.wat2wasm('(module (func (export "_start") unreachable))'))


def cache_of(engine: wasmtime.Engine, folder: Path, secret: bytes = b"s" * 32) -> ModuleCache:
    return ModuleCache(engine, folder, secret)


def get(cache: ModuleCache, wasm: bytes = WASM) -> Any:
    return cache.get(str(hash(wasm)), lambda: wasm, Limits())


def test_a_module_is_compiled_once(engine: wasmtime.Engine, tmp_path: Path) -> None:
    first, second = cache_of(engine, tmp_path), cache_of(engine, tmp_path)
    assert get(first).module is get(first).module
    assert get(second).module is not None
    assert (first.compiled, second.compiled) == (1, 0)


def test_a_poisoned_file_is_refused_and_replaced(engine: wasmtime.Engine, tmp_path: Path) -> None:
    get(cache_of(engine, tmp_path))
    (file,) = tmp_path.glob("*.cwasm")
    good = file.read_bytes()
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:100], b"", bytes(32) + good[32:]):
        file.write_bytes(bad)
        cache = cache_of(engine, tmp_path)
        assert get(cache).module is not None
        assert (cache.compiled, cache.refused_files) == (1, 1)
        assert get(cache_of(engine, tmp_path)).module is not None
        assert cache_of(engine, tmp_path).refused_files == 0


def spoil(file: Path, how: str) -> None:
    """Leave good machine code where it must not be believed."""
    if how == "link":
        file.replace(file.with_suffix(".kept"))
        file.symlink_to(file.with_suffix(".kept"))
    elif how == "others write":
        file.chmod(0o666)
    elif how == "group writes":
        file.chmod(0o620)
    elif how == "pipe":
        file.unlink()
        os.mkfifo(file, 0o600)
    else:
        file.unlink()
        file.mkdir()


@pytest.mark.parametrize("how", ["link", "others write", "group writes", "pipe", "folder"])
def test_what_others_could_have_put_there_is_not_read(engine: wasmtime.Engine, tmp_path: Path, how: str) -> None:
    get(cache_of(engine, tmp_path))
    (file,) = tmp_path.glob("*.cwasm")
    spoil(file, how)
    cache = cache_of(engine, tmp_path)
    assert get(cache).module is not None
    assert (cache.compiled, cache.refused_files) == (1, 1)
    if how != "folder":  # which stays: nobody removes what may hold something
        assert stat.S_ISREG(file.lstat().st_mode)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        again = cache_of(engine, tmp_path)
        assert get(again).module is not None
        assert (again.compiled, again.refused_files) == (0, 0)


def test_no_link_is_written_through(engine: wasmtime.Engine, tmp_path: Path) -> None:
    cache, target = cache_of(engine, tmp_path / "cache"), tmp_path / "precious"
    (tmp_path / "cache").mkdir()
    target.write_bytes(b"mine")
    cache.path_of(WASM).with_suffix(f".{os.getpid()}.part").symlink_to(target)
    assert get(cache).module is not None
    assert target.read_bytes() == b"mine"


@pytest.mark.parametrize("target", [None, PULLEY])
def test_machine_code_serves_engines_of_every_stack(tmp_path: Path, target: str | None) -> None:
    cache = ModuleCache(build_engine(target), tmp_path, b"s" * 32, target=target)
    other = build_engine(target, 64 << 10)
    usual, small = (cache.get("x", lambda: WASM, Limits(), engine) for engine in (None, other))
    assert usual.module is not small.module
    assert cache.compiled == 1
    wasmtime.Instance(wasmtime.Store(other), small.module, [])


def test_another_modules_artifact_does_not_pass(engine: wasmtime.Engine, tmp_path: Path) -> None:
    cache = cache_of(engine, tmp_path)
    get(cache)
    get(cache, OTHER)
    cache.path_of(OTHER).replace(cache.path_of(WASM))
    again = cache_of(engine, tmp_path)
    get(again)
    assert again.refused_files == 1


def test_another_nodes_artifact_does_not_pass(engine: wasmtime.Engine, tmp_path: Path) -> None:
    get(cache_of(engine, tmp_path, b"a" * 32))
    mine = cache_of(engine, tmp_path, b"b" * 32)
    get(mine)
    assert (mine.compiled, mine.refused_files) == (1, 1)


def test_a_cache_that_cannot_be_written_costs_only_time(engine: wasmtime.Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert get(cache_of(engine, tmp_path / "file" / "cache")).module is not None


def test_refusals_are_remembered(engine: wasmtime.Engine, tmp_path: Path) -> None:
    cache = cache_of(engine, tmp_path)
    reads = 0

    def read() -> bytes:
        nonlocal reads
        reads += 1
        return b"no module"

    for _ in range(3):
        assert "not a WebAssembly module" in cache.get("bad", read, Limits(module_bytes=100)).refusal
    assert reads == 1


def test_programs_that_begin_at_once_have_one_secret(tmp_path: Path) -> None:
    for number in range(50):
        with ThreadPoolExecutor(8) as threads:
            found = set(threads.map(load_secret, [tmp_path / str(number) / "secret"] * 8))
        assert len(found) == 1
        assert [path.name for path in (tmp_path / str(number)).iterdir()] == ["secret"]


def test_the_secret_is_private_and_stays(tmp_path: Path) -> None:
    secret = load_secret(tmp_path / "node" / "secret")
    assert load_secret(tmp_path / "node" / "secret") == secret
    assert stat.S_IMODE((tmp_path / "node" / "secret").stat().st_mode) == 0o600
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match="delete it"):
        load_secret(tmp_path / "short")
