"""Files and directories as DAG-PB: the messages, the profiles, and the builder of balanced files.

Sources: the UnixFS specification and IPIP-499 (profiles). The builders are pure: they take leaves or links and give
blocks, so that one import can copy, refer to, or only hash what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from quorate.protocol.errors import DataError
from quorate.storage import dagpb, varint
from quorate.storage.base import DEFAULT_PROFILE, MAX_BLOCK_BYTES
from quorate.storage.cid import DAG_PB, RAW, Cid
from quorate.storage.dagpb import Link

RAW_DATA, DIRECTORY, FILE, METADATA, SYMLINK, SHARD = range(6)


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything that a file's or a directory's CID depends on besides its content (IPIP-499).

    `chunk` in bytes; `links` at most in one file node; a directory whose size estimate (the whole block when
    `estimates_block`, else names and CIDs only) exceeds `hamt_threshold` bytes is sharded.
    """

    name: str
    cid_version: int
    raw_leaves: bool
    chunk: int
    links: int
    hamt_threshold: int
    estimates_block: bool

    def cid_of(self, block: bytes, codec: int = DAG_PB) -> Cid:
        cid = Cid.of(block, codec)
        return Cid(0, DAG_PB, cid.multihash) if self.cid_version == 0 and codec == DAG_PB else cid


PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile("unixfs-v0-2015", 0, False, 256 * 1024, 174, 256 * 1024, False),
        Profile("unixfs-v1-2025", 1, True, 1024 * 1024, 1024, 256 * 1024, True),
    )
}
DEFAULT: Final = PROFILES[DEFAULT_PROFILE]


def profile_named(name: str) -> Profile:
    """DataError for a name that is not known."""
    try:
        return PROFILES[name]
    except KeyError:
        raise DataError(f"UnixFS profile {name!r} is not known; use one of {', '.join(PROFILES)}") from None


@dataclass(frozen=True, slots=True)
class Message:
    """UnixFS data inside a DAG-PB node. `size` is the file's bytes, `block_sizes` those below each link."""

    kind: int
    data: bytes = b""
    size: int | None = None
    block_sizes: tuple[int, ...] = ()
    hash_type: int | None = None
    fanout: int | None = None

    def encode(self) -> bytes:
        out = [b"\x08", varint.encode(self.kind)]
        if self.data:
            out += [b"\x12", varint.encode(len(self.data)), self.data]
        for field, value in (
            (b"\x18", self.size),
            *((b"\x20", size) for size in self.block_sizes),
            (b"\x28", self.hash_type),
            (b"\x30", self.fanout),
        ):
            if value is not None:
                out += [field, varint.encode(value)]
        return b"".join(out)

    @property
    def is_file(self) -> bool:
        return self.kind in (FILE, RAW_DATA)


def decode(data: bytes) -> Message:
    """Read a message; DataError when malformed. Unknown fields (mode, time) are skipped: no CID of ours has them."""
    kind: int | None = None
    payload, numbers, sizes, at = b"", {}, list[int](), 0
    while at < len(data):
        tag, at = varint.decode(data, at, minimal=False)
        if tag & 7 == 0:
            value, at = varint.decode(data, at, minimal=False)
            if tag == 0x08:
                kind = value
            elif tag == 0x20:
                sizes.append(value)
            else:
                numbers[tag] = value
        elif tag & 7 == 2:
            length, at = varint.decode(data, at, minimal=False)
            field, at = data[at : at + length], at + length
            if at > len(data):
                raise DataError("a UnixFS message is cut off")
            if tag == 0x12:
                payload = field
            elif tag == 0x22:
                sizes += _packed(field)
        elif tag & 7 == 5:
            at += 4
        else:
            raise DataError("a UnixFS message has a field of an unknown form")
    if at > len(data) or kind is None or kind > SHARD:
        raise DataError("a UnixFS message is malformed or of an unknown kind")
    return Message(kind, payload, numbers.get(0x18), tuple(sizes), numbers.get(0x28), numbers.get(0x30))


def _packed(field: bytes) -> Iterator[int]:
    at = 0
    while at < len(field):
        value, at = varint.decode(field, at, minimal=False)
        yield value


@dataclass(frozen=True, slots=True)
class Node:
    """A decoded UnixFS node: its message and its links."""

    message: Message
    links: tuple[Link, ...]

    @staticmethod
    def parse(cid: Cid, block: bytes) -> Node:
        """A raw block is a file's bytes; DataError for a codec that is not UnixFS and for nodes that contradict
        themselves."""
        if cid.codec == RAW:
            return Node(Message(RAW_DATA, block, len(block)), ())
        if cid.codec != DAG_PB:
            raise DataError(f"{cid} is neither a file nor a directory")
        node = dagpb.decode(block)
        if node.data is None:
            raise DataError(f"{cid} is dag-pb without UnixFS data; it is neither a file nor a directory")
        message = decode(node.data)
        if message.is_file and len(message.block_sizes) != len(node.links):
            raise DataError(
                f"{cid} has {len(node.links)} links but {len(message.block_sizes)} block sizes; it is malformed"
            )
        if (
            message.is_file
            and message.size is not None
            and message.size != len(message.data) + sum(message.block_sizes)
        ):
            raise DataError(f"{cid} claims {message.size} bytes but its parts have another sum; it is malformed")
        return Node(message, node.links)

    @property
    def file_size(self) -> int:
        """Bytes that the file claims: checked part by part when it is read."""
        return len(self.message.data) + sum(self.message.block_sizes)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a file under construction: `size` bytes of content, `total` bytes of blocks (the later Tsize)."""

    cid: Cid
    size: int
    total: int

    def link(self, name: str = "") -> Link:
        return Link(self.cid, name, self.total)


Block = tuple[Cid, bytes]


def leaf(chunk: bytes, profile: Profile) -> tuple[Part, bytes]:
    """A chunk as the profile stores it, with its block."""
    if profile.raw_leaves:
        return Part(Cid.of(chunk, RAW), len(chunk), len(chunk)), chunk
    message = Message(FILE, chunk, len(chunk)).encode()
    block = dagpb.encode((), message)
    return Part(profile.cid_of(block), len(chunk), len(block)), block


class FileBuilder:
    """Joins leaves into a balanced file as they come; memory is one node per level.

    `add` and `finish` give the blocks that became complete; after `finish`, `root` is the file.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._levels: list[list[Part]] = []
        self.root: Part | None = None

    def add(self, part: Part, level: int = 0) -> Iterator[Block]:
        if level == len(self._levels):
            self._levels.append([])
        pending = self._levels[level]
        if len(pending) == self._profile.links:
            self._levels[level] = [part]
            yield from self._join(pending, level)
        else:
            pending.append(part)

    def finish(self) -> Iterator[Block]:
        if not self._levels:
            part, block = leaf(b"", self._profile)
            self._levels.append([part])
            yield part.cid, block
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            pending, self._levels[level] = self._levels[level], []
            yield from self._join(pending, level)
            level += 1
        self.root = self._levels[level][0]

    def _join(self, parts: list[Part], level: int) -> Iterator[Block]:
        size = sum(part.size for part in parts)
        message = Message(FILE, b"", size, tuple(part.size for part in parts)).encode()
        block = dagpb.encode((part.link() for part in parts), message)
        cid = self._profile.cid_of(block)
        yield cid, block
        yield from self.add(Part(cid, size, len(block) + sum(part.total for part in parts)), level + 1)


def check_block_size(block: bytes) -> None:
    """DataError for blocks that other nodes would refuse."""
    if len(block) > MAX_BLOCK_BYTES:
        raise DataError(f"a block has {len(block)} bytes; at most {MAX_BLOCK_BYTES} are accepted, so add it as a file")
