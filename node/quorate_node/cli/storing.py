"""What the `store` commands do."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from quorate.protocol.errors import DataError
from quorate.storage import adding, exporting, reader
from quorate.storage.base import BlockNotFound, CarReport
from quorate.storage.cid import Cid
from quorate.storage.dagpb import Link
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.traversal import Traversal
from quorate.storage.unixfs import profile_named
from quorate.terminal import make_printable

CHUNK_BYTES = 1 << 20
MAX_PIPED_BYTES = 1 << 40  # a small DAG can claim any size
OnBytes = Callable[[int], None]


@contextmanager
def opened(folder: Path | None, home: Path, *, creates: bool = False) -> Iterator[EmbeddedStore]:
    """The store that a command means; DataError when there is none and the command does not make one."""
    directory = (folder or home / "store").expanduser()
    if not creates and not (directory / "index.sqlite3").is_file():
        raise DataError(f"there is no store in {directory}; `quorate-node store add PATH --store DIR` makes one")
    with closing(EmbeddedStore(directory)) as store:
        yield store


@contextmanager
def progress(title: str, total: int | None) -> Iterator[OnBytes | None]:
    """A bar on a terminal's standard error; elsewhere nothing."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from quorate.cli.output import stderr

    if not stderr.is_terminal:
        yield None
        return
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True) as shown:
        task = shown.add_task(make_printable(title), total=total)
        yield lambda count: shown.advance(task, count)


def add(store: EmbeddedStore, path: str, profile: str, *, copy: bool, pin: bool) -> dict[str, Any]:
    """Keep a file, a folder or standard input."""
    chosen, before = profile_named(profile), store.stats()
    with store.keeping(), progress(path, None if path == "-" else size_of(Path(path))) as tell:
        counter = _Counter(tell)
        if path == "-":
            cid = store.add_stream(counter.reading(sys.stdin.buffer), chosen)
        else:
            cid = store.add_path(_resolved(path), profile, copy=copy, on_bytes=counter.count)
        if pin:
            store.pin(cid)
    new = store.stats().blocks - before.blocks
    return {"cid": str(cid), "path": path, "bytes": counter.total, "new_blocks": new} | {
        "profile": profile,
        "pinned": pin,
        "store": str(store.directory),
    }


def hash_only(path: str, profile: str) -> dict[str, Any]:
    """The CID that `add` would give."""
    chosen, session = profile_named(profile), adding.Hashing()
    with progress(path, None if path == "-" else size_of(Path(path))) as tell:
        counter = _Counter(tell)
        if path == "-":
            part = adding.add_stream(session, counter.reading(sys.stdin.buffer), chosen)
        else:
            part = adding.add_path(adding.Steered(session, on_bytes=counter.count), _resolved(path), chosen)
    return {"cid": str(part.cid), "path": path, "bytes": counter.total, "profile": profile}


def _resolved(path: str) -> Path:
    """Absolute, so that a reference to it stays good; the last name is not followed, so that a link is refused."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  (Path.resolve would follow links)


class _Counter:
    """Counts bytes, and shows them."""

    def __init__(self, tell: OnBytes | None) -> None:
        self.total, self._tell = 0, tell

    def count(self, count: int) -> None:
        self.total += count
        if self._tell is not None:
            self._tell(count)

    def reading(self, file: BinaryIO) -> Callable[[int], bytes]:
        """Read from a file, counting."""

        def read(size: int) -> bytes:
            piece = file.read(size)
            self.count(len(piece))
            return piece

        return read


def size_of(path: Path) -> int | None:
    """Bytes of a file or of all files below a folder, for the bar; None when it cannot be told."""
    try:
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            return sum((Path(top) / name).lstat().st_size for top, _, names in os.walk(path) for name in names)
        return found.st_size
    except OSError:
        return None


def get(store: EmbeddedStore, content: str, dest: str | None, max_bytes: int | None) -> dict[str, Any]:
    """Write content to a file, a folder or standard output."""
    root, path = reader.parse_path(content)
    cid = store.resolve(root, "/".join(path))
    target = Path(dest or (path[-1] if path else str(cid)))
    if dest is None:
        adding.check_name(target.name if path else str(cid))
    with progress(content, _content_size(store, cid)) as tell:
        if dest == "-":
            written = _write_out(store, cid, max_bytes, tell)
        else:
            written = exporting.export(store.get, cid, _resolved(str(target)), max_bytes, tell)
    return {"cid": str(cid), "path": str(target), "bytes": written}


def _write_out(store: EmbeddedStore, cid: Cid, max_bytes: int | None, tell: OnBytes | None) -> int:
    size, limit = reader.file_size(store.get, cid), MAX_PIPED_BYTES if max_bytes is None else max_bytes
    if size > limit:
        raise DataError(f"{cid} has {size} bytes, over the limit of {limit}; raise --max-bytes")
    with _piped() as out:
        for piece in store.stream(cid):
            out.write(piece)
            if tell is not None:
                tell(len(piece))
    return size


@contextmanager
def _piped() -> Iterator[BinaryIO]:
    """Standard output; a reader that has gone is no error of ours, but what it did not get is told."""
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        raise DataError("who reads standard output has gone; nothing is lost here") from None


def import_car(store: EmbeddedStore, car: str, *, partial: bool, pin: bool) -> dict[str, Any]:
    """Take a CAR's blocks; DataError when it is none, or lacks a part and that was not allowed."""
    try:
        file = sys.stdin.buffer if car == "-" else Path(car).expanduser().open("rb")
    except OSError as error:
        raise DataError(f"{car} cannot be read: {error.strerror}; check its name and its rights") from error
    with contextlib.ExitStack() as stack:
        if car != "-":
            stack.enter_context(file)
        stack.enter_context(store.keeping())
        tell = stack.enter_context(progress(car, None if car == "-" else size_of(Path(car))))
        report = store.import_any_car(_chunks(file, tell))
        lacking = [root for root, is_complete in report.roots.items() if not is_complete]
        if lacking and not partial:
            raise DataError(
                f"the CAR ends without all of {lacking[0]}{_explain(store, lacking[0])}: it was cut, or is meant to be "
                "partial; its blocks are kept, and with --partial it is taken as it is"
            )
        if pin:
            for root in report.roots:
                store.pin(root)
    return _describe_import(report, pinned=pin)


def _describe_import(report: CarReport, *, pinned: bool) -> dict[str, Any]:
    roots = [
        {"cid": str(root), "complete": is_complete, "pinned": pinned} for root, is_complete in report.roots.items()
    ]
    counts = ("blocks", "new_blocks", "new_bytes", "received_bytes")
    return {"roots": roots} | {name: getattr(report, name) for name in counts}


def _explain(store: EmbeddedStore, root: Cid) -> str:
    """The first block that is missing, or why that cannot be told."""
    walk = Traversal(root)
    try:
        while (cid := walk.wanted) is not None:
            walk.accept(store.get(cid))
    except BlockNotFound as error:
        return "" if error.cid == root else f" (it lacks {error.cid})"
    except DataError as error:
        return f" ({error})"
    return ""


def _chunks(file: BinaryIO, tell: OnBytes | None) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
        if tell is not None:
            tell(len(chunk))


def export(store: EmbeddedStore, content: str, dest: str) -> dict[str, Any]:
    """Write a CAR; a file appears whole or not at all."""
    root, path = reader.parse_path(content)
    cid = store.resolve(root, "/".join(path))
    with progress(content, None) as tell:
        counter = _Counter(tell)
        if dest == "-":
            with _piped() as out:
                _write_car(store, cid, out, counter)
        else:
            _write_new(_resolved(dest), lambda file: _write_car(store, cid, file, counter))
    return {"cid": str(cid), "path": dest, "bytes": counter.total}


def _write_car(store: EmbeddedStore, cid: Cid, file: BinaryIO, counter: _Counter) -> None:
    for piece in store.export_car(cid):
        file.write(piece)
        counter.count(len(piece))


def _write_new(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file that was not there, beside it first."""
    if os.path.lexists(path):
        raise DataError(f"{path} exists; remove it or choose another name")
    unfinished = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}")
    try:
        with unfinished.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}; check room, rights and names") from error
    finally:
        unfinished.unlink(missing_ok=True)


def list_entries(store: EmbeddedStore, content: str, *, recursive: bool) -> Iterator[dict[str, Any]]:
    """A row for each name in a directory, or for each path below it."""
    root, path = reader.parse_path(content)
    cid = store.resolve(root, "/".join(path))
    found = store.walk(cid) if recursive else ((entry.name, entry) for entry in store.list(cid))
    for count, (name, entry) in enumerate(found):
        if count >= exporting.MAX_ENTRIES:
            raise DataError(f"{cid} has more than {exporting.MAX_ENTRIES} entries below it; list a part of it")
        yield {"name": name, "cid": str(entry.cid), "size": entry.size, "kind": entry.kind}


def list_pins(store: EmbeddedStore) -> list[dict[str, Any]]:
    """Pinned roots, and whether they are here whole."""
    return [{"cid": str(cid), "complete": _is_complete(store, cid)} for cid in store.pins()]


def _is_complete(store: EmbeddedStore, cid: Cid) -> bool:
    """False, too, for what cannot be known to be."""
    try:
        return store.is_complete(cid)
    except DataError:
        return False


def describe(store: EmbeddedStore, content: str) -> dict[str, Any]:
    """Size, kind and completeness of content."""
    root, path = reader.parse_path(content)
    cid = store.resolve(root, "/".join(path))
    block = store.get(cid)
    entry = reader.describe(store.get, Link(cid))
    pinned = {each.to_v1() for each in store.pins()}
    return {
        "cid": str(cid),
        "kind": entry.kind,
        "bytes": _content_size(store, cid),
        "block_bytes": len(block),
        "complete": _is_complete(store, cid),
        "pinned": cid.to_v1() in pinned,
    }


def _content_size(store: EmbeddedStore, cid: Cid) -> int | None:
    """Bytes of a file; None for anything else."""
    try:
        return reader.file_size(store.get, cid)
    except (DataError, BlockNotFound):
        return None


def pin(store: EmbeddedStore, content: str) -> dict[str, Any]:
    """Pin what is here whole; ContentUnavailable for what is not."""
    root, path = reader.parse_path(content)
    with store.keeping():
        cid = store.resolve(root, "/".join(path))
        if not store.is_complete(cid):
            raise BlockNotFound(cid, f"a part of it is missing{_explain(store, cid)}; add, import or fetch it first")
        store.pin(cid)
    return {"cid": str(cid), "pinned": True}


def unpin(store: EmbeddedStore, content: str) -> dict[str, Any]:
    """Unpin, under whichever version of its CID it was pinned."""
    root, path = reader.parse_path(content)
    if path:
        raise DataError("pins are of roots: give the CID alone, as `quorate-node store pin list` shows it")
    found = [each for each in store.pins() if each.to_v1() == root.to_v1()]
    if not found:
        raise DataError(f"{root} is not pinned; see `quorate-node store pin list`")
    for cid in found:
        store.unpin(cid)
    return {"cid": str(root), "pinned": False}


def collect(store: EmbeddedStore, *, wait_s: float, is_dry: bool) -> dict[str, Any]:
    """Make room; Busy when others add without a pause."""
    done = store.collect(wait_s=wait_s, is_dry=is_dry)
    return {
        "removed_blocks": done.blocks,
        "removed_bytes": done.bytes,
        "kept_blocks": done.kept,
        "kept_roots": done.roots,
        "incomplete": [str(root) for root in done.incomplete],
    }
