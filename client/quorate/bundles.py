"""Directories that gather what a bundle needs, and what it left, so that it is not fetched file by file.

They follow from a job's tasks and a bundle's leaves alone: who has the files keeps them, and others compute their CIDs
without having seen them. Links carry no sizes, for whoever computes a CID does not know any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from quorate.protocol.result import TaskResult
from quorate.storage import dagpb
from quorate.storage.cid import DAG_PB, Cid
from quorate.storage.dagpb import Link
from quorate.storage.unixfs import DIRECTORY, Message

Block = tuple[Cid, bytes]
MAX_GATHERED = 8192
"""Files in one directory, whose block stays small."""


def gather_files(files: Sequence[Cid]) -> Block:
    """The directory of the files that a bundle's tasks are about, in order; at most MAX_GATHERED."""
    return _build(Link(cid, f"{at:04}") for at, cid in enumerate(files))


def gather_results(leaves: Sequence[bytes]) -> Block:
    """The directory of a bundle's results, named by position."""
    return _build(Link(Cid.from_digest(leaf), f"{at:03}") for at, leaf in enumerate(leaves))


def gather_contents(results: Sequence[TaskResult]) -> Block:
    """The directory of what the results name: `NNN.outputs` and `NNN.stdout`."""
    return _build(
        Link(Cid.parse(text), f"{at:03}.{name}")
        for at, result in enumerate(results)
        for name, text in (("outputs", result.outputs_cid), ("stdout", result.stdout_cid))
    )


def _build(links: Iterable[Link]) -> Block:
    block = dagpb.encode(dagpb.sort_links(links), Message(DIRECTORY).encode())
    return Cid.of(block, DAG_PB), block
