"""Make synthetic microscopy images whose cells are known: discs of several sizes, some of which touch.

    python make_images.py DIR [--images 6] [--cells 40] [--size 256] [--seed 1]

field-000.pgm, field-001.ppm, …: in turn bright cells on dark ground (grey) and stained nuclei on pale tissue (colour),
with noise; truth.csv tells how many cells each holds. The same seed gives the same bytes: integers are drawn, and what
becomes of them rounds alike on every machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RADII = (6, 10)  # pixels, from and to
GAP = 1.6  # between the middles of neighbours, at least, in mean radii: below 2 they overlap
MARGIN = 11  # from the border: no cell is cut off
GROUND, CELL = 40, 170  # grey levels
TISSUE, NUCLEUS = (236, 228, 232), (96, 84, 150)  # colours; the latter is that of hematoxylin
NOISE = 6  # at most, of a grey level
TRIES = 10_000  # for one place: a field may be too full


def place_cells(rng: np.random.Generator, count: int, size: int) -> list[tuple[int, int, int]]:
    """Middles and radii, (x, y, radius) in pixels; fewer than `count` where no more fit."""
    cells: list[tuple[int, int, int]] = []
    for _ in range(TRIES):
        if len(cells) == count:
            break
        x, y = (int(v) for v in rng.integers(MARGIN, size - MARGIN, 2))
        radius = int(rng.integers(RADII[0], RADII[1] + 1))
        if all(4 * ((x - a) ** 2 + (y - b) ** 2) >= (GAP * (radius + r)) ** 2 for a, b, r in cells):
            cells.append((x, y, radius))
    return cells


def draw_mask(cells: list[tuple[int, int, int]], size: int) -> NDArray[np.bool_]:
    """Which pixels are cell: shape (size, size)."""
    across = np.arange(size)
    mask = np.zeros((size, size), dtype=np.bool_)
    for x, y, radius in cells:
        mask |= (across[None, :] - x) ** 2 + (across[:, None] - y) ** 2 <= radius**2
    return mask


def write_field(folder: Path, index: int, mask: NDArray[np.bool_], rng: np.random.Generator) -> str:
    """Write a field as PGM (even index) or PPM (odd); gives its name."""
    size = mask.shape[0]
    is_grey = index % 2 == 0
    ground, cell = ((GROUND,), (CELL,)) if is_grey else (TISSUE, NUCLEUS)
    field = np.where(mask[:, :, None], np.array(cell), np.array(ground))
    noisy = np.clip(field + rng.integers(-NOISE, NOISE + 1, field.shape), 0, 255).astype(np.uint8)
    name = f"field-{index:03d}.{'pgm' if is_grey else 'ppm'}"
    (folder / name).write_bytes(f"P{5 if is_grey else 6}\n{size} {size}\n255\n".encode() + noisy.tobytes())
    return name


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--images", type=int, default=6, help="how many (default: %(default)s)")
    parser.add_argument("--cells", type=int, default=40, help="cells in each, where they fit (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="pixels a side (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another one gives other images (default: %(default)s)")
    options = parser.parse_args()
    if options.size <= 2 * MARGIN or min(options.images, options.cells) < 1:
        parser.error(f"--size is more than {2 * MARGIN}, and there is at least one image of one cell")
    rng = np.random.Generator(np.random.PCG64(options.seed))
    options.folder.mkdir(parents=True, exist_ok=True)
    lines = ["image,cells"]
    for index in range(options.images):
        cells = place_cells(rng, options.cells, options.size)
        name = write_field(options.folder, index, draw_mask(cells, options.size), rng)
        lines.append(f"{name},{len(cells)}")
    (options.folder / "truth.csv").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
