"""Directories: one block while they are small, a HAMT when the profile says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from quorate.protocol.errors import DataError
from quorate.storage import dagpb, hamt
from quorate.storage.dagpb import Link
from quorate.storage.unixfs import DIRECTORY, Message, Part, Profile


def build_directory(links: Iterable[Link], profile: Profile) -> Iterator[tuple[Part, bytes]]:
    """A directory's blocks, children first, so that the last is the root; a HAMT when the profile says so.

    DataError when two entries have one name.
    """
    entries = dagpb.sort_links(links)
    for before, after in pairwise(entries):
        if before.name == after.name:
            raise DataError(f"two entries are named {after.name!r}; names in a directory are unique")
    message = Message(DIRECTORY).encode()
    if profile.estimates_block:
        estimate = sum(len(dagpb.encode_link(link)) for link in entries) + len(dagpb.encode((), message))
    else:
        estimate = sum(len(link.name_bytes) + len(link.cid.to_bytes()) for link in entries)
    if estimate > profile.hamt_threshold:
        yield from hamt.build(entries, profile)
        return
    block = dagpb.encode(entries, message)
    yield Part(profile.cid_of(block), 0, len(block) + sum(link.tsize for link in entries)), block
