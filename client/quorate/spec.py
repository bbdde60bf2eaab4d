"""Job specs from what a person types: files or CIDs, arguments, variables, limits."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quorate.images.archive import verify_archive
from quorate.protocol.container import AnySpec, ContainerLimits, ContainerSpec, Image
from quorate.protocol.errors import ConfigurationError, DataError, ValidationError
from quorate.protocol.spec import CEILINGS, DEFAULT_INPUT_NAME, JobSpec, Limits
from quorate.storage.base import BlobStore, BlockNotFound
from quorate.storage.cid import Cid

WASM_MAGIC = b"\0asm"


@dataclass(frozen=True, slots=True)
class PreparedSpec:
    """A spec whose content is in the store, as far as it came from files.

    `input_bytes` is what a node has to fetch: module and input together; None when the input is a CID that is not here.
    """

    spec: AnySpec
    input_bytes: int | None
    roots: tuple[Cid, ...]


def prepare_spec(
    store: BlobStore,
    module: str,
    source: str | None = None,
    *,
    args: Sequence[str] = (),
    env: Sequence[str] = (),
    limits: Limits | None = None,
) -> PreparedSpec:
    """Add module and input to the store and describe the job.

    `module` and `source` are paths or CIDs (a path wins), `env` has items `NAME=VALUE`. Raises DataError for a missing
    file or a module that is not WebAssembly, ValidationError for anything else that a spec does not allow.
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
    )
    store.put_raw(spec.to_bytes())
    known = None if module_bytes is None or input_bytes is None else module_bytes + input_bytes
    return PreparedSpec(spec, known, tuple(cid for cid in (module_cid, input_cid) if cid))


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
    )
    store.put_raw(spec.to_bytes())
    known = None if image_bytes is None or input_bytes is None else image_bytes + input_bytes
    return PreparedSpec(spec, known, tuple(Cid.parse(text) for text in spec.contents))


def add_image(store: BlobStore, text: str, image_id: str | None, max_bytes: int) -> tuple[Image, int | None]:
    """A checked image with its archive's bytes; None for one that is not here. Errors as in `prepare_container`."""
    path = Path(text).expanduser()
    if not path.exists() and "@" in text:
        return Image(reference=text), 0
    if not path.exists():
        cid, size = _add(store, text, "image")
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


def _check_image(path: Path, image_id: str | None, max_bytes: int) -> str:
    try:
        with path.open("rb") as file:
            return verify_archive(file, path.stat().st_size, image_id, max_bytes).id
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def _add_input(store: BlobStore, source: str | None) -> tuple[Cid | None, int | None, str]:
    """CID, size (None: not here) and name of the input."""
    if source is None:
        return None, 0, DEFAULT_INPUT_NAME
    cid, size = _add(store, source, "input")
    return cid, size, Path(source).name if Path(source).is_file() else DEFAULT_INPUT_NAME


def parse_limits(base: Limits, items: Sequence[str]) -> Limits:
    """`base`, changed by `NAME=NUMBER` items. Raises ValidationError."""
    changed: dict[str, int] = {}
    names = [name for name in CEILINGS if name != "fuel"]
    for item in items:
        name, _, number = item.partition("=")
        if name not in names or not number.isdecimal() or not number.isascii():
            raise ValidationError(f"a limit is given as NAME=NUMBER, not {item!r}; names are {', '.join(names)}")
        changed[name] = int(number)
    return replace(base, **changed)


def parse_env(items: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` items to a mapping. Raises ValidationError."""
    found = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name:
            raise ValidationError(f"a variable is given as NAME=VALUE, not {item!r}")
        found[name] = value
    return found


def _add(store: BlobStore, text: str, what: str, max_module_bytes: int | None = None) -> tuple[Cid, int | None]:
    """CID and size in bytes; the size is None for content that is not here."""
    path = Path(text).expanduser()
    if path.exists():
        if max_module_bytes is not None:
            check_module(path, max_module_bytes)
        return store.add_path(path.absolute()), _size_of(path)
    try:
        cid = Cid.parse(text)
    except DataError:
        raise DataError(f"{what} {text!r} is neither a file nor a CID: check the path") from None
    return cid, _size_in_store(store, cid)


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
        raise DataError(f"{path} is not a WebAssembly module: compile the program for wasm32-wasi")
    if (size := path.stat().st_size) > max_bytes:
        raise DataError(f"{path} has {size} bytes, over {max_bytes}: strip it, or raise limits.module_bytes")


def _size_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(child.stat().st_size for child in path.rglob("*") if child.is_file())


def _size_in_store(store: BlobStore, cid: Cid) -> int | None:
    try:
        if not store.is_complete(cid):
            return None
        try:
            return sum(entry.size for _, entry in store.walk(cid) if entry.kind == "file")
        except DataError:  # no directory
            return sum(len(chunk) for chunk in store.stream(cid))
    except BlockNotFound:
        return None
