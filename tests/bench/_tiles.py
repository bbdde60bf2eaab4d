"""A scene cut into many tiles that overlap, each a small scene in one file, and the masks of all put together again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
from _bench import ROOT
from _scenes import make_scene

from scenes import load_maker, read_band

REAL_SCENE = ROOT.parent / "shared" / "data" / "landsat8"


@dataclass(frozen=True, slots=True)
class Tile:
    """A square of the scene, named by its number; `x` and `y` are its left upper pixel."""

    name: str
    x: int
    y: int

    @property
    def file(self) -> str:
        """Its file's name."""
        return f"{self.name}.tif"


def find_scene(wanted: Path | None, scratch: Path, seed: int) -> tuple[Path, str]:
    """The scene as wished, else the real one where there is one, else a made one; and what to call it."""
    if wanted is not None:
        return wanted, wanted.name
    if REAL_SCENE.is_dir():
        return REAL_SCENE, REAL_SCENE.name
    return make_scene(scratch / "scene", seed), f"synthetic {seed}"


class Cut:
    """How a scene is divided: `count` tiles of `side` pixels on a grid that reaches from edge to edge."""

    def __init__(self, scene: Path, count: int, side: int) -> None:
        self._maker = load_maker()
        self.bands = {number: read_band(scene, f"B{number}") for number in self._maker.STACKED}
        self.metadata = next(iter(sorted(scene.glob("*_MTL.txt")))).read_bytes()
        self.side, (self.height, self.width) = side, self.bands[2].shape
        columns = ceil(sqrt(count))
        self._xs, self._ys = self._spread(self.width, columns), self._spread(self.height, ceil(count / columns))
        places = [(x, y) for y in self._ys for x in self._xs][:count]
        self.tiles = [Tile(f"{number:05}", x, y) for number, (x, y) in enumerate(places)]

    def _spread(self, length: int, count: int) -> list[int]:
        """Where tiles begin along one side. Raises SystemExit where two would be the same."""
        room = length - self.side
        places = [round(room * number / max(1, count - 1)) for number in range(count)]
        if room < 0 or len(set(places)) < count:
            raise SystemExit(
                f"{count} tiles of {self.side} pixels do not fit into {length}: take fewer, or smaller ones"
            )
        return places

    def write(self, singles: Path, together: Path) -> int:
        """Each tile in a folder of its own, and linked into one folder of all; their bytes."""
        together.mkdir(parents=True)
        total = 0
        for tile in self.tiles:
            square = np.s_[tile.y : tile.y + self.side, tile.x : tile.x + self.side]
            data = self._maker.encode_stack(
                {number: band[square] for number, band in self.bands.items()}, self.metadata
            )
            path = singles / tile.name / tile.file
            path.parent.mkdir(parents=True)
            path.write_bytes(data)
            os.link(path, together / tile.file)
            total += len(data)
        return total

    def assemble(self, masks: Sequence[npt.NDArray[np.bool_] | None]) -> npt.NDArray[np.bool_]:
        """A mask of the whole scene: of each pixel the tile tells in whose middle it lies most."""
        whole = np.zeros((self.height, self.width), dtype=np.bool_)
        columns, rows = self._nearest(self._xs, self.width), self._nearest(self._ys, self.height)
        for number, (tile, mask) in enumerate(zip(self.tiles, masks, strict=True)):
            if mask is None:
                continue
            row, column = divmod(number, len(self._xs))
            ys = np.flatnonzero(rows == row)
            xs = np.flatnonzero(columns == column)
            ys, xs = ys[ys - tile.y < self.side], xs[xs - tile.x < self.side]
            whole[np.ix_(ys, xs)] = mask[np.ix_(ys - tile.y, xs - tile.x)]
        return whole

    def _nearest(self, starts: list[int], length: int) -> npt.NDArray[np.int64]:
        """Of each pixel the tile whose middle is nearest."""
        middles = np.array(starts) + self.side / 2
        return np.searchsorted((middles[1:] + middles[:-1]) / 2, np.arange(length) + 0.5)
