"""Job specs from what a person types: files or CIDs, arguments, variables, limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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

    spec: JobSpec
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
    name = DEFAULT_INPUT_NAME
    input_cid: Cid | None = None
    input_bytes: int | None = 0
    if source is not None:
        input_cid, input_bytes = _add(store, source, "input")
        if Path(source).is_file():
            name = Path(source).name
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
