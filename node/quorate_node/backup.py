"""Moving a node: its key, its settings and its journal in one file, of which another machine makes the same node.

The journal is append-only, so a copy of a running node's is one of some moment; what it voted on afterwards another
machine votes on alike, since salts follow from the key and results from the content. Content is not in it: that can
be fetched. The keystore stays encrypted; the passphrase is not in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import secrets
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quorate.protocol.errors import DataError, ValidationError
from quorate_node.config import (
    ADDRESSES_FILE,
    CONFIG_FILE,
    DENY_FILE,
    HINTS_FILE,
    JOURNAL_FILE,
    KEYSTORE_FILE,
    NodeConfig,
    build_config,
    read_settings,
)

DEPLOYMENT_FILE = "deployment.json"

MANIFEST_FILE = "manifest.json"
SINGLE = (CONFIG_FILE, KEYSTORE_FILE, DEPLOYMENT_FILE, ADDRESSES_FILE, HINTS_FILE, DENY_FILE)
NAMES = re.compile("|".join([*map(re.escape, SINGLE), rf"{JOURNAL_FILE}(-\d{{1,6}})?"]))
VERSION = 1
MAX_MANIFEST_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20


def write_backup(config: NodeConfig, target: Path) -> list[str]:
    """Write a node's backup to a file that must not exist; the names in it. Raises DataError, ValidationError."""
    if target.exists():
        raise ValidationError(f"{target} exists: a backup is never written over another; choose another file")
    files = dict(_list_files(config))
    partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:  # a name that nobody can take before, to be given the votes' salts or have them written elsewhere
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                digests = {name: _add(archive, name, source) for name, source in files.items()}
                manifest = json.dumps({"version": VERSION, "sha256": digests}).encode()
                _add(archive, MANIFEST_FILE, manifest)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, target)  # never over another
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return sorted(files)


def restore_backup(source: Path, home: Path) -> NodeConfig:
    """Make a node's home of a backup; `home` must not exist, or be empty. Raises DataError, and leaves nothing."""
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise ValidationError(f"{home} is not empty: a node's home is never written over; choose another with --home")
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{home.name}.", dir=home.parent) as scratch:
        folder = Path(scratch) / "home"
        folder.mkdir(mode=0o700)
        try:
            with tarfile.open(source, mode="r:") as archive:
                _extract(archive, folder, source)
        except (OSError, tarfile.TarError, EOFError) as error:
            raise DataError(f"{source} is no backup of a node, or is damaged: {error}") from error
        build_config(folder, read_settings(folder), f"{CONFIG_FILE} in {source}")
        if home.exists():
            home.rmdir()
        folder.rename(home)
    return build_config(home, read_settings(home), str(home / CONFIG_FILE))


def _list_files(config: NodeConfig) -> Iterator[tuple[str, Path | bytes]]:
    settings = read_settings(config.home) | {"keystore": KEYSTORE_FILE, "deployment": DEPLOYMENT_FILE}
    settings.pop("passphrase_file", None)  # it does not travel with the key that it opens
    settings.pop("owner_keystore", None)  # the stake's key, which the node does not need
    yield CONFIG_FILE, json.dumps(settings).encode()
    yield KEYSTORE_FILE, config.keystore
    yield DEPLOYMENT_FILE, config.deployment
    for name in (ADDRESSES_FILE, HINTS_FILE, DENY_FILE):
        if (config.home / name).exists():
            yield name, config.home / name
    for index in range(config.operators):
        if (path := config.journal(index)).exists():
            yield path.name, path


def _add(archive: tarfile.TarFile, name: str, source: Path | bytes) -> str:
    """Add bytes, or a file as long as it is now; sha256 of what was added."""
    entry = tarfile.TarInfo(name)
    entry.mode = 0o600
    if isinstance(source, bytes):
        entry.size = len(source)
        archive.addfile(entry, io.BytesIO(source))
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        entry.size = os.fstat(file.fileno()).st_size
        hashing = _Hashing(file)
        archive.addfile(entry, hashing)
        return hashing.digest.hexdigest()


class _Hashing(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _extract(archive: tarfile.TarFile, folder: Path, source: Path) -> None:
    digests: dict[str, str] = {}
    wanted: dict[str, str] | None = None
    for entry in archive:
        if not entry.isreg() or entry.issparse() or entry.size > source.stat().st_size:
            raise DataError(f"{source} holds {entry.name!r}, which is no plain file of a backup")
        reader = archive.extractfile(entry)
        assert reader is not None
        if entry.name == MANIFEST_FILE and entry.size <= MAX_MANIFEST_BYTES:
            wanted = _parse_manifest(reader.read(), source)
        elif NAMES.fullmatch(entry.name) and entry.name not in digests:
            digests[entry.name] = _copy(reader, folder / entry.name)
        else:
            raise DataError(f"{source} holds {entry.name!r}, which is no plain file of a backup")
    if wanted is None:
        raise DataError(f"{source} is cut off, or no backup of a node: it has no {MANIFEST_FILE}")
    if wrong := sorted(dict(digests.items() ^ wanted.items())):
        raise DataError(f"{source} is damaged: {', '.join(wrong)} are not what was backed up")


def _parse_manifest(data: bytes, source: Path) -> dict[str, str]:
    """Digests by name."""
    try:
        manifest = json.loads(data)
    except ValueError as error:
        raise DataError(f"{source} is damaged: {MANIFEST_FILE} is no JSON") from error
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        raise DataError(f"{source} is of another version of Quorate: this one reads version {VERSION}")
    digests = manifest.get("sha256")
    if not isinstance(digests, dict) or not all(isinstance(digest, str) for digest in digests.values()):
        raise DataError(f"{source} is damaged: {MANIFEST_FILE} tells no digests")
    return digests


def _copy(reader: Any, target: Path) -> str:
    digest = hashlib.sha256()
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        while chunk := reader.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
