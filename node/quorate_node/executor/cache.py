"""Compiled modules: in memory by CID, on disk by the hash of the module and of everything that compiling depends on.

wasmtime runs what it deserializes without checking it, so an artifact is machine code that somebody left in a file. It
is used only if this node wrote it: each file starts with an HMAC by the node's own secret over its name and content.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import platform
import secrets
import stat
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import wasmtime

from quorate.protocol.errors import ConfigurationError
from quorate.protocol.spec import GIB, WASM_PROFILE, Limits
from quorate_node.executor.binary import Limit
from quorate_node.executor.shape import find_excess, read_shape
from quorate_node.executor.wasm import ProgramRefused, check_module, compile_module

MAC_BYTES = 32
SECRET_BYTES = 32
MAX_MODULES = 64
MAX_DISK_BYTES = 2 * GIB


@dataclass(frozen=True, slots=True)
class Program:
    """A module ready to run, or why the profile refuses it. `size` is the module's, in bytes; `tables` it makes."""

    module: wasmtime.Module | None
    size: int
    refusal: str = ""
    tables: tuple[Limit, ...] = ()


def load_secret(path: Path) -> bytes:
    """The node's cache secret at `path`, made at first use and readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        # Whole or not at all, and the first one's where several programs begin at once.
        handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(SECRET_BYTES))
            with suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            os.unlink(fresh)  # noqa: PTH108  (a string)
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise ConfigurationError(f"{path} does not hold {SECRET_BYTES} bytes; delete it and the cache")
    return secret


def _read_private(path: Path) -> bytes | None:
    """A file's bytes, none if it is a link or no file, or if others own it or may write to it; None if it is not there.

    The mark in it would tell what others wrote; but where they can write at all something is wrong with the folder.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:
        return b""
    status = os.fstat(handle)
    is_private = status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022
    if not is_private or not stat.S_ISREG(status.st_mode):
        os.close(handle)
        return b""
    with os.fdopen(handle, "rb") as file:
        return file.read()


class ModuleCache:
    """Modules by CID. `compiling(seconds)` wraps each compilation: who can end one puts the time limit there.

    `compiled` and `refused_files` count what a cold or poisoned cache has cost.
    """

    def __init__(
        self,
        engine: wasmtime.Engine,
        directory: Path,
        secret: bytes,
        compiling: Callable[[float], AbstractContextManager[object]] = nullcontext,
        target: str | None = None,
    ) -> None:
        self._engine, self._directory, self._secret, self._compiling = engine, directory, secret, compiling
        depends = f"{WASM_PROFILE} wasmtime-{version('wasmtime')} {platform.machine()} {target}"
        self._engine_key = hashlib.sha256(depends.encode()).hexdigest()[:16]
        self._programs: OrderedDict[tuple[str, wasmtime.Engine], Program] = OrderedDict()
        self.compiled = self.refused_files = 0

    def get(
        self, cid: str, read: Callable[[], bytes | None], limits: Limits, engine: wasmtime.Engine | None = None
    ) -> Program:
        """The program of module `cid`; `read` gives its bytes, or None if it is longer than `module_bytes`.

        `engine` is one with another stack than the cache's own.
        """
        engine, max_bytes = engine or self._engine, limits.module_bytes
        key = cid, engine
        program = self._programs.get(key)
        if program is None:
            wasm = read()
            if wasm is None:
                return Program(None, max_bytes + 1, f"the module is longer than module_bytes = {max_bytes}")
            program = self._load(engine, wasm, limits.compile_seconds)
            self._programs[key] = program
            if len(self._programs) > MAX_MODULES:
                self._programs.popitem(last=False)
        self._programs.move_to_end(key)
        if program.size > max_bytes:
            return Program(None, program.size, f"the module is longer than module_bytes = {max_bytes}")
        if (reason := find_excess(program.tables, limits.table_elements)) is not None:
            return Program(None, program.size, f"the module needs more than its limits to start: {reason}")
        return program

    def path_of(self, wasm: bytes) -> Path:
        """Where a module's artifact is kept."""
        return self._directory / f"{hashlib.sha256(wasm).hexdigest()}-{self._engine_key}.cwasm"

    def _load(self, engine: wasmtime.Engine, wasm: bytes, compile_seconds: float) -> Program:
        shape = read_shape(wasm)
        if shape.excess:
            return Program(None, len(wasm), shape.excess)
        path = self.path_of(wasm)
        module = self._read_artifact(engine, path)
        if module is None:
            try:
                with self._compiling(compile_seconds):
                    module = compile_module(engine, wasm)
            except ProgramRefused as error:
                return Program(None, len(wasm), str(error))
            self.compiled += 1
            self._write_artifact(path, bytes(module.serialize()))
        if shape.fault:  # what cannot be counted here is not run, whatever the engine makes of it
            return Program(None, len(wasm), f"the module is malformed: {shape.fault}")
        return Program(module, len(wasm), tables=tuple(shape.tables))

    def _mac(self, path: Path, artifact: bytes) -> bytes:
        return hmac.digest(self._secret, path.name.encode() + b"\0" + artifact, "sha256")

    def _read_artifact(self, engine: wasmtime.Engine, path: Path) -> wasmtime.Module | None:
        content = _read_private(path)
        if content is None:
            return None
        artifact = content[MAC_BYTES:]
        if not hmac.compare_digest(content[:MAC_BYTES], self._mac(path, artifact)):
            self.refused_files += 1
            with suppress(OSError):
                path.unlink()
            return None
        try:
            module = wasmtime.Module.deserialize(engine, artifact)
            check_module(module)
            os.utime(path)
        except (wasmtime.WasmtimeError, OSError):  # made for another processor, or pruned meanwhile
            return None
        return module

    def _write_artifact(self, path: Path, artifact: bytes) -> None:
        """A full or read-only disk costs compilations, never a task."""
        partial = path.with_suffix(f".{os.getpid()}.part")
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(self._mac(path, artifact) + artifact)
            partial.replace(path)
            self._prune()
        except OSError:
            with suppress(OSError):
                partial.unlink()

    def _prune(self) -> None:
        """Remove what was not used for longest while the cache is over its size."""
        files = [(entry.stat().st_mtime_ns, entry.stat().st_size, entry) for entry in self._directory.glob("*.cwasm")]
        excess = sum(size for _, size, _ in files) - MAX_DISK_BYTES
        for _, size, entry in sorted(files):
            if excess <= 0:
                return
            entry.unlink(missing_ok=True)
            excess -= size
