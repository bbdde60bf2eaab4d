"""Images from a folder or a single program, without any registry or daemon, alike on every machine.

Only content counts: names, bytes, links, and whether a file may be executed. Owners, times, other modes and the order
of a disk are left out, so that the same files give the same image id whoever builds them.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

from quorate.images.archive import MANIFEST, ImageConfig, verify_archive
from quorate.images.layers import REMOVED
from quorate.images.programs import ARCHITECTURES, ELF, Member, find_architecture, find_loader, find_program
from quorate.protocol.errors import DataError
from quorate.protocol.spec import GIB, canonical_json, check_text

MAX_IMAGE_BYTES = 16 * GIB
CREATED = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """What goes into an image: all of the folder `rootfs`, or the static program `binary` as /its-name.

    `entrypoint` defaults to the program; `env` over nothing; `architecture` is found in the program's header,
    and needed for a script.
    """

    rootfs: Path | None = None
    binary: Path | None = None
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: Mapping[str, str] | None = None
    working_dir: str = "/"
    architecture: str | None = None


def build_image(recipe: ImageRecipe, out: Path) -> ImageConfig:
    """Write a docker-archive to `out` and say which image it holds.

    Raises DataError, for words ValidationError, where something cannot be in one.
    """
    if (recipe.rootfs is None) == (recipe.binary is None):
        raise DataError("give either a folder (--rootfs) or a program (--binary)")
    if recipe.architecture is not None and recipe.architecture not in ARCHITECTURES:
        raise DataError(f"--arch {recipe.architecture!r} is unknown: choose one of {', '.join(sorted(ARCHITECTURES))}")
    if out.exists():
        raise DataError(f"{out} exists; remove it or choose another name")
    members = list(_list_rootfs(recipe.rootfs) if recipe.rootfs else _list_binary(recipe.binary))
    entrypoint = recipe.entrypoint or ((f"/{recipe.binary.name}",) if recipe.binary else ())
    if not entrypoint:
        raise DataError("an image of a folder needs --entrypoint PROGRAM")
    by_name = {member.name: member for member in members}
    program = find_program(by_name, entrypoint[0], recipe.working_dir, (recipe.env or {}).get("PATH"))
    partial = out.with_name(f".{out.name}.partial")
    try:
        with tempfile.TemporaryFile(dir=out.parent) as layer, partial.open("w+b") as archive:
            diff_id = _write_layer(layer, members)
            config = _describe(recipe, entrypoint, program, diff_id)
            _write_archive(archive, layer, diff_id, config)
            size = archive.seek(0, os.SEEK_END)
            found = verify_archive(archive, size, f"sha256:{hashlib.sha256(config).hexdigest()}", MAX_IMAGE_BYTES)
        partial.replace(out)
    except OSError as error:
        what = f"cannot read or write {error.filename}" if error.filename else f"cannot write {out}"
        raise DataError(f"{what}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return found


def _list_binary(binary: Path | None) -> Iterator[Member]:
    if binary is None or not binary.is_file():
        raise DataError(f"{binary} is not a file: give a statically linked program")
    member = _describe_entry(binary, binary.name, binary.stat().st_mode)
    with binary.open("rb") as file:
        if file.read(len(ELF)) != ELF:
            raise DataError(f"{binary} is no program for Linux (ELF), and nothing else would be in the image")
        if find_loader(file) is not None:
            raise DataError(f"{binary} needs a loader and libraries: link it statically, or give them with --rootfs")
    yield replace(member, is_executable=True)


def _list_rootfs(root: Path) -> Iterator[Member]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: give the root of a file system")
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            raise DataError(f"cannot read {folder}: {error.strerror}") from error
        for entry in entries:
            path = Path(entry.path)
            member = _describe_entry(path, str(path.relative_to(root)), entry.stat(follow_symlinks=False).st_mode)
            if stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode):
                pending.append(path)
            yield member


def _describe_entry(path: Path, name: str, mode: int) -> Member:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{os.fsencode(path)!r} is not a name in UTF-8: rename it") from None
    if path.name.startswith(REMOVED):
        raise DataError(
            f"{str(path)!r}: in an image a name with {REMOVED} before it means that it is removed: rename it"
        )
    if stat.S_ISDIR(mode):
        return Member(name)
    if stat.S_ISLNK(mode):
        target = str(path.readlink())
        check_text(target, f"{str(path)!r}: what this link leads to")
        return Member(name, target=target)
    if not stat.S_ISREG(mode):
        raise DataError(f"{path} is a device, a pipe or a socket, which an image cannot hold: remove it")
    return Member(name, path, is_executable=bool(mode & 0o111))


def _describe(recipe: ImageRecipe, entrypoint: tuple[str, ...], program: Path | None, diff_id: str) -> bytes:
    for what, words in (("argument", recipe.command), ("entrypoint", entrypoint), ("--workdir", [recipe.working_dir])):
        for word in words:
            check_text(word, f"{what} {word[:80]!r}")
    config = {
        "Cmd": list(recipe.command) or None,
        "Entrypoint": list(entrypoint),
        "Env": [f"{name}={value}" for name, value in sorted((recipe.env or {}).items())],
        "WorkingDir": recipe.working_dir,
    }
    return canonical_json(
        {
            "architecture": find_architecture(program, recipe.architecture),
            "config": config,
            "created": CREATED,
            "os": "linux",
            "rootfs": {"diff_ids": [diff_id], "type": "layers"},
        }
    )


class _Hashing:
    """Writes on to a file and hashes what it writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest, self._at = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self._at += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._at


def _write_layer(file: IO[bytes], members: Sequence[Member]) -> str:
    """The layer, and its `sha256:…`."""
    hashing = _Hashing(file)
    with tarfile.open(fileobj=cast(IO[bytes], hashing), mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for member in sorted(members, key=lambda each: each.name.encode()):
            info = tarfile.TarInfo(member.name)
            if member.source is not None:
                info.mode = 0o755 if member.is_executable else 0o644
                with member.source.open("rb") as source:
                    info.size = os.fstat(source.fileno()).st_size
                    tar.addfile(info, source)
                continue
            info.type, info.mode = (tarfile.DIRTYPE, 0o755) if member.target is None else (tarfile.SYMTYPE, 0o777)
            info.linkname = member.target or ""
            tar.addfile(info)
    return f"sha256:{hashing.digest.hexdigest()}"


def _write_archive(out: IO[bytes], layer: IO[bytes], diff_id: str, config: bytes) -> None:
    layer_name = f"{diff_id.removeprefix('sha256:')}.tar"
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = canonical_json([{"Config": config_name, "Layers": [layer_name], "RepoTags": None}])
    size = layer.seek(0, os.SEEK_END)
    layer.seek(0)
    parts: dict[str, tuple[int, IO[bytes]]] = {
        MANIFEST: (len(manifest), io.BytesIO(manifest)),
        config_name: (len(config), io.BytesIO(config)),
        layer_name: (size, layer),
    }
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(parts):
            info = tarfile.TarInfo(name)
            info.size, info.mode = parts[name][0], 0o644
            tar.addfile(info, parts[name][1])
