"""Count cells on a local network: one job, a task for each image, every result agreed on; a table and an overlay."""

from __future__ import annotations

import argparse
import csv
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from microscopy import EXAMPLE, ROOT, Tile, prepare_images
from quorate.cli.output import progress
from quorate.devnet.devnet import Devnet
from quorate.devnet.options import DevnetOptions
from quorate.orders import OrderWishes
from quorate.progress import JobStage
from quorate.protocol.errors import QuorateError, UnrecoverableError
from quorate.protocol.spec import Limits, Partition
from quorate.sdk import QuorateClient

NODES = 6
SEATS = 3
FUEL = 500_000_000  # a task: the largest image takes 372 million
JOB_TIMEOUT_S = 180.0
EDGE = (255, 32, 32)
CAPTION_PX, GAP_PX = 26, 8

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell, in pixels of the whole image."""

    image: str
    x: float
    y: float
    area: int
    mean_signal: str
    touches_border: bool


@dataclass(slots=True)
class Counted:
    """A whole image, of shape (height, width, 3), its cells, and the pixels where one ends."""

    pixels: npt.NDArray[np.uint8]
    edges: npt.NDArray[np.bool_]
    cells: list[Cell]


def run_job(client: QuorateClient, images: Path, results: Path) -> str:
    """Post the job, follow it, fetch its results; the job's id."""
    prepared = client.prepare(
        str(EXAMPLE / "cell-counting.wasm"), str(images),
        limits=Limits(fuel=FUEL, memory_bytes=128 << 20), partition=Partition("*.p?m", 1),
    )  # fmt: skip
    with client.serving() as url:
        job = client.submit(prepared, OrderWishes(seats=SEATS), providers=[url])
        with progress(f"job {job.job_id.hex()[:8]}") as show:
            for step in client.watch(job, timeout_s=JOB_TIMEOUT_S):
                show(step)
        if step.stage != JobStage.ACCEPTED:
            raise UnrecoverableError(f"the job ended as {step.stage.value}: {step.detail}")
        client.fetch_result(job, results)
    return job.job_id.hex()


def read_results(tiles: Sequence[Tile], images: Path, results: Path) -> dict[str, Counted]:
    """By image: what the tasks left, each cell from the tile that its middle is in."""
    counted: dict[str, Counted] = {}
    for image in {tile.image: None for tile in tiles}:
        parts = [tile for tile in tiles if tile.image == image]
        width, height = max(tile.box[2] for tile in parts), max(tile.box[3] for tile in parts)
        whole = Counted(np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.bool_), [])
        for tile in parts:
            add_tile(whole, tile, images, results)
        counted[image] = whole
    return counted


def add_tile(whole: Counted, tile: Tile, images: Path, results: Path) -> None:
    """Add a tile's pixels and the cells that it answers for."""
    folder, stem = results / "outputs" / tile.name, Path(tile.name).stem
    with Image.open(images / tile.name) as image:
        pixels = np.asarray(image.convert("RGB"))
    with Image.open(folder / f"{stem}.labels.pgm") as image:
        labels = np.asarray(image).astype(np.int32)
    height, width = labels.shape
    whole.pixels[tile.y : tile.y + height, tile.x : tile.x + width] = pixels
    with (folder / f"{stem}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    is_ours = np.zeros(len(rows) + 1, np.bool_)
    for number, row in enumerate(rows, start=1):
        x, y = tile.x + float(row["x_px"]), tile.y + float(row["y_px"])
        if tile.answers_for(x, y):
            is_ours[number] = True
            touches = row["touches_border"] == "1"
            whole.cells.append(Cell(tile.image, x, y, int(row["area_px"]), row["mean_signal"], touches))
    labels[~is_ours[labels]] = 0
    edges = whole.edges[tile.y : tile.y + height, tile.x : tile.x + width]
    edges[:-1] |= labels[:-1] != labels[1:]
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]


def write_table(path: Path, counted: Mapping[str, Counted]) -> None:
    """All cells of all images."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("image", "x_px", "y_px", "area_px", "mean_signal", "touches_border"))
        for cell in (cell for whole in counted.values() for cell in whole.cells):
            place = (f"{cell.x:.1f}", f"{cell.y:.1f}")
            rows.writerow((cell.image, *place, cell.area, cell.mean_signal, int(cell.touches_border)))


def print_table(tiles: Sequence[Tile], counted: Mapping[str, Counted]) -> None:
    """One line for each image."""
    table = Table("image", "tasks", "cells", "median area", "at a border", box=None, header_style="bold")
    for name, whole in counted.items():
        tasks = sum(tile.image == name for tile in tiles)
        median = np.median([cell.area for cell in whole.cells]) if whole.cells else 0
        border = sum(cell.touches_border for cell in whole.cells)
        table.add_row(name, str(tasks), str(len(whole.cells)), f"{median:.0f} px", str(border))
    out.print(table)


def draw_overlay(counted: Mapping[str, Counted]) -> Image.Image:
    """The images side by side, each cell outlined."""
    height = max(whole.edges.shape[0] for whole in counted.values())
    width = sum(whole.edges.shape[1] + GAP_PX for whole in counted.values()) - GAP_PX
    picture = Image.new("RGB", (width, height + CAPTION_PX), "white")
    draw, font, x = ImageDraw.Draw(picture), ImageFont.load_default(size=15), 0
    for name, whole in counted.items():
        draw.text((x + 4, 4), f"{name}: {len(whole.cells)} cells", fill="black", font=font)
        pixels = whole.pixels.copy()
        pixels[whole.edges] = EDGE
        picture.paste(Image.fromarray(pixels), (x, CAPTION_PX))
        x += pixels.shape[1] + GAP_PX
    return picture


def run_demo(folder: Path) -> int:
    """Start everything, show it, stop everything."""
    began = time.monotonic()
    scratch = folder / "demo-cells"
    shutil.rmtree(scratch, ignore_errors=True)
    images, results = scratch / "images", scratch / "results"
    tiles, source = prepare_images(images)
    err.print(f"images: {source}; {len(tiles)} files, a task for each")
    options = DevnetOptions(home=scratch / "devnet", nodes=NODES)
    devnet = Devnet(options, on_step=lambda text: err.print(f"devnet: {text}"))
    with devnet, QuorateClient.open(devnet.make_config(scratch / "client")) as client:
        job_id = run_job(client, images, results)
    counted = read_results(tiles, images, results)
    print_table(tiles, counted)
    write_table(folder / "cells.csv", counted)
    draw_overlay(counted).save(folder / "cells.png")
    out.print(f"job              {job_id[:8]}: {len(tiles)} tasks, {SEATS} operators agreed on every byte")
    out.print(f"table            {folder / 'cells.csv'}")
    out.print(f"picture          {folder / 'cells.png'}")
    out.print(f"done             {time.monotonic() - began:.1f} s; everything that was started is stopped")
    return 0


def main() -> int:
    """Run the demo; a failure is one line, and leaves nothing running."""
    parser = argparse.ArgumentParser(prog="scripts/demo cells", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "out", metavar="DIR", help="folder for table and picture")
    folder = parser.parse_args().out.absolute()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return run_demo(folder)
    except QuorateError as error:
        err.print(f"demo: {error}", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        err.print("demo: interrupted; everything that was started is stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
