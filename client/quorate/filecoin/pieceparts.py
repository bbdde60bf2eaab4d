"""A file in parts of a chunk's size, for whoever computes its piece."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from quorate.filecoin.piecetree import CHUNK_BYTES
from quorate.protocol.errors import RecoverableError


def read_parts(path: Path, on_bytes: Callable[[int], None] = lambda count: None) -> Iterator[bytes]:
    """A file in parts of a chunk's size. Raises RecoverableError when it changes meanwhile, OSError as reading does."""
    with path.open("rb", buffering=0) as file:
        before, total = os.fstat(file.fileno()), 0
        while part := file.read(CHUNK_BYTES):
            total += len(part)
            yield part
            on_bytes(len(part))
        after = os.fstat(file.fileno())
        is_regular = before.st_size or not total  # a pipe has no size
        if is_regular and (total != before.st_size or after.st_mtime_ns != before.st_mtime_ns):
            raise RecoverableError(f"{path} changed while it was read: try again once nobody writes to it")
