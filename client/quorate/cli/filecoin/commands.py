"""What the `filecoin` commands do, apart from reading options and printing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from quorate.cli.filecoin.places import get_program
from quorate.filecoin import addresses
from quorate.filecoin.addresses import AddressError, FilecoinAddress, Kind, Network
from quorate.filecoin.piececid import PieceCid
from quorate.filecoin.pieceparts import read_parts
from quorate.protocol.errors import DataError

NAMES = {
    Kind.ID: "number of an actor",
    Kind.SECP256K1: "secp256k1 key",
    Kind.ACTOR: "actor",
    Kind.BLS: "BLS key",
    Kind.DELEGATED: "delegated",
}


def describe_address(text: str) -> dict[str, Any]:
    """Every form of an address. Raises AddressError, which says what is wrong with it."""
    found, network = addresses.parse(text.strip())
    return {"kind": name_kind(found)} | list_forms(found) | {"given_for": network and network.name.lower()}


def list_forms(address: FilecoinAddress) -> dict[str, Any]:
    """The spellings of an address; `ethereum` is None where contracts have no name for it."""
    try:
        ethereum = addresses.to_checksummed(address.to_ethereum())
    except AddressError:
        ethereum = None
    return {
        "mainnet": address.to_text(),
        "testnet": address.to_text(Network.TESTNET),
        "ethereum": ethereum,
        "bytes": address.to_bytes().hex(),
    }


def name_kind(address: FilecoinAddress) -> str:
    """What stands behind an address, in words."""
    if address.kind is not Kind.DELEGATED:
        return NAMES[address.kind]
    if address.number == addresses.ETHEREUM_NAMESPACE:
        return "Ethereum account or contract"
    return f"delegated by actor {address.number}"


def compute_piece_cid(source: str, nodes: Path | None = None, threads: int | None = None) -> dict[str, Any]:
    """Piece CIDs and sizes of a file or of standard input; the nodes go to a file that appears when all is done."""
    path, program = Path("/dev/stdin") if source == "-" else Path(source).expanduser(), get_program()
    try:
        size = None if source == "-" else _size_of(path)
        with program.progress(source, size) as tell, _written(nodes) as on_node:
            piece = program.hash_parts(read_parts(path, tell or (lambda count: None)), on_node, threads)
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror or error}") from error
    return {"path": source} | describe_piece(piece)


def describe_piece(piece: PieceCid) -> dict[str, Any]:
    """Both CIDs of a piece and its sizes."""
    return {
        "v1": str(piece.v1),
        "v2": str(piece.v2),
        "bytes": piece.size_bytes,
        "padded_bytes": piece.padded_bytes,
        "height": piece.height,
    }


def _size_of(path: Path) -> int | None:
    if path.is_dir():
        raise DataError(
            f"{path} is a folder, and a piece is one stream of bytes: `quorate-node store export` makes one"
        )
    return path.stat().st_size if path.is_file() else None


@contextmanager
def _written(path: Path | None) -> Iterator[Callable[[bytes], None]]:
    """Takes nodes; the file is there, whole, when nothing was raised."""
    if path is None:
        yield lambda node: None
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield _writer(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _writer(file: BinaryIO) -> Callable[[bytes], None]:
    def write(node: bytes) -> None:
        file.write(node)

    return write
