"""What a WebAssembly module says of itself: imports, exports, memories and tables, read from the binary format.

Unlike the engine this also reads modules that the profile refuses, and compiles nothing. It trusts no length in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from quorate.protocol.errors import DataError
from quorate.terminal import make_printable

SHOWN_LETTERS = 100  # of a name in a message
MAGIC, VERSION = b"\0asm", b"\1\0\0\0"
KINDS = ("function", "table", "memory", "global", "tag")
VALUE_TYPES = {
    0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128", 0x70: "funcref", 0x6F: "externref",
    0x69: "exnref", 0x6E: "anyref", 0x6D: "eqref", 0x6C: "i31ref", 0x6B: "structref", 0x6A: "arrayref",
}  # fmt: skip
FUNCTION_TYPE = 0x60
TYPE, IMPORT, FUNCTION, TABLE, MEMORY, EXPORT = 1, 2, 3, 4, 5, 7
MAX_SECTIONS = 10_000
MAX_READ = 400_000  # items of all lists together: a second or two, whatever the module

Item = TypeVar("Item")
Signature = tuple[list[str], list[str]]


@dataclass(frozen=True, slots=True)
class Limit:
    """Size of a memory in pages or of a table in elements."""

    minimum: int
    maximum: int | None
    is_shared: bool
    is_64: bool


@dataclass(frozen=True, slots=True)
class Import:
    """One import; `detail` is a Signature, a Limit or None."""

    module: str
    name: str
    kind: str
    detail: Signature | Limit | None


@dataclass(frozen=True, slots=True)
class Export:
    """One export; `signature` of a function."""

    name: str
    kind: str
    signature: Signature | None


@dataclass(slots=True)
class Binary:
    """What was found. `stopped` says why reading ended early, where it did: what follows is not known."""

    imports: list[Import] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)
    memories: list[Limit] = field(default_factory=list)
    tables: list[Limit] = field(default_factory=list)
    types: list[Signature | None] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)  # types of all functions, imported ones first
    stopped: str = ""


@dataclass(slots=True)
class Allowance:
    """Items that may still be read."""

    left: int = MAX_READ

    def spend(self, count: int) -> None:
        """DataError where that is too much."""
        if count > self.left:
            raise DataError(f"it lists more than {MAX_READ} items, or says so")
        self.left -= count


class Reader:
    """A position in bytes; DataError beyond their end."""

    def __init__(self, data: memoryview, allowance: Allowance | None = None) -> None:
        self._data, self.at, self._allowance = data, 0, allowance or Allowance()

    def section(self) -> Reader:
        """What follows, with its length before it; on the same allowance."""
        return Reader(self.take(self.number()), self._allowance)

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left."""
        return self.at >= len(self._data)

    def take(self, size: int) -> memoryview:
        """The next `size` bytes."""
        if size > len(self._data) - self.at:
            raise DataError(f"it ends within {size} bytes at {self.at}")
        self.at += size
        return self._data[self.at - size : self.at]

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def number(self) -> int:
        """An unsigned LEB128 of at most 64 bits."""
        value, shift = 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise DataError(f"a number before {self.at} is too long")

    def name(self) -> str:
        """A name."""
        return bytes(self.take(self.number())).decode(errors="replace")

    def items(self, read: Callable[[], Item]) -> list[Item]:
        """A counted list."""
        return [read() for _ in range(self.count())]

    def count(self) -> int:
        """How many items follow; DataError if that is more than anybody should read."""
        count = self.number()
        self._allowance.spend(count)
        return count

    def value_type(self) -> str:
        """A value type; those of later proposals are not told apart."""
        code = self.byte()
        if code in (0x63, 0x64):  # a reference to a type: its index follows
            self.number()
            return "ref"
        return VALUE_TYPES.get(code, f"type {code:#x}")

    def limit(self) -> Limit:
        """Limits of a memory or a table."""
        flags = self.number()
        minimum = self.number()
        maximum = self.number() if flags & 1 else None
        if flags & 8:  # pages of another size
            self.number()
        return Limit(minimum, maximum, bool(flags & 2), bool(flags & 4))

    def table(self) -> Limit:
        """A table's limits; one with an initial value has a longer form, which ends the reading."""
        self.value_type()
        return self.limit()


def read_binary(wasm: bytes) -> Binary:
    """Read as far as it makes sense; DataError if it is not a core module at all."""
    if wasm[:4] != MAGIC:
        raise DataError("this is not a WebAssembly module")
    if wasm[4:8] != VERSION:
        raise DataError("this is a WebAssembly component, or of another version: build a core module for wasip1")
    found, reader, count = Binary(), Reader(memoryview(wasm)[8:]), 0
    try:
        while not reader.is_at_end:
            count += 1
            if count > MAX_SECTIONS:
                raise DataError(f"it has more than {MAX_SECTIONS} sections")
            section = reader.byte()
            _read_section(found, section, reader.section())
    except DataError as error:
        found.stopped = str(error)
    return found


def _read_section(found: Binary, section: int, reader: Reader) -> None:
    if section == TYPE:
        _read_types(found, reader)
    elif section == IMPORT:
        found.imports = reader.items(lambda: _read_import(found, reader))
    elif section == FUNCTION:
        found.functions += reader.items(reader.number)
    elif section == TABLE:
        found.tables += reader.items(reader.table)
    elif section == MEMORY:
        found.memories += reader.items(reader.limit)
    elif section == EXPORT:
        found.exports = reader.items(lambda: _read_export(found, reader))


def _read_types(found: Binary, reader: Reader) -> None:
    """Function types; at the first of another form (of a later proposal) the rest is left unknown."""
    for _ in range(reader.count()):
        if reader.byte() != FUNCTION_TYPE:
            return
        found.types.append((reader.items(reader.value_type), reader.items(reader.value_type)))


def _signature(found: Binary, index: int) -> Signature | None:
    return found.types[index] if index < len(found.types) else None


def _read_import(found: Binary, reader: Reader) -> Import:
    module, name, code = reader.name(), reader.name(), reader.byte()
    detail: Signature | Limit | None = None
    if code == 0:
        found.functions.append(reader.number())
        detail = _signature(found, found.functions[-1])
    elif code == 1:
        detail = reader.table()
        found.tables.append(detail)
    elif code == 2:
        detail = reader.limit()
        found.memories.append(detail)
    elif code == 3:
        reader.value_type()
        reader.byte()
    elif code == 4:
        reader.byte()
        reader.number()
    else:
        raise DataError(
            f"import {make_printable(f'{module}.{name}', most=SHOWN_LETTERS)} is of the unknown kind {code}"
        )
    return Import(module, name, KINDS[code], detail)


def _read_export(found: Binary, reader: Reader) -> Export:
    name, code, index = reader.name(), reader.byte(), reader.number()
    if code >= len(KINDS):
        raise DataError(f"export {make_printable(name, most=SHOWN_LETTERS)} is of the unknown kind {code}")
    is_known = code == 0 and index < len(found.functions)
    return Export(name, KINDS[code], _signature(found, found.functions[index]) if is_known else None)
