"""`quorate-node filecoin`: the commands that `quorate` has, too, on a node's home and with its fast hashing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from quorate.cli.filecoin.app import build_app
from quorate.cli.filecoin.places import Program
from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.piecetree import ComputeNode
from quorate.filecoin.retrieval.options import ReaderOptions
from quorate_node.cli.options import DEFAULT_HOME
from quorate_node.cli.storing import progress
from quorate_node.config import CONFIG_FILE, load_config
from quorate_node.filecoin.reading import get_options
from quorate_node.keystore import get_passphrase


def _find_home(home: Path | None) -> Path:
    return (home or Path(os.environ.get("QUORATE_NODE_HOME") or DEFAULT_HOME)).expanduser()


def _find_options(home: Path) -> ReaderOptions:
    """As the node itself would read, where there is one in this home."""
    return get_options(load_config(home)) if (home / CONFIG_FILE).exists() else ReaderOptions()


def _get_passphrase(file: Path | None, is_new: bool) -> bytes:
    return get_passphrase(file, confirm=is_new)


@contextmanager
def _hashing() -> Iterator[ComputeNode]:
    from quorate_node.filecoin.hashing import hasher  # it takes a while to import

    with hasher() as found:
        yield found.compute


def _hash_parts(parts: Iterable[bytes], on_node: Callable[[bytes], None], threads: int | None) -> PieceCid:
    from quorate_node.filecoin.hashing import hash_stream

    return hash_stream(parts, on_node, threads)


app = build_app(
    Program(
        "quorate-node", _find_home, lambda home: home / "store", _find_options, _get_passphrase, _hashing, _hash_parts,
        progress,
    )
)  # fmt: skip
