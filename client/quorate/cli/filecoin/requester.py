"""`quorate filecoin`: the commands as a requester has them, with the plain hashing of one core."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from getpass import getpass
from os import environ
from pathlib import Path

from quorate.chain.account import read_passphrase
from quorate.cli.common import get_config
from quorate.cli.filecoin.app import build_app
from quorate.cli.filecoin.places import Program
from quorate.cli.output import guarded
from quorate.config import PASSPHRASE
from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.piecetree import ComputeNode, compute_node, compute_piece
from quorate.filecoin.retrieval.options import ReaderOptions
from quorate.protocol.errors import ConfigurationError


def _find_home(home: Path | None) -> Path:
    return home.expanduser() if home is not None else get_config().home


def _get_passphrase(file: Path | None, is_new: bool) -> bytes:
    """From the wallet's file, QUORATE_PASSPHRASE_FILE, QUORATE_PASSPHRASE or a prompt. Raises ConfigurationError."""
    if file is None and (named := environ.get(f"{PASSPHRASE}_FILE")):
        file = Path(named)
    if file is not None:
        found = read_passphrase(file)
    elif (given := environ.get(PASSPHRASE)) is not None:
        found = given.encode()
    elif sys.stdin.isatty():
        found = getpass("Passphrase of the wallet: ", stream=sys.stderr).encode()
        if is_new and getpass("Again: ", stream=sys.stderr).encode() != found:
            raise ConfigurationError("the two passphrases differ: try again")
    else:
        raise ConfigurationError(
            f"no passphrase: give --passphrase-file, set {PASSPHRASE}_FILE or {PASSPHRASE}, or run it on a terminal"
        )
    if not found:
        raise ConfigurationError("the passphrase is empty: choose one")
    return found


@contextmanager
def _hashing() -> Iterator[ComputeNode]:
    yield compute_node


def _hash_parts(parts: Iterable[bytes], on_node: Callable[[bytes], None], threads: int | None) -> PieceCid:
    if threads is not None and threads > 1:
        raise ConfigurationError("here one core hashes; `quorate-node filecoin piece-cid` hashes on several")
    return compute_piece(parts, on_node=on_node)


@contextmanager
def _progress(name: str, size: int | None) -> Iterator[Callable[[int], None] | None]:
    yield None


app = build_app(
    Program(
        "quorate", _find_home, lambda home: home / "store", lambda home: ReaderOptions(), _get_passphrase, _hashing,
        _hash_parts, _progress,
    ),
    guarded,
)  # fmt: skip
