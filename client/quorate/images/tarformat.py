"""Tar files that strangers made: entries in order, with every bound checked, and nothing unpacked.

Only what images need: regular files, folders, links, devices (named, for the caller to refuse), long names of GNU and
of POSIX. Sparse files, global headers and everything else are refused, since readers disagree about them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from quorate.protocol.errors import DataError

BLOCK_BYTES = 512
MAX_PATH_BYTES = 4096
MAX_HEADER_BYTES = 64 * 1024
MAX_TAR_ENTRIES = 1_000_000
_PIECE = 1 << 20

FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK, FOLDER, FIFO = "0", "1", "2", "3", "4", "5", "6"
_KINDS = {FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK, FOLDER, FIFO}


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One member: `offset` and `size` say where its bytes lie in the file, `target` where a link leads."""

    name: str
    kind: str
    offset: int
    size: int
    target: str = ""


def read_entries(file: BinaryIO, start: int, end: int) -> Iterator[TarEntry]:
    """The members of the tar between two offsets; DataError when it is malformed or holds more than its members."""
    at, said, count = start, dict[str, str](), 0
    while True:
        head = _read(file, at, BLOCK_BYTES, end)
        if not any(head):
            _check_rest(file, at, end)
            if said:
                raise DataError("the tar ends with a header for a member that does not follow")
            return
        count += 1
        if count > MAX_TAR_ENTRIES:
            raise DataError(f"the tar has more than {MAX_TAR_ENTRIES} members")
        _check_sum(head)
        at += BLOCK_BYTES
        kind, size = chr(head[156]) if head[156] else FILE, _number(head[124:136])
        if kind in "LKx":
            more = _read_header(kind, _read(file, at, _bounded(size), end))
            if said.keys() & more.keys() or "" in more.values():
                raise DataError("the tar says twice, or with nothing, what its next member is: readers differ in that")
            said |= more
            at += _padded(size)
            continue
        if kind not in _KINDS:
            raise DataError(f"the tar has a member of type {kind!r}, which is not read: only files, folders and links")
        size = _size(said.get("size"), size)
        entry = TarEntry(said.get("path", _name(head)), kind, at, size, said.get("linkpath", _text(head[157:257])))
        said = {}
        if kind != FILE and size:
            raise DataError(f"{entry.name[:200]!r} in the tar is no file, but has {size} bytes")
        if at + _padded(size) > end:
            raise DataError(f"{entry.name[:200]!r} in the tar is cut off")
        yield entry
        at += _padded(size)


def split_path(name: str) -> tuple[str, ...]:
    """The parts of a member's path below the root; DataError when it is absolute, climbs, or is no path."""
    if name.startswith("/") or "\0" in name or len(name.encode(errors="surrogateescape")) > MAX_PATH_BYTES:
        raise DataError(f"the path {name[:200]!r} is absolute, too long or holds NUL")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise DataError(f"the path {name[:200]!r} leads out of the archive")
    return parts


def _read(file: BinaryIO, at: int, size: int, end: int) -> bytes:
    if at + size > end:
        raise DataError("the tar is cut off")
    file.seek(at)
    data = file.read(size)
    if len(data) != size:
        raise DataError("the tar is cut off")
    return data


def _check_rest(file: BinaryIO, at: int, end: int) -> None:
    """After the first empty block nothing may follow: some readers would look there."""
    while at < end:
        piece = _read(file, at, min(_PIECE, end - at), end)
        if any(piece):
            raise DataError("bytes follow after the end of the tar")
        at += len(piece)


def _check_sum(head: bytes) -> None:
    if _number(head[148:156]) != sum(head[:148]) + 8 * 0x20 + sum(head[156:]):
        raise DataError("a header in the tar has a wrong checksum: it is no tar, or it is damaged")


def _number(field: bytes) -> int:
    text = field.strip(b"\0 ")
    if not text:
        return 0
    if not all(0x30 <= digit <= 0x37 for digit in text):
        raise DataError("a header in the tar has a number that is not octal")
    return int(text, 8)


def _size(said: str | None, found: int) -> int:
    if said is None:
        return found
    if not said.isascii() or not said.isdigit() or len(said) > 15:
        raise DataError(f"a header in the tar gives the size {said[:40]!r}")
    return int(said)


def _bounded(size: int) -> int:
    if size > MAX_HEADER_BYTES:
        raise DataError(f"a header in the tar has {size} bytes, over {MAX_HEADER_BYTES}")
    return size


def _padded(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="surrogateescape")


def _name(head: bytes) -> str:
    prefix = _text(head[345:500]) if head[257:263] == b"ustar\0" else ""
    return f"{prefix}/{_text(head[:100])}" if prefix else _text(head[:100])


def _read_header(kind: str, data: bytes) -> dict[str, str]:
    """What a header says of the member that follows."""
    if kind in "LK":
        return {"path" if kind == "L" else "linkpath": _text(data)}
    found: dict[str, str] = {}
    while data:
        length, space, _ = data.partition(b" ")
        size = int(length) if length.isdigit() and len(length) < 8 else 0
        record = data[:size]
        if not space or size <= len(length) + 1 or len(record) != size or not record.endswith(b"\n"):
            raise DataError("a POSIX header in the tar is malformed")
        name, sign, value = record[len(length) + 1 : -1].decode(errors="surrogateescape").partition("=")
        if not sign or name.startswith("GNU.sparse"):
            raise DataError(f"a POSIX header in the tar says {name[:80]!r}, which is not read")
        found[name] = value
        data = data[size:]
    return {name: value for name, value in found.items() if name in ("path", "linkpath", "size")}
