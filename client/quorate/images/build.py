"""Images from a folder or a single program, without any registry or daemon, alike on every machine.

Only content counts: names, bytes, links, and whether a file may be executed. Owners, times, other modes and the order
of a disk are left out, so that the same files give the same image id whoever builds them.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from quorate.images.archive import MANIFEST, ImageConfig, verify_archive
from quorate.protocol.errors import DataError
from quorate.protocol.spec import GIB, canonical_json

ELF = b"\x7fELF"
PT_INTERP = 3  # type of the segment that names the loader
ELF_MACHINES = {3: "386", 40: "arm", 62: "amd64", 183: "arm64", 21: "ppc64le", 22: "s390x", 243: "riscv64"}
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
    """Write a docker-archive to `out` and say which image it holds. Raises DataError for what cannot be in one."""
    if (recipe.rootfs is None) == (recipe.binary is None):
        raise DataError("give either a folder (--rootfs) or a program (--binary)")
    if out.exists():
        raise DataError(f"{out} exists; remove it or choose another name")
    members = list(_list_rootfs(recipe.rootfs) if recipe.rootfs else _list_binary(recipe.binary))
    entrypoint = recipe.entrypoint or ((f"/{recipe.binary.name}",) if recipe.binary else ())
    program = _find_program(members, entrypoint)
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
        raise DataError(f"cannot write {out}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    return found


@dataclass(frozen=True, slots=True)
class _Member:
    """A name in the layer; `target` of a link, `source` of a file, neither of a folder."""

    name: str
    source: Path | None = None
    target: str | None = None
    is_executable: bool = False


def _list_binary(binary: Path | None) -> Iterator[_Member]:
    if binary is None or not binary.is_file():
        raise DataError(f"{binary} is not a file: give a statically linked program")
    with binary.open("rb") as file:
        if file.read(len(ELF)) != ELF:
            raise DataError(f"{binary} is no program for Linux (ELF), and nothing else would be in the image")
        if _needs_loader(file):
            raise DataError(f"{binary} needs a loader and libraries: link it statically, or give them with --rootfs")
    yield _Member(binary.name, binary, is_executable=True)


def _needs_loader(file: IO[bytes]) -> bool:
    """Whether an ELF program names an interpreter: all of its segments are looked at."""
    file.seek(0)
    head = file.read(64)
    is_wide, order = head[4:5] == b"\2", "<" if head[5:6] == b"\1" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}Q", head, 32) if is_wide else struct.unpack_from(f"{order}I", head, 28)
        size, count = struct.unpack_from(f"{order}HH", head, 54 if is_wide else 42)
    except struct.error:
        return False  # cut off: its execution says so
    length = os.fstat(file.fileno()).st_size
    for at in range(start, start + count * size, size or 1):
        if at >= length:
            break
        file.seek(at)
        if int.from_bytes(file.read(4), "little" if order == "<" else "big") == PT_INTERP:
            return True
    return False


def _list_rootfs(root: Path) -> Iterator[_Member]:
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


def _describe_entry(path: Path, name: str, mode: int) -> _Member:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{os.fsencode(path)!r} is not a name in UTF-8: rename it") from None
    if stat.S_ISDIR(mode):
        return _Member(name)
    if stat.S_ISLNK(mode):
        return _Member(name, target=str(path.readlink()))
    if not stat.S_ISREG(mode):
        raise DataError(f"{path} is a device, a pipe or a socket, which an image cannot hold: remove it")
    return _Member(name, path, is_executable=bool(mode & 0o111))


def _find_program(members: Sequence[_Member], entrypoint: tuple[str, ...]) -> Path | None:
    """The file that would be executed, where it can be told; DataError when it is not there."""
    if not entrypoint:
        raise DataError("an image of a folder needs --entrypoint PROGRAM")
    if not entrypoint[0].startswith("/"):
        return None  # looked for on PATH
    by_name = {member.name: member for member in members}
    name = entrypoint[0].strip("/")
    if any(member.target is not None and f"{name}/".startswith(f"{member.name}/") for member in members):
        return None  # behind a link
    found = by_name.get(name)
    if found is None or found.source is None:
        raise DataError(f"the entrypoint {entrypoint[0]!r} is no file in the image")
    if not found.is_executable:
        raise DataError(f"the entrypoint {entrypoint[0]!r} may not be executed: chmod +x it")
    return found.source


def _find_architecture(program: Path | None) -> str:
    """As the program's header says. Never this machine's: the same files must give the same image everywhere."""
    head = b""
    if program is not None:
        with program.open("rb") as file:
            head = file.read(20)
    if not head.startswith(ELF):
        raise DataError(f"{program or 'the program'} does not say what machine it is for: give --arch amd64 or arm64")
    machine = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    if machine not in ELF_MACHINES:
        raise DataError(f"{program} is for a machine (ELF {machine}) that is not known: give --arch")
    return ELF_MACHINES[machine]


def _describe(recipe: ImageRecipe, entrypoint: tuple[str, ...], program: Path | None, diff_id: str) -> bytes:
    config = {
        "Cmd": list(recipe.command) or None,
        "Entrypoint": list(entrypoint),
        "Env": [f"{name}={value}" for name, value in sorted((recipe.env or {}).items())],
        "WorkingDir": recipe.working_dir,
    }
    return canonical_json(
        {
            "architecture": recipe.architecture or _find_architecture(program),
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


def _write_layer(file: IO[bytes], members: Sequence[_Member]) -> str:
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
