"""Sharded directories: a hash array mapped trie of 256-fold nodes.

Source: the UnixFS specification, HAMT directories. The shape depends on the names alone: build it top down from sorted
groups instead of inserting one by one. A name's place is murmur3-x64-128's first 64 bits, one byte a level.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import mmh3

from quorate.protocol.errors import DataError
from quorate.storage import dagpb
from quorate.storage.cid import Cid
from quorate.storage.dagpb import Link
from quorate.storage.unixfs import SHARD, Message, Part, Profile

FANOUT = 256
PREFIX = 2  # upper-case hex digits before each link's name
MAX_DEPTH = 8
HASH_MURMUR3 = 0x22


def hash_name(name: bytes) -> bytes:
    """8 bytes, one for each level."""
    high, _ = mmh3.hash64(name, signed=False)
    return int(high).to_bytes(8, "big")


def build(links: Iterable[Link], profile: Profile) -> Iterator[tuple[Part, bytes]]:
    """Blocks of the trie, children first; the last is the root."""
    hashed = sorted(((hash_name(link.name_bytes), link) for link in links), key=lambda entry: entry[0])
    yield from _shard(hashed, 0, profile)


def _shard(entries: Sequence[tuple[bytes, Link]], depth: int, profile: Profile) -> Iterator[tuple[Part, bytes]]:
    if depth == MAX_DEPTH:
        raise DataError("two names of a directory have the same 64-bit hash; rename one")
    links: list[Link] = []
    bits = 0
    for slot, group in groupby(entries, key=lambda entry: entry[0][depth]):
        members = list(group)
        prefix = f"{slot:02X}"
        bits |= 1 << slot
        if len(members) == 1:
            link = members[0][1]
            links.append(Link(link.cid, prefix + link.name, link.tsize))
            continue
        for part, block in _shard(members, depth + 1, profile):
            yield part, block
        links.append(part.link(prefix))
    field = bits.to_bytes((bits.bit_length() + 7) // 8, "big")
    message = Message(SHARD, field, None, (), HASH_MURMUR3, FANOUT)
    block = dagpb.encode(links, message.encode())
    cid = profile.cid_of(block)
    yield Part(cid, 0, len(block) + sum(link.tsize for link in links)), block


def check(cid: Cid, message: Message) -> None:
    """DataError for a trie of another make than everybody's."""
    if message.fanout != FANOUT or message.hash_type != HASH_MURMUR3:
        raise DataError(f"{cid} is a sharded directory of another kind; only murmur3 with a fanout of {FANOUT} is read")


def split(link: Link) -> tuple[int, str]:
    """Slot of a link, and the entry's name, which is empty for a deeper shard."""
    prefix = link.name[:PREFIX]
    if len(prefix) != PREFIX or not set(prefix) <= set("0123456789ABCDEF"):
        raise DataError(f"a sharded directory has a link {link.name!r} without its slot; it is malformed")
    return int(prefix, 16), link.name[PREFIX:]


def find(links: Iterable[Link], name: bytes, depth: int) -> Link | None:
    """The link on the way to `name` at this depth, an entry or a deeper shard; None when the name is not there."""
    if depth >= MAX_DEPTH:
        raise DataError("a sharded directory is deeper than a hash is long; it is malformed")
    wanted = hash_name(name)[depth]
    for link in links:
        slot, rest = split(link)
        if slot == wanted and (not rest or rest.encode("utf-8", "surrogateescape") == name):
            return link
    return None
