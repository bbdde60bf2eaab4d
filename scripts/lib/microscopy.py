"""Microscopy images for the demo of cell counting: those that scikit-image's wheel carries, else synthetic ones."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "client" / "examples" / "cell-counting"
LOCK = ROOT / "scripts" / "lock" / "microscopy.txt"
WHEELS = ROOT / ".tools" / "cache" / "microscopy"
IMAGES = ("cell.png", "ihc.png")  # a cell in fluorescence; colon tissue, nuclei by hematoxylin
TILE_PX = 128
MARGIN_PX = 20  # around each tile: a nucleus whose middle is in the tile is in its file as a whole
DOWNLOAD_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Tile:
    """A file in the job's input; in pixels of the whole image its upper left, and the box (left, top, right, bottom) it
    answers for: files overlap, boxes do not."""

    name: str
    image: str
    x: int
    y: int
    box: tuple[int, int, int, int]

    def answers_for(self, x: float, y: float) -> bool:
        """Whether a point of the whole image is in the box."""
        left, top, right, bottom = self.box
        return left <= x < right and top <= y < bottom


def prepare_images(folder: Path) -> tuple[list[Tile], str]:
    """Write the images into `folder` as tiles; gives them, and in words where they come from."""
    folder.mkdir(parents=True)
    wheel, problem = _find_wheel()
    if wheel is None:
        maker = [sys.executable, str(EXAMPLE / "make_images.py"), str(folder), "--seed", "1"]
        subprocess.run(maker, check=True)
        tiles = [_take_whole(path) for path in sorted(folder.glob("*.p?m"))]
        return tiles, f"synthetic fields of cells, seed 1 ({problem})"
    tiles = []
    with zipfile.ZipFile(wheel) as archive:
        for name in IMAGES:
            with archive.open(f"skimage/data/{name}") as file, Image.open(file) as image:
                tiles += _cut(image, Path(name).stem, folder)
    return tiles, f"the microscopy images of {wheel.name.split('-cp')[0]}"


def _find_wheel() -> tuple[Path | None, str]:
    """The wheel, fetched by pip and checked against the lock's hashes; else why it is not to be had."""
    found = sorted(WHEELS.glob("*.whl"))
    if found:
        return found[0], ""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
        command += ["--requirement", str(LOCK), "--dest", scratch]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return None, f"scikit-image was not fetched in {DOWNLOAD_TIMEOUT_S} s"
        fetched = list(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or not fetched:
            reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip failed")
            return None, f"no scikit-image: {reason.removeprefix('ERROR: ')[:120]}"
        WHEELS.mkdir(parents=True, exist_ok=True)
        target = WHEELS / fetched[0].name
        partial = target.with_suffix(".part")
        partial.write_bytes(fetched[0].read_bytes())
        partial.replace(target)
        return target, ""


def _take_whole(path: Path) -> Tile:
    with Image.open(path) as image:
        return Tile(path.name, path.stem, 0, 0, (0, 0, image.width, image.height))


def _cut(image: Image.Image, stem: str, folder: Path) -> list[Tile]:
    """Colour images become tiles, of TILE_PX a side or what is left; a grey one stays whole: its cell is large."""
    if image.mode == "L":
        image.save(folder / f"{stem}.pgm")
        return [_take_whole(folder / f"{stem}.pgm")]
    tiles, colour = [], image.convert("RGB")
    for top in range(0, image.height, TILE_PX):
        for left in range(0, image.width, TILE_PX):
            name = f"{stem}-{top:04d}-{left:04d}.ppm"
            right, bottom = min(left + TILE_PX, image.width), min(top + TILE_PX, image.height)
            x, y = max(left - MARGIN_PX, 0), max(top - MARGIN_PX, 0)
            end = (min(right + MARGIN_PX, image.width), min(bottom + MARGIN_PX, image.height))
            colour.crop((x, y, *end)).save(folder / name)
            tiles.append(Tile(name, stem, x, y, (left, top, right, bottom)))
    return tiles
