"""CARv1: writing it, and verifying it while it comes in.

Source: the CARv1 specification. A section is a length, a CID and a block. The verifier holds one section and the walk's
stack, never the whole; the first byte that is not what was asked for ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import libipld

from quorate.protocol.errors import DataError
from quorate.storage import codecs, varint
from quorate.storage.base import MAX_BLOCK_BYTES, ByteRange, Scope
from quorate.storage.cid import DAG_CBOR, Cid
from quorate.storage.traversal import Traversal

MAX_HEADER_BYTES = 4096
MAX_ROOTS = 1000  # whose DAGs are looked through, each by itself
MAX_ROOTS_BYTES = 1 << 20  # of a header that names many roots
_MAX_CID_BYTES = 256
_MAX_SECTION_BYTES = MAX_BLOCK_BYTES + _MAX_CID_BYTES


class Received(NamedTuple):
    """A verified block; `is_chunk` when it is a part of a larger file."""

    cid: Cid
    block: bytes
    is_chunk: bool


def encode_header(root: Cid) -> bytes:
    """The header of a CAR with one root."""
    link = b"\0" + root.to_bytes()
    size = bytes((0x40 + len(link),)) if len(link) < 24 else bytes((0x58, len(link)))  # in its shortest form
    body = b"\xa2\x65roots\x81\xd8\x2a" + size + link + b"\x67version\x01"
    return varint.encode(len(body)) + body


def encode_section(cid: Cid, block: bytes) -> bytes:
    """What precedes and holds one block."""
    return section_head(cid, len(block)) + block


def section_head(cid: Cid, size: int) -> bytes:
    """Length and CID in front of a block of `size` bytes: a large block need not be copied to be sent."""
    name = cid.to_bytes()
    return varint.encode(len(name) + size) + name


def write(walk: Traversal, root: Cid, get: Callable[[Cid], bytes], max_repeated: int | None = None) -> Iterator[bytes]:
    """The pieces of a CAR of everything that `walk` visits; errors of `get` and of the walk pass through.

    DataError, too, before blocks that were sent already would make more than `max_repeated` bytes: a few blocks that
    name one another twice are a DAG without an end, if every repetition is sent.
    """
    yield encode_header(root)
    seen, left = set[bytes](), max_repeated
    while (cid := walk.wanted) is not None:
        block = get(cid)
        walk.accept(block)
        head = section_head(cid, len(block))
        if left is not None:
            left -= len(head) + len(block) if cid.multihash in seen else 0
            if left < 0:
                raise DataError(f"{root} repeats more than {max_repeated} bytes; ask for a CAR without duplicates")
            seen.add(cid.multihash)
        yield head
        yield block


class CarCut(DataError):
    """A CAR ends before its end: what came was good."""


class CarVerifier:
    """Push bytes in, get verified blocks out, in the order of `Traversal`.

    DataError from `push` or `finish` when the bytes are no CAR, a block is not the one that had to come, does not match
    its CID, is over 2 MiB, the whole exceeds `max_bytes`, or the end is missing. `dups` is what the sender announced;
    None when it did not: then repetitions are passed over.
    """

    def __init__(
        self,
        root: Cid,
        *,
        path: Sequence[str] = (),
        scope: Scope = "all",
        byte_range: ByteRange | None = None,
        dups: bool | None = False,
        max_bytes: int | None = None,
    ) -> None:
        root.check_supported()
        self.root = root
        self._walk = Traversal(root, path=path, scope=scope, byte_range=byte_range, dups=bool(dups))
        self._passes_repetitions = dups is None
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._has_header = False
        self._limit = MAX_HEADER_BYTES
        self.received_bytes = 0

    @property
    def is_complete(self) -> bool:
        return self._has_header and self._walk.wanted is None

    @property
    def wanted(self) -> Cid | None:
        """The block that has to come next, None when none has."""
        return self._walk.wanted

    def push(self, chunk: bytes) -> list[Received]:
        """Blocks that became whole with this chunk; after a DataError the verifier must be thrown away."""
        self.received_bytes += len(chunk)
        _check_limit(self.received_bytes, self._max_bytes)
        self._buffer += chunk
        received, at = list[Received](), 0
        while (section := _section(self._buffer, at, self._limit)) is not None:
            start, at = section
            if self._has_header:
                received += self._take(start, at)
            else:
                _read_header(bytes(self._buffer[start:at]))
                self._has_header, self._limit = True, _MAX_SECTION_BYTES
        del self._buffer[:at]
        return received

    def finish(self) -> None:
        """The sender has no more; DataError when something is missing."""
        _check_end(self._buffer, self._has_header)
        if self._walk.wanted is not None:
            raise CarCut(f"the CAR ends before {self._walk.wanted}; its tail is missing")

    def _take(self, at: int, end: int) -> list[Received]:
        cid, start = Cid.read(bytes(self._buffer[at : min(end, at + _MAX_CID_BYTES)]), 0)
        wanted = self._walk.wanted
        if wanted is None or cid.multihash != wanted.multihash or cid.codec != wanted.codec:
            if cid.is_identity or (self._passes_repetitions and self._walk.has_seen(cid)):
                return []  # an identity block says nothing new, and its sender may be old
            raise DataError(f"the CAR brings {cid} where {wanted or 'its end'} had to come; refuse whoever sent it")
        with memoryview(self._buffer) as view:
            block = bytes(view[at + start : end])
        _check_size(cid, block)
        wanted.verify(block)
        is_chunk = self._walk.is_chunk
        self._walk.accept(block)
        return [Received(wanted, block, is_chunk)]


class CarReader:
    """Push the bytes of any CARv1 in, get verified blocks out, in whatever order they come.

    `roots` are those that the header names, each once, as soon as it was read. DataError as by `CarVerifier`, except
    that nothing is known of what had to come: see whether the roots are complete.
    """

    def __init__(self, *, max_bytes: int | None = None) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._has_header = False
        self._limit = MAX_ROOTS_BYTES
        self.roots: tuple[Cid, ...] = ()
        self.received_bytes = 0

    def push(self, chunk: bytes) -> list[tuple[Cid, bytes]]:
        """Blocks that became whole with this chunk; identity blocks are left out, as their CIDs hold them."""
        return [(cid, block) for cid, block, _ in self.push_placed(chunk)]

    def push_placed(self, chunk: bytes) -> list[tuple[Cid, bytes, int]]:
        """The same, each with where in the CAR its bytes start."""
        before = self.received_bytes - len(self._buffer)
        self.received_bytes += len(chunk)
        _check_limit(self.received_bytes, self._max_bytes)
        self._buffer += chunk
        received, at = list[tuple[Cid, bytes, int]](), 0
        while (section := _section(self._buffer, at, self._limit)) is not None:
            start, at = section
            body = bytes(self._buffer[start:at])
            if not self._has_header:
                self.roots = _roots(body)
                self._has_header, self._limit = True, _MAX_SECTION_BYTES
                continue
            cid, head = Cid.read(body[:_MAX_CID_BYTES], 0)
            block = body[head:]
            _check_size(cid, block)
            cid.verify(block)
            if not cid.is_identity:
                received.append((cid, block, before + at - len(block)))
        del self._buffer[:at]
        return received

    def finish(self) -> None:
        """The sender has no more; DataError when it ends in the middle of something."""
        _check_end(self._buffer, self._has_header)


def _section(buffer: bytearray, at: int, limit: int) -> tuple[int, int] | None:
    """Bounds of the section at `at` once it is all there; DataError when it has more than `limit` bytes."""
    head = bytes(buffer[at : at + 5])
    if len(head) < 5 and all(byte >= 0x80 for byte in head):
        return None  # the length itself is not here yet
    length, used = varint.decode(head)
    if not 0 < length <= limit:
        raise DataError(f"a CAR section of {length} bytes is refused; between 1 and {limit} are accepted")
    end = at + used + length
    return (at + used, end) if end <= len(buffer) else None


def _check_end(buffer: bytearray, has_header: bool) -> None:
    if buffer or not has_header:
        raise CarCut("the CAR ends in the middle of a section; its tail is missing")


def _check_limit(received_bytes: int, max_bytes: int | None) -> None:
    if max_bytes is not None and received_bytes > max_bytes:
        raise DataError(f"the CAR exceeds the limit of {max_bytes} bytes; raise the limit or refuse the content")


def _check_size(cid: Cid, block: bytes) -> None:
    if len(block) > MAX_BLOCK_BYTES:
        raise DataError(f"{cid} has {len(block)} bytes; at most {MAX_BLOCK_BYTES} are accepted")


def _read_header(body: bytes) -> Any:
    try:
        header: Any = libipld.decode_dag_cbor(body)
    except (ValueError, RecursionError) as error:
        raise DataError(f"this is not a CAR: {error}") from None
    version = header.get("version") if isinstance(header, dict) else None
    if version != 1:
        raise DataError(f"this is not a CARv1 (version {version!r}); ask for version=1, as `ipfs dag export` writes")
    return header


def _roots(body: bytes) -> tuple[Cid, ...]:
    _read_header(body)
    roots = tuple(dict.fromkeys(codecs.links_of(Cid(1, DAG_CBOR, b"\0\0"), body)))
    if len(roots) > MAX_ROOTS:
        raise DataError(f"a CAR that names {len(roots)} roots is refused: at most {MAX_ROOTS} are looked through")
    return roots
