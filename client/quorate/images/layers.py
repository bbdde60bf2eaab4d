"""An image's layers, one over the other: only what all daemons unpack alike is taken.

Storage drivers either unpack a layer onto the one below or beside it, and lay them over each other later. They agree
as long as each layer names the folders that it changes, its links lead to nothing outside of it, and what it removes
is there. So everything else is refused, here and alike by everybody.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import BinaryIO

from quorate.images.tarformat import (
    BLOCK,
    CHARACTER,
    FIFO,
    FILE,
    FOLDER,
    HARD_LINK,
    SYMLINK,
    TarEntry,
    read_entries,
    split_path,
)
from quorate.protocol.errors import DataError

MAX_FILES = 500_000
REMOVED = ".wh."
"""An empty file of this name and another after it removes that other one of the layers below."""
OUR_FOLDERS = ("inputs", "outputs", "tmp")
FOLDERS = frozenset({*OUR_FOLDERS, "proc", "sys", "dev", "etc"})
"""Places where something is mounted: through a link at one of them another one would be, in whatever order."""
FILES = frozenset({"etc/hosts", "etc/hostname", "etc/resolv.conf", "sbin/docker-init", "usr/sbin/docker-init",
                   ".dockerenv"})  # fmt: skip
"""Files that a daemon puts there, or mounts."""
ROOT_RIGHTS = (0o755, 0, 0)


@dataclass(slots=True)
class Folder:
    """A folder of the image, with what lies in it: folders, and of all else the kind."""

    children: dict[str, Folder | str] = field(default_factory=dict)


class Tree:
    """The image's file system as it is after the layers so far. `files` and `bytes` count what all layers hold."""

    def __init__(self) -> None:
        self.root = Folder()
        self.files = self.bytes = 0

    def add_layer(self, file: BinaryIO, start: int, end: int, max_bytes: int) -> None:
        """Lay the tar between two offsets over it. Raises DataError for what is hostile, or ambiguous, or too much."""
        layer = _Layer(self)
        for entry in read_entries(file, start, end):
            layer.add(entry)
            self.files, self.bytes = self.files + 1, self.bytes + entry.size
            if self.files > MAX_FILES or self.bytes > max_bytes:
                raise DataError(f"the layers hold more than {MAX_FILES} files or {max_bytes} bytes")

    def find(self, parts: tuple[str, ...]) -> Folder | str | None:
        """What is there; None also where the way leads through something that is no folder."""
        place: Folder | str | None = self.root
        for part in parts:
            place = place.children.get(part) if isinstance(place, Folder) else None
        return place

    def check_working_dir(self, path: str) -> None:
        """Raise DataError unless a program can start there, whatever the daemon makes of folders that are missing."""
        parts = tuple(path.strip("/").split("/")) if path.strip("/") else ()
        if len(parts) == 1 and parts[0] in OUR_FOLDERS:
            return
        if not isinstance(self.find(parts), Folder):
            raise DataError(f"WorkingDir {path[:200]!r} is no folder in the image: put one there, or start in /")


def check_working_dir_text(path: str) -> None:
    """Raise DataError for a folder that daemons would make, or find, in different ways."""
    if not path.startswith("/") or path != posixpath.normpath(path) or path.startswith("//"):
        raise DataError(f"WorkingDir {path[:200]!r} is not absolute, or not in its shortest form")
    first, *below = path.strip("/").split("/")
    if first in ("proc", "sys", "dev") or (first in OUR_FOLDERS and below):
        raise DataError(
            f"WorkingDir {path[:200]!r} lies where something is mounted, so what is there differs: choose another"
        )


class _Layer:
    """One layer while it is read: what it has named itself, with rights, and what it removes."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._own: dict[tuple[str, ...], tuple[str, tuple[int, int, int]]] = {}
        self._removed: set[tuple[str, ...]] = set()
        self._kinds: dict[tuple[str, tuple[int, int, int]], tuple[str, tuple[int, int, int]]] = {}

    def add(self, entry: TarEntry) -> None:
        parts, name = split_path(entry.name), entry.name[:200]
        if parts in self._own:
            raise DataError(f"{name!r} is there twice")
        self._check(entry, parts)
        kind = entry.kind, entry.rights
        self._own[parts] = self._kinds.setdefault(kind, kind)  # few differ, and there may be many files
        if not parts:
            return
        above = self._find_parent(parts, name)
        if parts[-1].startswith(REMOVED):
            self._remove(entry, parts, above)
            return
        if parts in self._removed:
            raise DataError(f"{name!r} is removed and there: let a layer do one of both")
        below = above.children.get(parts[-1])
        if entry.kind == FOLDER:
            if below is not None and not isinstance(below, Folder):
                raise DataError(f"the folder {name!r} replaces a file or link of a layer below: remove that before")
            above.children[parts[-1]] = below or Folder()
        else:
            above.children[parts[-1]] = entry.kind

    def _find_parent(self, parts: tuple[str, ...], name: str) -> Folder:
        """A folder that this layer names itself: others would be made anew, with rights that differ."""
        parent = parts[:-1]
        if parent and self._own.get(parent, ("",))[0] != FOLDER:
            path = "/".join(parent)[:200]
            if parent in self._own:
                raise DataError(f"{name!r} lies beyond a link or a file, {path!r}")
            raise DataError(f"{name!r} comes before its folder {path!r}, which each layer that changes it must name")
        found = self._tree.find(parent)
        assert isinstance(found, Folder)  # what a layer names itself it neither removes nor replaces
        return found

    def _remove(self, entry: TarEntry, parts: tuple[str, ...], above: Folder) -> None:
        name, gone = entry.name[:200], parts[-1].removeprefix(REMOVED)
        if gone.startswith(REMOVED):
            raise DataError(
                f"{name!r} is a marker which daemons treat differently: name what is removed, one by one, as .wh.NAME"
            )
        if entry.kind != FILE or entry.size:
            raise DataError(f"{name!r} marks something as removed, and is no empty file")
        place = (*parts[:-1], gone)
        if place in self._own:
            raise DataError(f"{name!r} removes what the same layer puts there: let a layer do one of both")
        if above.children.pop(gone, None) is None:
            raise DataError(f"{name!r} removes nothing: no layer below has {gone[:200]!r} there")
        self._removed.add(place)

    def _check(self, entry: TarEntry, parts: tuple[str, ...]) -> None:
        name, path = entry.name[:200], "/".join(parts)
        if entry.kind in (CHARACTER, BLOCK, FIFO):
            raise DataError(f"{name!r} is a device or a pipe")
        if not parts and (entry.kind != FOLDER or entry.rights != ROOT_RIGHTS):
            raise DataError(f"{name!r}, the root, must be a folder of mode 0755 that belongs to 0:0, or be left out")
        if entry.kind != FOLDER and path in FOLDERS:
            raise DataError(f"{name!r} must be a folder: something is mounted there")
        if entry.kind != FILE and path in FILES:
            raise DataError(f"{name!r} must be a file, or be left out: a file is mounted there")
        if entry.kind == SYMLINK:
            _check_link(entry, len(parts) - 1)
        elif entry.kind == HARD_LINK:
            self._check_hard_link(entry)

    def _check_hard_link(self, entry: TarEntry) -> None:
        kind, rights = self._own.get(split_path(entry.target), ("", None))
        if kind not in (FILE, HARD_LINK) or split_path(entry.target)[-1].startswith(REMOVED):
            raise DataError(
                f"the hard link {entry.name[:200]!r} leads to nothing before it in its layer, or to what is no file: "
                f"{entry.target[:200]!r}"
            )
        if rights != entry.rights:
            raise DataError(f"the hard link {entry.name[:200]!r} has another mode or owner than {entry.target[:200]!r}")


def _check_link(entry: TarEntry, depth: int) -> None:
    """An absolute target is taken from the container's root; a relative one must not climb over it."""
    target = entry.target
    if not target or len(target.encode(errors="surrogateescape")) > 4095 or not _is_text(target):
        raise DataError(f"the link {entry.name[:200]!r} leads nowhere, or to what is no path in UTF-8")
    if target.startswith("/"):
        return
    for part in target.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            raise DataError(f"the link {entry.name[:200]!r} leads out of the image: {target[:200]!r}")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
