"""What the profile makes of a module, told before anybody runs or pays for it: `quorate-node inspect`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import wasmtime

from quorate.protocol.errors import DataError
from quorate.protocol.spec import MIB, Limits
from quorate.storage.memory import MemoryStore
from quorate.terminal import make_printable
from quorate_node.executor.binary import SHOWN_LETTERS, Binary, Export, Import, Limit, Signature, read_binary
from quorate_node.executor.shape import Shape, find_excess, read_shape
from quorate_node.executor.wasm import NO_START, build_engine, describe_refusal, judge_import

PAGE_BYTES = 65_536
MAX_SHOWN = 1_000  # imports, and as many exports
MAX_REASONS = 20
MAX_NAME = 1_000  # letters of a name, or of a type


def inspect_module(wasm: bytes) -> dict[str, Any]:
    """Imports, exports and memory, and in `refused` every reason why the profile would not run it under `Limits()`."""
    store = MemoryStore()
    facts: dict[str, Any] = {"module": str(store.add_bytes(wasm).to_v1()), "bytes": len(wasm)}
    try:
        binary = read_binary(wasm)
    except DataError as error:
        return facts | {"runs": False, "refused": [str(error)], "imports": [], "exports": [], "memory": None}
    refused = _find_refusals(wasm, binary, read_shape(wasm))
    return facts | {
        "runs": not refused,
        "refused": _cut(refused),
        "warnings": list(_find_warnings(binary)),
        "imports": [_show_import(item) for item in binary.imports[:MAX_SHOWN]],
        "exports": [
            {"name": item.name[:MAX_NAME], "kind": item.kind}
            | ({"type": _show(item.signature)} if item.signature else {})
            for item in binary.exports[:MAX_SHOWN]
        ],
        "memory": _show_memory(binary.memories[0]) if binary.memories else None,
    }


def _cut(reasons: list[str]) -> list[str]:
    more = len(reasons) - MAX_REASONS
    return [*reasons[:MAX_REASONS], f"and {more} reasons more"] if more > 0 else reasons


def _problem(item: Import) -> str | None:
    types = item.detail if isinstance(item.detail, tuple) else None
    return judge_import(item.module, item.name, types)


def _find_refusals(wasm: bytes, binary: Binary, shape: Shape) -> list[str]:
    if shape.excess:  # the rest was not read to its end, so nothing is said of it
        return [shape.excess]
    malformed = [f"the module is malformed: {shape.fault}"] if shape.fault else []
    return [*malformed, *_find_faults(wasm, binary), *_find_needs(wasm, binary)]


def _find_faults(wasm: bytes, binary: Binary) -> Iterator[str]:
    try:
        wasmtime.Module.validate(build_engine(), wasm)
    except wasmtime.WasmtimeError as error:
        yield describe_refusal(error)
    for item in binary.imports:
        if problem := _problem(item):
            yield f"import {problem} is not offered"
    starts = [item for item in binary.exports if item.name == "_start"]
    if (not starts and not binary.stopped) or (starts and not _is_start(starts[0])):
        yield NO_START


def _find_needs(wasm: bytes, binary: Binary) -> Iterator[str]:
    limits = Limits()
    if len(wasm) > limits.module_bytes:
        yield f"it has {len(wasm)} bytes, over the default limit module_bytes = {limits.module_bytes}"
    for memory in binary.memories:
        if memory.minimum * PAGE_BYTES > limits.memory_bytes:
            size = memory.minimum * PAGE_BYTES
            yield f"it starts with {size} bytes of memory, over the default limit memory_bytes = {limits.memory_bytes}"
    if reason := find_excess(binary.tables, limits.table_elements):
        yield reason


def _is_start(item: Export) -> bool:
    return item.kind == "function" and item.signature in (None, ([], []))


def _find_warnings(binary: Binary) -> Iterator[str]:
    if binary.stopped:
        yield f"it was not read to its end, so this may not be all: {binary.stopped}"
    for name, count in (("imports", len(binary.imports)), ("exports", len(binary.exports))):
        if count > MAX_SHOWN:
            yield f"of {count} {name} the first {MAX_SHOWN} are shown"
    if binary.imports and not any((item.name, item.kind) == ("memory", "memory") for item in binary.exports):
        yield "it exports no memory named 'memory': its first call of a WASI function would trap"
    most = Limits().memory_bytes
    for memory in binary.memories:
        if memory.maximum is not None and memory.maximum * PAGE_BYTES > most:
            yield f"its memory may grow beyond memory_bytes ({most // MIB} MiB by default), where growing fails"


def _show(signature: Signature) -> str:
    parameters, results = (", ".join(types) for types in signature)
    return f"({parameters}) -> ({results})"[:MAX_NAME]


def _show_import(item: Import) -> dict[str, Any]:
    shown: dict[str, Any] = {"module": item.module[:MAX_NAME], "name": item.name[:MAX_NAME], "kind": item.kind}
    if isinstance(item.detail, tuple):
        shown["type"] = _show(item.detail)
    return shown | {"offered": _problem(item) is None}


def _show_memory(memory: Limit) -> dict[str, Any]:
    return {
        "minimum_bytes": memory.minimum * PAGE_BYTES,
        "maximum_bytes": None if memory.maximum is None else memory.maximum * PAGE_BYTES,
        "shared": memory.is_shared,
        "memory64": memory.is_64,
    }


def summarize(found: dict[str, Any]) -> dict[str, Any]:
    """The same with one line for each import and export, for a person to read."""
    imports = [
        f"{_name(item['module'])}.{_name(item['name'])}  {item.get('type', item['kind'])}"
        + ("" if item["offered"] else "  REFUSED")
        for item in found["imports"]
    ]
    exports = [f"{_name(item['name'])}  {item.get('type', item['kind'])}" for item in found["exports"]]
    return found | {"imports": imports, "exports": exports}


def _name(text: str) -> str:
    return make_printable(text, most=SHOWN_LETTERS)
