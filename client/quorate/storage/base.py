"""The port of content storage: what a store can do, whatever keeps the bytes.

Blocks are the unit of trust: nothing enters a store without having been checked against its CID. Everything above
blocks (files, directories, CARs) is UnixFS, by the profile that the caller names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from quorate.protocol.errors import ContentUnavailable
from quorate.storage.cid import Cid
from quorate.storage.dagpb import Link

DEFAULT_PROFILE = "unixfs-v1-2025"
MAX_BLOCK_BYTES = 2 * 1024 * 1024  # what bitswap and gateways agree to move as one piece
HOLD_S = 14 * 24 * 3600.0  # longer than any job is disputed
MAX_READ_BYTES = 1 << 30  # what `read` puts into memory unless it is told otherwise

Kind = Literal["file", "directory", "symlink", "unknown"]
Order = Literal["dfs", "unk"]
Scope = Literal["block", "entity", "all"]
Admit = Callable[[Cid, int], None]


class BlockNotFound(ContentUnavailable):
    """A block is not in the store; `cid` says which."""

    def __init__(self, cid: Cid, hint: str = "fetch it from a provider first") -> None:
        self.cid = cid
        super().__init__(f"the store does not have {cid}; {hint}")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`first` and `last` byte of a file, both included; negative from its end; `last` None means up to the end."""

    first: int
    last: int | None

    def within(self, size: int) -> tuple[int, int] | None:
        """Start and end (not included) in a file of `size` bytes; None when nothing of it is meant."""
        start = max(0, size + self.first) if self.first < 0 else self.first
        end = size if self.last is None else (size + self.last if self.last < 0 else self.last) + 1
        return (start, min(end, size)) if start < min(end, size) else None


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory.

    `size` is in bytes: a file's content where it is known, else the cumulative size that the link claims. `kind` is
    `unknown` when the block that would tell is not in the store.
    """

    name: str
    cid: Cid
    size: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What a CAR brought: blocks and bytes that were new, and bytes that had to be received for them."""

    root: Cid
    blocks: int
    new_blocks: int
    new_bytes: int
    received_bytes: int


@dataclass(frozen=True, slots=True)
class CarReport:
    """What any CAR brought: its roots, each with whether all of its DAG is in the store now."""

    roots: Mapping[Cid, bool]
    blocks: int
    new_blocks: int
    new_bytes: int
    received_bytes: int


class Session(Protocol):
    """A run of writes that becomes durable as a whole when it ends, even by an error: what it took was verified."""

    @property
    def new_blocks(self) -> int: ...

    @property
    def new_bytes(self) -> int: ...

    def put(self, cid: Cid, block: bytes, *, is_chunk: bool = False) -> None:
        """Take a block that was checked; `is_chunk` asks to lay it beside the chunk before it."""
        ...

    def hold(self, cids: Iterable[Cid], seconds: float) -> None:
        """Keep these DAGs for a time, once the session ends."""
        ...

    def refer(self, cid: Cid, path: Path, offset: int, length: int) -> bool:
        """Remember where the block lies in a file of somebody else's; False when this store cannot."""
        ...


class Additions(Protocol):
    """What takes new content: a store, or several additions to one that become durable together."""

    def hold(self, cids: Iterable[Cid], seconds: float = HOLD_S) -> None:
        """Keep these DAGs for a time, as a pin does: what a job in progress needs, or leaves."""
        ...

    def put_raw(self, data: bytes) -> Cid:
        """Keep one raw block of at most 2 MiB."""
        ...

    def add_bytes(self, data: bytes) -> Cid:
        """Keep a UnixFS file of the default profile."""
        ...

    def add_tree(self, entries: Mapping[str, bytes | Path | Cid | Link]) -> Cid:
        """Keep a directory of the default profile. Keys are names, or paths with '/'.

        A `Cid` is linked as it is, and must be here for its size; a `Link` claims one, and keeps no name of its own.
        """
        ...


class BlobStore(Additions, Protocol):
    """Content by CID.

    Methods block and may be called from any thread; several processes may open one embedded store. Errors: DataError
    for content that is not what it should be, BlockNotFound for a block that is not here, Busy when the store is
    locked for too long.
    """

    def has(self, cid: Cid) -> bool:
        """Whether this one block is here."""
        ...

    def get(self, cid: Cid) -> bytes:
        """One block; BlockNotFound when it is not here."""
        ...

    def size(self, cid: Cid) -> int | None:
        """Length of one block in bytes, None when it is not here."""
        ...

    def put(self, cid: Cid, data: bytes) -> None:
        """Keep one block after checking it; DataError when it is not what the CID says or is over 2 MiB."""
        ...

    def adding(self, *, is_durable: bool = True) -> AbstractContextManager[Additions]:
        """Additions that are kept once, when the block ends, even by an error. They belong to one thread.

        Without `is_durable` they outlive the process at once, and a power cut only after the next `sync`.
        """
        ...

    def sync(self) -> None:
        """Return when all that was kept before, by whatever process, outlives a power cut."""
        ...

    def add_path(self, path: Path, profile: str = DEFAULT_PROFILE) -> Cid:
        """Keep a file, or a directory with everything below it; symbolic links and special files are a DataError.

        Where the store can, it remembers where the bytes lie instead of copying them: the files must then stay.
        """
        ...

    def read(self, cid: Cid, max_bytes: int = MAX_READ_BYTES) -> bytes:
        """A whole file; DataError when it is longer than `max_bytes`."""
        ...

    def stream(self, cid: Cid, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """A file's bytes from `start` up to, without, `end`, in bounded memory."""
        ...

    def list(self, cid: Cid) -> Sequence[Entry]:
        """A directory's entries in order of their names' bytes; DataError when it is no directory."""
        ...

    def resolve(self, cid: Cid, path: str) -> Cid:
        """The CID at `path` below a directory; BlockNotFound or DataError when there is none."""
        ...

    def walk(self, cid: Cid) -> Iterator[tuple[str, Entry]]:
        """Everything below a directory, depth first, with its path; a directory comes before what it holds."""
        ...

    def is_complete(self, cid: Cid) -> bool:
        """Whether every block of the DAG is here."""
        ...

    def export(self, cid: Cid, dest: Path, *, max_bytes: int | None = None, work: Path | None = None) -> int:
        """Write a file or a directory tree to `dest`, which must not exist; returns the bytes written.

        It appears whole, by a rename, out of the folder `work` (by default one of its own) on the same file system.
        DataError for names that would leave `dest`, for symbolic links, and when the content exceeds `max_bytes`.
        """
        ...

    def map_file(self, cid: Cid) -> memoryview | None:
        """A file's bytes, mapped, when they lie in one piece in a plain file; else None."""
        ...

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
        """Take the DAG of `root` out of a CAR in depth-first order, checking every block.

        `scope` and `byte_range` say how much of it the CAR has to hold, as a gateway's parameters do. `admit` hears of
        each block that was good before it is kept, with its size in bytes; what it raises ends the import. Blocks that
        were good stay even if a later one is refused (DataError). `is_durable` as in `adding`.
        """
        ...

    def export_car(self, root: Cid, *, scope: Scope = "all", dups: bool = False) -> Iterator[bytes]:
        """A CARv1 of the DAG in depth-first order, piece by piece."""
        ...

    def import_any_car(self, chunks: Iterable[bytes], *, max_bytes: int | None = None) -> CarReport:
        """Take every block of a CAR in whatever order, with any number of roots, checking each.

        DataError for what is no CAR; blocks that were good stay.
        """
        ...

    def keeping(self) -> AbstractContextManager[None]:
        """While it lasts nothing that is kept is thrown away: what is added can be pinned."""
        ...

    def pin(self, cid: Cid) -> None:
        """Keep this DAG when room is made."""
        ...

    def unpin(self, cid: Cid) -> None: ...

    def pins(self) -> Sequence[Cid]: ...

    def close(self) -> None: ...
