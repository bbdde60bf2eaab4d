"""Job specs from what a person types: files or CIDs, arguments, variables, limits."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from quorate.images.archive import verify_archive
from quorate.protocol.container import CONTAINER_CEILINGS, AnySpec, ContainerLimits, ContainerSpec, Image
from quorate.protocol.errors import ConfigurationError, ContentUnavailable, DataError, ValidationError
from quorate.protocol.partition import count_bundles
from quorate.protocol.pieces import is_piece_text, parse_piece_size
from quorate.protocol.spec import CEILINGS, DEFAULT_INPUT_NAME, JobSpec, Limits, Partition, check_text
from quorate.storage.base import BlobStore, BlockNotFound
from quorate.storage.cid import Cid
from quorate.storage.listing import fetch_listing
from quorate.tasks import TaskList, divide

WASM_MAGIC = b"\0asm"
_REGISTRY_NAME = re.compile(r"[a-z0-9][a-z0-9._/:-]*(?<!\.tar)")
LimitsT = TypeVar("LimitsT", Limits, ContainerLimits)
_CEILINGS_OF: dict[type, Mapping[str, tuple[int, int]]] = {Limits: CEILINGS, ContainerLimits: CONTAINER_CEILINGS}


@dataclass(frozen=True, slots=True)
class PreparedSpec:
    """A spec whose content is in the store, as far as it came from files.

    `input_bytes` is what a node has to fetch for a bundle: the program, and the input or the bundle's files of it; None
    when one of them is a CID that is not here.
    """

    spec: AnySpec
    input_bytes: int | None
    roots: tuple[Cid, ...]
    task_count: int = 1


def prepare_spec(
    store: BlobStore,
    module: str,
    source: str | None = None,
    *,
    args: Sequence[str] = (),
    env: Sequence[str] = (),
    limits: Limits | None = None,
    partition: Partition | None = None,
    providers: Sequence[str] = (),
) -> PreparedSpec:
    """Add module and input to the store and describe the job.

    `module` and `source` are paths or CIDs (a path wins), `env` has items `NAME=VALUE`. With a `partition` that has a
    pattern the input is a directory, which `providers` are asked to list where it is not here. Raises DataError for a
    missing file or a module that is not WebAssembly, ValidationError for anything else that a spec does not allow.
    """
    limits = limits or Limits()
    module_cid, module_bytes = _add(store, module, "module", limits.module_bytes)
    input_cid, input_bytes, name = _add_input(store, source)
    spec = JobSpec(
        module=str(module_cid.to_v1()),
        input=str(input_cid.to_v1()) if input_cid else None,
        input_name=name,
        args=tuple(args),
        env=parse_env(env),
        limits=limits,
        partition=partition or Partition(),
    )
    return prepare_made(store, spec, module_bytes, input_bytes, providers)


def prepare_made(
    store: BlobStore, spec: AnySpec, program_bytes: int | None, input_bytes: int | None, providers: Sequence[str]
) -> PreparedSpec:
    """Keep a spec, and count its tasks and bytes; those of program and input are None where they are not here."""
    task_count = 1
    if (tasks := find_tasks(store, spec, providers)) is not None:
        task_count, input_bytes = len(tasks.tasks), tasks.count_most_bytes()
        for block in map(tasks.gather, range(count_bundles(task_count))):
            if block is not None:
                store.put(*block)
    store.put_raw(spec.to_bytes())
    known = None if program_bytes is None or input_bytes is None else program_bytes + input_bytes
    roots = tuple(Cid.parse(text) for text in spec.contents if not is_piece_text(text))
    return PreparedSpec(spec, known, roots, task_count)


def find_tasks(store: BlobStore, spec: AnySpec, providers: Sequence[str] = ()) -> TaskList | None:
    """The tasks of a partitioned spec; None for one whose whole input is a single task's.

    Raises ValidationError where the input has none, ContentUnavailable where neither we nor `providers` have what lists
    it.
    """
    if spec.input is None or spec.partition.pattern is None:
        return None
    try:
        return divide(fetch_listing(store, Cid.parse(spec.input), providers), spec.partition)
    except ContentUnavailable as error:
        raise ContentUnavailable(f"the input cannot be listed: {error} (--provider names a gateway)") from error


def prepare_container(
    store: BlobStore,
    image: str,
    source: str | None = None,
    *,
    image_id: str | None = None,
    entrypoint: str | None = None,
    args: Sequence[str] = (),
    env: Sequence[str] = (),
    limits: ContainerLimits | None = None,
    partition: Partition | None = None,
    providers: Sequence[str] = (),
) -> PreparedSpec:
    """Add image and input to the store and describe the job in a container.

    `image` is a docker-archive's path or CID, or NAME@sha256:… of a registry; `image_id` is needed for a CID that is
    not here. Raises DataError for an image that nodes would refuse, ValidationError for what a spec does not allow.
    """
    limits = limits or ContainerLimits()
    pinned, image_bytes = add_image(store, image, image_id, limits.image_bytes)
    input_cid, input_bytes, name = _add_input(store, source)
    spec = ContainerSpec(
        image=pinned,
        input=str(input_cid.to_v1()) if input_cid else None,
        input_name=name,
        entrypoint=(entrypoint,) if entrypoint else None,
        args=tuple(args),
        env=parse_env(env),
        limits=limits,
        partition=partition or Partition(),
    )
    return prepare_made(store, spec, image_bytes, input_bytes, providers)


def add_image(store: BlobStore, text: str, image_id: str | None, max_bytes: int) -> tuple[Image, int | None]:
    """A checked image with its archive's bytes; None for one that is not here. Errors as in `prepare_container`."""
    path = Path(text).expanduser()
    if not path.exists() and "@" in text:
        return Image(reference=text), 0
    if not path.exists():
        cid, size = _find_image(store, text)
        if size is None:
            if image_id is None:
                raise ValidationError(f"the image {text} is not in our store: give its id with --image-id sha256:…")
            return Image(str(cid.to_v1()), image_id), None
        with tempfile.TemporaryDirectory() as folder:
            store.export(cid, Path(folder, "image.tar"), max_bytes=max_bytes)
            return Image(str(cid.to_v1()), _check_image(Path(folder, "image.tar"), image_id, max_bytes)), size
    if not path.is_file():
        raise DataError(f"{path} is not a file: make an image of a folder with `quorate image build --rootfs`")
    found = _check_image(path, image_id, max_bytes)
    return Image(str(store.add_path(path.absolute()).to_v1()), found), path.stat().st_size


def _find_image(store: BlobStore, text: str) -> tuple[Cid, int | None]:
    try:
        return _add(store, text, "image")
    except DataError as error:
        if not _REGISTRY_NAME.fullmatch(text):
            raise
        raise DataError(
            f"{error}. If it is a tag of a registry: that may name another image tomorrow, so it is not run. Make "
            f"content of it (`docker export $(docker create {text}) | tar -x -C root`, in a new folder root, then "
            "`quorate image build --rootfs root --entrypoint PROGRAM --output-file image.tar`), or pin it as "
            "NAME@sha256:…, which only operators that allow its registry run"
        ) from None


def _check_image(path: Path, image_id: str | None, max_bytes: int) -> str:
    try:
        with path.open("rb") as file:
            _check_head(path, file.read(6))
            return verify_archive(file, path.stat().st_size, image_id, max_bytes).id
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def _check_head(path: Path, head: bytes) -> None:
    """Tell what else than an archive it is."""
    if head.startswith(b"\x7fELF"):
        raise DataError(f"{path} is a program, no image: make one of it with `quorate image build --binary {path}`")
    if head.startswith(WASM_MAGIC):
        raise DataError(f"{path} is a WebAssembly module, no image: `quorate wasm run` runs it")
    if head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh")):
        raise DataError(f"{path} is compressed, and an image is content as it is: unpack it (as by gunzip) first")


def _add_input(store: BlobStore, source: str | None) -> tuple[Cid | None, int | None, str]:
    """CID, size (None: not here) and name of the input."""
    if source is None:
        return None, 0, DEFAULT_INPUT_NAME
    cid, size = _add(store, source, "input")
    return cid, size, Path(source).name if Path(source).is_file() else DEFAULT_INPUT_NAME


MAX_DIGITS = 20


def parse_limits(base: LimitsT, items: Sequence[str]) -> LimitsT:
    """`base`, changed by `NAME=NUMBER` items. Raises ValidationError."""
    changed: dict[str, Any] = {}
    ceilings = _CEILINGS_OF[type(base)]
    names = [name for name in ceilings if name != "fuel"]
    for item in items:
        name, _, number = item.partition("=")
        if name not in names or not number.isdecimal() or not number.isascii():
            other = "; fuel is given by --fuel" if name == "fuel" else ""
            raise ValidationError(f"a limit is given as NAME=NUMBER, not {item!r}; names are {', '.join(names)}{other}")
        least, most = ceilings[name]
        if len(number) > MAX_DIGITS or not least <= int(number) <= most:
            raise ValidationError(f"the limit {item[:60]} is out of range: {name} is {least} to {most}")
        changed[name] = int(number)
    return replace(base, **changed)


def parse_env(items: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` items to a mapping. Raises ValidationError."""
    found = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name:
            raise ValidationError(f"a variable is given as NAME=VALUE, not {item!r}")
        check_text(item, f"the variable {item[:80]!r}")
        found[name] = value
    return found


def _add(store: BlobStore, text: str, what: str, max_module_bytes: int | None = None) -> tuple[Cid, int | None]:
    """CID and size in bytes; the size is None for content that is not here. An input may be a Filecoin piece."""
    path = Path(text).expanduser()
    if path.exists():
        if max_module_bytes is not None:
            check_module(path, max_module_bytes)
        return store.add_path(path.absolute()), _size_of(path)
    try:
        cid = Cid.parse(text)
    except DataError:
        raise DataError(f"{what} {text!r} is neither a file nor a CID: check the path") from None
    if what == "input" and is_piece_text(str(cid)):
        return cid, parse_piece_size(str(cid))
    return cid, find_size(store, cid)


def check_module(path: Path, max_bytes: int) -> None:
    """Raise DataError unless a file looks like a WebAssembly module of at most `max_bytes`."""
    if not path.is_file():
        raise DataError(f"{path} is not a file: give a .wasm module")
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    if head != WASM_MAGIC:
        raise DataError(
            f"{path} is not a WebAssembly module: compile the program for wasm32-wasi, as by "
            "`python -m ziglang cc -target wasm32-wasi -O2 program.c -o program.wasm` (which pip installs as ziglang)"
        )
    if (size := path.stat().st_size) > max_bytes:
        raise DataError(f"{path} has {size} bytes, over {max_bytes}: strip it, or give --limit module_bytes=N")


def _size_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(child.stat().st_size for child in path.rglob("*") if child.is_file())


def find_size(store: BlobStore, cid: Cid) -> int | None:
    """Bytes of a file, or of all files of a directory; None where not all of it is here."""
    try:
        if not store.is_complete(cid):
            return None
        try:
            return sum(entry.size for _, entry in store.walk(cid) if entry.kind == "file")
        except DataError:  # no directory
            return sum(len(chunk) for chunk in store.stream(cid))
    except BlockNotFound:
        return None
