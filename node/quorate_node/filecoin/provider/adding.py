"""Putting content on sale: files and folders, CARs, and DAGs of another store. Large bytes stay where they are."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from quorate.filecoin.piececid import NODE_BYTES, PieceCid
from quorate.filecoin.piecetree import count_chunks
from quorate.protocol.errors import DataError
from quorate.storage import car
from quorate.storage.adding import SMALL_FILE_BYTES
from quorate.storage.cid import Cid
from quorate.storage.embedded import EmbeddedStore
from quorate.storage.opening import open_store
from quorate.storage.session import EmbeddedSession
from quorate_node.filecoin import hashing
from quorate_node.filecoin.provider.catalog import Catalog, Dataset, Kind
from quorate_node.filecoin.provider.pieces import lay_out

READ_BYTES = 1 << 20
OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Home:
    """A provider's folder."""

    path: Path

    @property
    def store(self) -> Path:
        """The embedded store with its blocks, or with where they lie."""
        return self.path / "store"

    @property
    def catalog(self) -> Path:
        return self.path / "catalog.db"

    @property
    def till(self) -> Path:
        return self.path / "till.db"

    @property
    def network(self) -> Path:
        """What `run` was told last about chain and contracts."""
        return self.path / "network.json"

    @property
    def identity(self) -> Path:
        return self.path / "identity"

    @property
    def lock(self) -> Path:
        return self.path / "run.lock"

    def nodes(self, piece: PieceCid) -> Path:
        """The nodes of height 15 of a piece."""
        return self.path / "nodes" / str(piece.v2)


class Importer:
    """Adds to a home, also while a provider runs on it."""

    def __init__(self, home: Home, store: EmbeddedStore, catalog: Catalog) -> None:
        self._home, self._store, self._catalog = home, store, catalog

    def add_path(self, path: Path, price_per_mib: int, *, is_piece: bool, on_bytes: OnBytes | None = None) -> Dataset:
        """A file or a folder; a CAR, and any file with `is_piece`, becomes a piece as it is.

        Raises DataError for what cannot be read or served.
        """
        path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100  (links are refused, not followed)
        try:
            mode = path.lstat().st_mode
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}; check its name and its rights") from error
        if is_piece and not stat.S_ISREG(mode):
            raise DataError(f"{path} is no file, and a piece is one: leave --piece out")
        with self._store.keeping():
            if stat.S_ISREG(mode) and is_car(path):
                root, is_piece = self._refer_car(path, on_bytes), True
            else:
                root = self._store.add_path(path, on_bytes=on_bytes)
            self._store.pin(root)
        return self._sell(root, price_per_mib, path, is_file=is_piece)

    def add_cid(self, cid: Cid, price_per_mib: int, source: str | None, *, is_piece: bool) -> Dataset:
        """A DAG that is in this store, or in the one that `source` names. Raises BlockNotFound, DataError."""
        if is_piece:
            raise DataError("--piece is for files: the piece of a DAG is its CAR")
        with self._store.keeping():
            if source is not None:
                with closing(open_store(source)) as other:
                    self._store.import_car(other.export_car(cid), cid)
            self._store.pin(cid)
        return self._sell(cid, price_per_mib, None, is_file=False)

    def _sell(self, root: Cid, price_per_mib: int, path: Path | None, *, is_file: bool) -> Dataset:
        nodes, mtime_ns, is_dag = bytearray(), 0, True
        if is_file and path is not None:
            mtime_ns = path.stat().st_mtime_ns
            piece, kind = hashing.hash_stream(hashing.read_parts(path), nodes.extend), Kind.FILE
            is_dag = is_car(path) and _is_same(path, self._store.export_car(root))
        else:
            piece, kind = hashing.hash_stream(self._store.export_car(root), nodes.extend), Kind.CAR
        self._keep_nodes(piece, bytes(nodes))
        dataset = Dataset(0, root, piece, 0, is_dag, kind, str(path or ""), mtime_ns, price_per_mib)
        return self._catalog.add(dataset, lay_out(self._store, root))

    def _keep_nodes(self, piece: PieceCid, nodes: bytes) -> None:
        """A file that is there whole before the catalogue names the piece."""
        if len(nodes) != NODE_BYTES * count_chunks(piece.size_bytes):
            raise DataError(f"{len(nodes)} bytes of nodes are not those of {piece.v2}")
        path = self._home.nodes(piece)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{os.getpid()}")
        with temporary.open("wb") as file:
            file.write(nodes)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def _refer_car(self, path: Path, on_bytes: OnBytes | None) -> Cid:
        """The root of a CAR whose large blocks stay in it. Raises DataError unless it has one root, and all of it."""
        before = path.stat()
        with self._store.session() as session:
            roots = _refer_blocks(session, path, on_bytes or (lambda count: None))
        after = path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise DataError(f"{path} changed while it was read: add it again when nobody writes to it")
        if len(roots) != 1:
            raise DataError(f"{path} is a CAR with {len(roots)} roots: one dataset has one")
        if not self._store.is_complete(roots[0]):
            raise DataError(f"{path} does not hold all of {roots[0]}: export it again, whole")
        return roots[0]


def is_car(path: Path) -> bool:
    """Whether a file is named as a CAR."""
    return path.suffix.lower() == ".car"


def _refer_blocks(session: EmbeddedSession, path: Path, on_bytes: OnBytes) -> tuple[Cid, ...]:
    """Keep the blocks of a CAR, the large ones where they lie; the roots that it names."""
    reader = car.CarReader()
    for part in _read(path):
        for cid, block, at in reader.push_placed(part):
            if len(block) > SMALL_FILE_BYTES:
                session.refer(cid, path, at, len(block))
            else:
                session.put(cid, block)
        on_bytes(len(part))
    reader.finish()
    return reader.roots


def _is_same(path: Path, parts: Iterator[bytes]) -> bool:
    """Whether a file is what `parts` say."""
    with path.open("rb") as file:
        return all(file.read(len(part)) == part for part in parts) and not file.read(1)


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as file:
            while part := file.read(READ_BYTES):
                yield part
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check its name and its rights") from error
