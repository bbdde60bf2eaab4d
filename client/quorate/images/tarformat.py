"""Tar files that strangers made: entries in order, with every bound checked, and nothing unpacked.

Only what images need: regular files, folders, links, devices (named, for the caller to refuse), long names of GNU and
of POSIX. Sparse files, global headers, extended attributes and everything else are refused, and so is each place where
readers are known to disagree: old forms of headers, things said twice, data that some take for compressed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from quorate.protocol.errors import DataError

BLOCK_BYTES = 512
MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_DEPTH = 256
MAX_HEADER_BYTES = 64 * 1024
MAX_TAR_ENTRIES = 1_000_000
MAX_MODE = 0o7777
MAX_OWNER = 2**32 - 1
_PIECE = 1 << 20

FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK, FOLDER, FIFO = "0", "1", "2", "3", "4", "5", "6"
_KINDS = {FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK, FOLDER, FIFO}
_TYPE_BITS = {FILE: 0o100000, HARD_LINK: 0o100000, SYMLINK: 0o120000, CHARACTER: 0o020000, BLOCK: 0o060000,
              FOLDER: 0o040000, FIFO: 0o010000}  # fmt: skip
"""What Docker adds to modes; where that names another type than the member has, readers differ."""

_POSIX, _GNU = b"ustar\x0000", b"ustar  \0"
_PREFIX = slice(345, 500)
_STAR = b"tar\0"  # at the end of a header: a third form, whose prefix is shorter
_COMPRESSED = re.compile(rb"BZh|\x1f\x8b\x08|\xfd7zXZ\0|\(\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
_DECIMAL = re.compile(r"[0-9]{1,10}(\.[0-9]{0,15})?")
_NUMBER = re.compile(r"[0-9]{1,15}")
_SAID = {"path": None, "linkpath": None, "uname": None, "gname": None, "size": _NUMBER, "uid": _NUMBER, "gid": _NUMBER,
         "mtime": _DECIMAL, "atime": _DECIMAL, "ctime": _DECIMAL}  # fmt: skip
"""What an extended header may say of its member; what is not a text has a form."""


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One member: `offset` and `size` say where its bytes lie in the file, `target` where a link leads.

    `rights` are its mode, its owner's and its group's number.
    """

    name: str
    kind: str
    offset: int
    size: int
    target: str = ""
    rights: tuple[int, int, int] = (0o644, 0, 0)


class _Reader:
    """Goes through a tar between two offsets, and knows where it is for who has to repair it."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._at, self._end = file, start, end
        self._said: dict[str, str] = {}
        self._count, self._last = 1, ""

    def describe_place(self) -> str:
        """The member that is read now."""
        after = f", after {self._last[:200]!r}" if self._last else ""
        return f"member {self._count} of the tar{after}"

    def read_all(self) -> Iterator[TarEntry]:
        """The members; DataError, which does not yet say where."""
        if _COMPRESSED.match(self._take(BLOCK_BYTES)):
            raise DataError("it begins like a compressed file, which some daemons would unpack: no plain tar")
        self._at -= BLOCK_BYTES
        while any(head := self._take(BLOCK_BYTES)):
            if (entry := self._read_member(head)) is None:
                continue
            yield entry
            self._at += _padded(entry.size)
            self._count, self._last = self._count + 1, entry.name
            if self._count > MAX_TAR_ENTRIES:
                raise DataError(f"there are more than {MAX_TAR_ENTRIES} members")
        if self._said:
            raise DataError("the tar ends with a header for a member that does not follow")
        self._check_rest()

    def _take(self, size: int) -> bytes:
        if self._at + size > self._end:
            raise DataError("the tar is cut off")
        self._file.seek(self._at)
        data = self._file.read(size)
        if len(data) != size:
            raise DataError("the tar is cut off")
        self._at += size
        return data

    def _read_member(self, head: bytes) -> TarEntry | None:
        """None for a header that tells more of the member after it."""
        _check_form(head)
        kind, size = chr(head[156]), _number(head[124:136], "size")
        rights = tuple(_number(head[at : at + 8], what) for at, what in ((100, "mode"), (108, "owner"), (116, "group")))
        _number(head[136:148], "time")
        if kind in "LKx":
            self._hear(kind, size)
            return None
        if kind not in _KINDS:
            raise DataError(f"it is of type {kind!r}, which is not read: only files, folders and links")
        said, self._said = self._said, {}
        size = int(said.get("size", size))
        name, target = said.get("path", _name(head)), said.get("linkpath", _text(head[157:257]))
        mode, uid, gid = rights[0], int(said.get("uid", rights[1])), int(said.get("gid", rights[2]))
        if mode & ~MAX_MODE not in (0, _TYPE_BITS[kind]) or max(uid, gid) >= MAX_OWNER:
            raise DataError(f"{name[:200]!r} has the mode {mode:o} and the owner {uid}:{gid}, which it cannot have")
        entry = TarEntry(name, kind, self._at, size, target, (mode & MAX_MODE, uid, gid))
        if kind != FILE and size:
            raise DataError(f"{name[:200]!r} is no file, but has {size} bytes")
        if kind != FOLDER and name.endswith("/"):
            raise DataError(f"{name[:200]!r} is named like a folder and is none")
        if self._at + _padded(size) > self._end:
            raise DataError(f"{name[:200]!r} is cut off")
        return entry

    def _hear(self, kind: str, size: int) -> None:
        """Keep what a header says of the next member."""
        if size > MAX_HEADER_BYTES:
            raise DataError(f"a header has {size} bytes, over {MAX_HEADER_BYTES}")
        data = self._take(_padded(size))[:size]
        more = _read_records(data) if kind == "x" else {"path" if kind == "L" else "linkpath": _text(data)}
        is_mixed = bool(self._said) and (kind == "x" or not self._said.keys() <= {"path", "linkpath"})
        if is_mixed or self._said.keys() & more.keys() or "" in more.values():
            raise DataError("two headers, or an empty one, say what the next member is: readers differ in that")
        self._said |= more

    def _check_rest(self) -> None:
        """After the first empty block nothing may follow: some readers would look there."""
        while self._at < self._end:
            if any(self._take(min(_PIECE, self._end - self._at))):
                raise DataError("bytes follow after the end of the tar")


def read_entries(file: BinaryIO, start: int, end: int) -> Iterator[TarEntry]:
    """The members of the tar between two offsets.

    Raises DataError, which says at which member, when it is malformed, ambiguous, or holds more than its members.
    """
    reader = _Reader(file, start, end)
    entries = reader.read_all()
    while True:
        try:
            entry = next(entries, None)
        except DataError as error:
            raise DataError(f"{reader.describe_place()}: {error}") from error
        if entry is None:
            return
        yield entry


def split_path(name: str) -> tuple[str, ...]:
    """The parts of a member's path below the root; DataError when it is absolute, climbs, or is no path."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise DataError(f"the path {name[:200]!r} is not UTF-8") from None
    if name.startswith("/") or "\0" in name or size > MAX_PATH_BYTES:
        raise DataError(f"the path {name[:200]!r} is absolute, too long or holds NUL")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise DataError(f"the path {name[:200]!r} leads out of the archive")
    if len(parts) > MAX_DEPTH or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise DataError(
            f"the path {name[:200]!r} is deeper than {MAX_DEPTH} folders or has a part of over {MAX_NAME_BYTES} bytes"
        )
    return parts


def _check_form(head: bytes) -> None:
    if _number(head[148:156], "checksum") != sum(head[:148]) + 8 * 0x20 + sum(head[156:]):
        raise DataError("its header has a wrong checksum: this is no tar, or it is compressed or damaged")
    form = head[257:265]
    is_clear = (form == _POSIX and head[508:512] != _STAR) or (form == _GNU and not any(head[_PREFIX]))
    if not is_clear or head[156] == 0:
        raise DataError("its header is of an old form, which readers take differently: write POSIX (pax) or GNU tar")


def _number(field: bytes, what: str) -> int:
    text = field.strip(b"\0 ")
    if not all(0x30 <= digit <= 0x37 for digit in text):
        raise DataError(f"its {what} is not a number in octal digits")
    return int(text or b"0", 8)


def _padded(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="surrogateescape")


def _name(head: bytes) -> str:
    prefix = _text(head[_PREFIX])
    return f"{prefix}/{_text(head[:100])}" if prefix else _text(head[:100])


def _read_records(data: bytes) -> dict[str, str]:
    """What an extended header of POSIX says of the member that follows."""
    found: dict[str, str] = {}
    while data:
        length, space, _ = data.partition(b" ")
        size = int(length) if length.isdigit() and len(length) < 8 else 0
        record = data[:size]
        is_plain = bool(space) and str(size).encode() == length and len(record) == size and record.endswith(b"\n")
        if not is_plain or size <= len(length) + 1:
            raise DataError("an extended header is malformed")
        name, sign, value = record[len(length) + 1 : -1].decode(errors="surrogateescape").partition("=")
        if ".xattr." in name or ".acl" in name.lower() or "selinux" in name:
            raise DataError(f"it has the extended attribute {name[:80]!r}, which not every daemon keeps: leave it out")
        if not sign or name not in _SAID:
            raise DataError(f"an extended header says {name[:80]!r}, which is not read")
        form = _SAID[name]
        if name in found or "\0" in value or (form is not None and not form.fullmatch(value)):
            raise DataError(f"an extended header says {name!r} twice, or in a way that readers take differently")
        found[name] = value
        data = data[size:]
    return found
