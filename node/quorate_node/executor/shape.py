"""How large a module may be in parts, told from its binary before anything is compiled, and alike on every host.

A module's few bytes may ask for much: a table's elements cost the host eight bytes each, a list of a million imports
minutes to look at. What is refused here is refused by every node, whatever memory and time it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from quorate.protocol.errors import DataError
from quorate_node.executor.binary import EXPORT, IMPORT, MAGIC, MAX_SECTIONS, TABLE, VERSION, Limit, Reader

MAX_COUNTS = {IMPORT: ("imports", 1_000), EXPORT: ("exports", 100_000)}
MAX_TABLES = 100


@dataclass(slots=True)
class Shape:
    """`tables` that the module makes; `excess` is why the profile refuses it; `fault` where it is malformed."""

    tables: list[Limit] = field(default_factory=list)
    excess: str = ""
    fault: str = ""


def read_shape(wasm: bytes) -> Shape:
    """Walk over the sections, looking into as few of them as are needed; takes no longer for any bytes."""
    found = Shape()
    if wasm[:8] != MAGIC + VERSION:
        found.fault = "this is no core module"
        return found
    reader, count = Reader(memoryview(wasm)[8:]), 0
    try:
        while not (reader.is_at_end or found.excess):
            count += 1
            section = reader.byte()
            _look(found, section, reader.section())
            if count > MAX_SECTIONS:
                found.excess = f"the module has more than {MAX_SECTIONS} sections: strip it"
    except DataError as error:
        found.fault = str(error)
    return found


def _look(found: Shape, section: int, reader: Reader) -> None:
    if section in MAX_COUNTS:
        name, most = MAX_COUNTS[section]
        if (count := reader.number()) > most:
            found.excess = f"the module lists {count} {name}; the profile takes at most {most}"
    elif section == TABLE:
        if (count := reader.number()) > MAX_TABLES - len(found.tables):
            found.excess = f"the module has {count} tables; the profile takes at most {MAX_TABLES}"
            return
        found.tables += [reader.table() for _ in range(count)]


def share_elements(tables: Sequence[Limit], total: int) -> int | None:
    """Elements that any single table may have so that all of them together never have more than `total`.

    The most that does, for the engine takes one number for all tables. None where the module asks for more than
    `total` by what its tables start with, or where a small table could grow to what a large one starts with.
    """
    least = max((table.minimum for table in tables), default=0)
    if not tables or _sum_at(tables, total) <= total:
        return None if least > total else total
    if _sum_at(tables, least) > total:
        return None
    low, high = least, total  # fits, does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _sum_at(tables, middle) <= total else (low, middle)
    return low


def find_excess(tables: Sequence[Limit], total: int) -> str | None:
    """Why tables are refused under `table_elements` = total, or None."""
    if share_elements(tables, total) is not None:
        return None
    started = sum(table.minimum for table in tables)
    if started > total:
        return f"its tables start with {started} elements in all, over table_elements = {total}"
    needed = _sum_at(tables, max(table.minimum for table in tables))
    return (
        f"its tables may have {needed} elements in all before any grows beyond the largest, over table_elements = "
        f"{total}: raise that, or give the small tables a maximum"
    )


def _sum_at(tables: Sequence[Limit], most: int) -> int:
    """Elements of all tables when each has grown as far as `most` allows, or its own maximum."""
    return sum(max(table.minimum, most if table.maximum is None else min(most, table.maximum)) for table in tables)
