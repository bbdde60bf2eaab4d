"""What every store does alike: files, directories and CARs on top of blocks.

A store adds `has`, `get`, `size`, and a session that takes verified blocks; see `memory` for the smallest one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from quorate.protocol.errors import DataError
from quorate.storage import adding, car, exporting, reader
from quorate.storage.base import (
    DEFAULT_PROFILE,
    HOLD_S,
    MAX_READ_BYTES,
    Additions,
    Admit,
    BlockNotFound,
    ByteRange,
    CarReport,
    Entry,
    ImportReport,
    Scope,
    Session,
)
from quorate.storage.cid import DAG_PB, RAW, Cid
from quorate.storage.dagpb import Link
from quorate.storage.traversal import MAX_DEPTH, Traversal
from quorate.storage.unixfs import DEFAULT, Profile, check_block_size, profile_named


class DagStore(ABC):
    """BlobStore without its blocks."""

    @abstractmethod
    def has(self, cid: Cid) -> bool: ...

    @abstractmethod
    def get(self, cid: Cid) -> bytes: ...

    @abstractmethod
    def size(self, cid: Cid) -> int | None: ...

    @abstractmethod
    def session(self, *, is_durable: bool = True) -> AbstractContextManager[Session]:
        """For many writes at once; it belongs to one thread."""

    @abstractmethod
    def sync(self) -> None: ...

    @abstractmethod
    def pin(self, cid: Cid) -> None: ...

    @abstractmethod
    def unpin(self, cid: Cid) -> None: ...

    @abstractmethod
    def pins(self) -> Sequence[Cid]: ...

    @abstractmethod
    def close(self) -> None: ...

    def put(self, cid: Cid, data: bytes) -> None:
        check_block_size(data)
        cid.verify(data)
        with self.session() as session:
            session.put(cid, data)

    def put_raw(self, data: bytes) -> Cid:
        with self.adding() as additions:
            return additions.put_raw(data)

    def add_bytes(self, data: bytes) -> Cid:
        with self.adding() as additions:
            return additions.add_bytes(data)

    def add_path(
        self,
        path: Path,
        profile: str = DEFAULT_PROFILE,
        *,
        copy: bool = False,
        on_bytes: adding.OnBytes | None = None,
    ) -> Cid:
        chosen, is_plain = profile_named(profile), not copy and on_bytes is None
        with self.session() as session:
            taker = session if is_plain else adding.Steered(session, copy=copy, on_bytes=on_bytes)
            return adding.add_path(taker, path, chosen).cid

    def add_stream(self, read: Callable[[int], bytes], profile: Profile = DEFAULT) -> Cid:
        """Keep a file whose bytes `read` gives; it returns at most as many as it is asked for, and none at the end."""
        with self.session() as session:
            return adding.add_stream(session, read, profile).cid

    def add_tree(self, entries: Mapping[str, bytes | Path | Cid | Link]) -> Cid:
        with self.adding() as additions:
            return additions.add_tree(entries)

    @contextmanager
    def adding(self, *, is_durable: bool = True) -> Iterator[Additions]:
        with self.session(is_durable=is_durable) as session:
            yield _Additions(session, self.get)

    def read(self, cid: Cid, max_bytes: int = MAX_READ_BYTES) -> bytes:
        size = reader.file_size(self.get, cid)
        if size > max_bytes:
            raise DataError(f"{cid} has {size} bytes, over the limit of {max_bytes}; stream or export it")
        return b"".join(reader.stream_file(self.get, cid))

    def stream(self, cid: Cid, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        return reader.stream_file(self.get, cid, start, end)

    def list(self, cid: Cid) -> Sequence[Entry]:
        return [reader.describe(self.get, link) for link in reader.directory_links(self.get, cid)]

    def resolve(self, cid: Cid, path: str) -> Cid:
        return reader.resolve(self.get, cid, path)

    def walk(self, cid: Cid) -> Iterator[tuple[str, Entry]]:
        pending = [iter([("", entry) for entry in self.list(cid)])]
        while pending:
            here = next(pending[-1], None)
            if here is None:
                pending.pop()
                continue
            prefix, entry = here
            path = f"{prefix}{entry.name}"
            yield path, entry
            if entry.kind == "directory":
                if len(pending) >= MAX_DEPTH:
                    raise DataError(f"{cid} nests deeper than {MAX_DEPTH} directories; it is refused as a bomb")
                pending.append(iter([(path + "/", below) for below in self.list(entry.cid)]))

    def is_complete(self, cid: Cid) -> bool:
        walk = Traversal(cid)
        while (wanted := walk.wanted) is not None:
            if wanted.codec == RAW:
                if not self.has(wanted):
                    return False
                walk.accept(b"")  # a raw block has no links: no need to read it
                continue
            try:
                walk.accept(self.get(wanted))
            except BlockNotFound:
                return False
        return True

    def export(self, cid: Cid, dest: Path, *, max_bytes: int | None = None, work: Path | None = None) -> int:
        return exporting.export(self.get, cid, dest, max_bytes, work=work)

    def map_file(self, cid: Cid) -> memoryview | None:
        """No plain files here; `get` and `stream` are all there is."""
        return None

    def import_car(
        self,
        chunks: Iterable[bytes],
        root: Cid,
        *,
        scope: Scope = "all",
        byte_range: ByteRange | None = None,
        max_bytes: int | None = None,
        admit: Admit | None = None,
        is_durable: bool = True,
    ) -> ImportReport:
        verifier = car.CarVerifier(root, scope=scope, byte_range=byte_range, dups=None, max_bytes=max_bytes)
        blocks = 0
        with self.session(is_durable=is_durable) as session:
            for chunk in chunks:
                for cid, block, is_chunk in verifier.push(chunk):
                    if admit is not None:
                        admit(cid, len(block))
                    session.put(cid, block, is_chunk=is_chunk)
                    blocks += 1
            verifier.finish()
        return ImportReport(root, blocks, session.new_blocks, session.new_bytes, verifier.received_bytes)

    def import_any_car(self, chunks: Iterable[bytes], *, max_bytes: int | None = None) -> CarReport:
        reader = car.CarReader(max_bytes=max_bytes)
        blocks = 0
        with self.session() as session:
            for chunk in chunks:
                for cid, block in reader.push(chunk):
                    session.put(cid, block)
                    blocks += 1
            reader.finish()
        roots = {root: self._is_known_complete(root) for root in reader.roots}
        return CarReport(roots, blocks, session.new_blocks, session.new_bytes, reader.received_bytes)

    def _is_known_complete(self, root: Cid) -> bool:
        """False, too, where it cannot be known: for a foreign hash or codec."""
        try:
            return self.is_complete(root)
        except DataError:
            return False

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """While it lasts nothing that is kept is thrown away: what is added can be pinned."""
        yield

    def hold(self, cids: Iterable[Cid], seconds: float = HOLD_S) -> None:  # noqa: B027  (not all have to do something)
        """Nothing is thrown away here by itself."""

    def export_car(self, root: Cid, *, scope: Scope = "all", dups: bool = False) -> Iterator[bytes]:
        return car.write(Traversal(root, scope=scope, dups=dups), root, self.get)


class _Additions:
    """Additions to one session. It notes nodes, since those cannot be read from the store before the session ends."""

    def __init__(self, session: Session, get: Callable[[Cid], bytes]) -> None:
        self._session, self._get = session, get
        self._nodes: dict[bytes, bytes] = {}

    @property
    def new_blocks(self) -> int:
        return self._session.new_blocks

    @property
    def new_bytes(self) -> int:
        return self._session.new_bytes

    def put(self, cid: Cid, block: bytes, *, is_chunk: bool = False) -> None:
        if cid.codec == DAG_PB:
            self._nodes[cid.multihash] = block
        self._session.put(cid, block, is_chunk=is_chunk)

    def refer(self, cid: Cid, path: Path, offset: int, length: int) -> bool:
        return self._session.refer(cid, path, offset, length)

    def hold(self, cids: Iterable[Cid], seconds: float = HOLD_S) -> None:
        self._session.hold(cids, seconds)

    def put_raw(self, data: bytes) -> Cid:
        check_block_size(data)
        cid = Cid.of(data, RAW)
        self.put(cid, data)
        return cid

    def add_bytes(self, data: bytes) -> Cid:
        return adding.add_bytes(self, data, DEFAULT).cid

    def add_tree(self, entries: Mapping[str, bytes | Path | Cid | Link]) -> Cid:
        return adding.add_tree(self, self._read, entries, DEFAULT).cid

    def _read(self, cid: Cid) -> bytes:
        node = self._nodes.get(cid.multihash)
        return self._get(cid) if node is None else node
