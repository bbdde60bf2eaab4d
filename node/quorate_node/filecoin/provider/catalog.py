"""What is for sale: datasets by root CID, each with one piece, a price, and the place of every block in its CAR."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from quorate.filecoin.piececid import PieceCid, is_piece, is_v1
from quorate.filecoin.terms import check_price
from quorate.protocol.errors import DataError
from quorate.storage.cid import RAW, Cid
from quorate_node.filecoin.provider.database import Database

_SCHEMA = """
CREATE TABLE dataset (id INTEGER PRIMARY KEY, root BLOB NOT NULL, piece_root BLOB NOT NULL, height INTEGER NOT NULL,
                      size INTEGER NOT NULL, car_size INTEGER NOT NULL, is_dag INTEGER NOT NULL, kind TEXT NOT NULL,
                      path TEXT NOT NULL, mtime_ns INTEGER NOT NULL, price TEXT NOT NULL,
                      UNIQUE (root, piece_root, height, size));
CREATE INDEX dataset_piece ON dataset (piece_root);
CREATE TABLE block (dataset INTEGER NOT NULL, start INTEGER NOT NULL, cid BLOB NOT NULL, size INTEGER NOT NULL,
                    multihash BLOB NOT NULL, PRIMARY KEY (dataset, start)) WITHOUT ROWID;
CREATE INDEX block_multihash ON block (multihash)
"""
MAX_ASKED = 500
_COLUMNS = "id, root, piece_root, height, size, car_size, is_dag, kind, path, mtime_ns, price"
_SPAN = """SELECT start, cid, size FROM block WHERE dataset = ?1 AND start < ?3 AND start >=
           (SELECT coalesce(max(start), 0) FROM block WHERE dataset = ?1 AND start <= ?2) ORDER BY start LIMIT 1000"""


class Kind(StrEnum):
    """What a piece's bytes are: the CAR of its DAG, written as it is read, or those of one file."""

    CAR = "car"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Content and its piece. `price_per_mib` in base units, 0 is free; `car_size` of the whole DAG's CAR, in bytes.

    `is_dag`: the piece is the CAR of this very DAG, as a gateway writes it. `path` is the file with the piece's bytes,
    as it was at `mtime_ns`; where the CAR is written as it is read, it is what was added.
    """

    id: int
    root: Cid
    piece: PieceCid
    car_size: int
    is_dag: bool
    kind: Kind
    path: str
    mtime_ns: int
    price_per_mib: int

    @property
    def is_free(self) -> bool:
        return self.price_per_mib == 0 or self.piece.size_bytes == 0

    @property
    def is_car(self) -> bool:
        """Whether the piece's bytes are a CAR."""
        return self.kind is Kind.CAR or self.path.lower().endswith(".car")


class Placed(NamedTuple):
    """A block of a DAG and where its section starts in the CAR."""

    start: int
    cid: Cid
    size: int


class Catalog:
    """The datasets of a provider's home. Methods block, and may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self._db = Database(path, _SCHEMA)

    def close(self) -> None:
        """Give the file back."""
        self._db.close()

    def add(self, dataset: Dataset, blocks: Iterable[Placed]) -> Dataset:
        """Put a dataset on sale, in place of the same one if there was one; its id is chosen here."""
        check_price(dataset.price_per_mib, dataset.piece.size_bytes)
        d, p = dataset, dataset.piece
        key = (d.root.to_bytes(), p.root, p.height, p.size_bytes)
        with self._db.writing() as c:
            where = "WHERE root = ? AND piece_root = ? AND height = ? AND size = ?"
            for (old,) in c.execute(f"SELECT id FROM dataset {where}", key).fetchall():
                c.execute("DELETE FROM block WHERE dataset = ?", (old,))
                c.execute("DELETE FROM dataset WHERE id = ?", (old,))
            values = (*key, d.is_dag, d.kind, d.path, d.mtime_ns, str(d.price_per_mib))
            columns = "root, piece_root, height, size, is_dag, kind, path, mtime_ns, price, car_size"
            made = c.execute(f"INSERT INTO dataset ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)", values).lastrowid
            car_size = _insert_blocks(c, int(made or 0), blocks)
            if d.kind is Kind.CAR and car_size != p.size_bytes:
                raise DataError(f"the CAR of {d.root} has {p.size_bytes} bytes, where {car_size} were laid out")
            check_price(d.price_per_mib, car_size)
            c.execute("UPDATE dataset SET car_size = ? WHERE id = ?", (car_size, made))
        return self._get(int(made or 0))

    def set_price(self, cid: Cid, price_per_mib: int) -> list[Dataset]:
        """Change the price of what has this root or piece CID. Raises DataError when nothing has, or for a price."""
        found = self.find(cid)
        if not found:
            raise DataError(f"{cid} is neither root nor piece of a dataset here: `filecoin-provider status` lists them")
        for each in found:
            check_price(price_per_mib, max(each.piece.size_bytes, each.car_size))
        with self._db.writing() as c:
            rows = [(str(price_per_mib), each.id) for each in found]
            c.executemany("UPDATE dataset SET price = ? WHERE id = ?", rows)
        return [self._get(each.id) for each in found]

    def list_all(self) -> list[Dataset]:
        """Every dataset, in the order in which they were added."""
        return self._select("ORDER BY id")

    def find(self, cid: Cid) -> list[Dataset]:
        """Datasets with this root or piece, the cheapest first."""
        if is_piece(cid):
            return self.find_piece(cid)
        found = self._select("WHERE root IN (?, ?)", cid.to_bytes(), cid.to_v1().to_bytes())
        return sorted(found, key=lambda each: each.price_per_mib)

    def find_piece(self, cid: Cid) -> list[Dataset]:
        """Datasets with this piece, by either version of its CID, the cheapest first. Raises DataError for no piece."""
        if is_v1(cid):
            root = PieceCid.from_v1(cid, 128).root
            found = self._select("WHERE piece_root = ?", root)
        else:
            piece = PieceCid.parse(cid)
            found = self._select(
                "WHERE piece_root = ? AND height = ? AND size = ?", piece.root, piece.height, piece.size_bytes
            )
        return sorted(found, key=lambda each: each.price_per_mib)

    def find_holders(self, multihash: bytes) -> list[Dataset]:
        """Datasets in whose DAG a block is, the cheapest first."""
        found = self._select("WHERE id IN (SELECT dataset FROM block WHERE multihash = ?)", multihash)
        return sorted(found, key=lambda each: each.price_per_mib)

    def find_servers(self, cid: Cid) -> list[Dataset]:
        """Datasets of which a block may be served as `cid` names it, the cheapest first: as what it is in their DAG, or
        as mere bytes. Read by another codec, bytes could name blocks that are none of theirs."""
        if cid.codec == RAW:
            return self.find_holders(cid.multihash)
        names = (cid.multihash, cid.to_v1().to_bytes(), cid.multihash)  # version 0 is the multihash alone
        found = self._select("WHERE id IN (SELECT dataset FROM block WHERE multihash = ? AND cid IN (?, ?))", *names)
        return sorted(found, key=lambda each: each.price_per_mib)

    def holds_any(self, dataset: Dataset, multihashes: Collection[bytes]) -> bool:
        """Whether the DAG of a dataset holds one of these blocks."""
        left = list(multihashes)
        for part in (left[at : at + MAX_ASKED] for at in range(0, len(left), MAX_ASKED)):
            where = f"multihash IN ({', '.join('?' * len(part))}) AND dataset = ?"
            with self._db.reading() as c:
                if c.execute(f"SELECT 1 FROM block WHERE {where} LIMIT 1", (*part, dataset.id)).fetchone():
                    return True
        return False

    def list_between(self, dataset: Dataset, start: int, end: int) -> Iterator[Placed]:
        """Blocks whose sections reach into bytes `start` to `end` of a dataset's CAR, in order."""
        while start < end:
            with self._db.reading() as c:
                rows = c.execute(_SPAN, (dataset.id, start, end)).fetchall()
            for at, cid, size in rows:
                yield Placed(at, Cid.parse(cid), size)
            if len(rows) < 1000:
                return
            last = Placed(rows[-1][0], Cid.parse(rows[-1][1]), rows[-1][2])
            start = last.start + measure_section(last.cid, last.size)

    def _get(self, id_: int) -> Dataset:
        return self._select("WHERE id = ?", id_)[0]

    def _select(self, where: str, *values: object) -> list[Dataset]:
        with self._db.reading() as c:
            return [_read(row) for row in c.execute(f"SELECT {_COLUMNS} FROM dataset {where}", values)]


def measure_section(cid: Cid, size: int) -> int:
    """Bytes that a block takes in a CAR."""
    name = len(cid.to_bytes())
    length = name + size
    return max(1, -(-length.bit_length() // 7)) + length


def _insert_blocks(c: sqlite3.Connection, dataset: int, blocks: Iterable[Placed]) -> int:
    """Rows of blocks in the CAR's order; where the last of them ends, which is the CAR's size."""
    end = 0

    def list_rows() -> Iterator[tuple[object, ...]]:
        nonlocal end
        for block in blocks:
            end = block.start + measure_section(block.cid, block.size)
            yield dataset, block.start, block.cid.to_bytes(), block.size, block.cid.multihash

    c.executemany("INSERT INTO block (dataset, start, cid, size, multihash) VALUES (?, ?, ?, ?, ?)", list_rows())
    return end


def _read(row: Sequence[Any]) -> Dataset:
    id_, root, piece_root, height, size, car_size, is_dag, kind, path, mtime_ns, price = row
    piece = PieceCid(piece_root, height, size)
    return Dataset(id_, Cid.parse(root), piece, car_size, bool(is_dag), Kind(kind), path, mtime_ns, int(price))
