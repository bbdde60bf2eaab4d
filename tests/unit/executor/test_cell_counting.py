"""The example that counts cells: against fields whose cells are known, against its own tables, and on bad files."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quorate_node.executor.runner import Echo
from quorate_node.executor.trial import Trial, run_trial

EXAMPLE = Path(__file__).resolve().parents[3] / "client" / "examples" / "cell-counting"
MODULE = EXAMPLE / "cell-counting.wasm"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def count(inputs: Path, out: Path, cache: Path, *args: str) -> tuple[int, str]:
    """One run; what it wrote is in `out`. Gives the exit code and what it printed."""
    printed: list[bytes] = []
    trial = Trial(MODULE.read_bytes(), args, source=inputs, out=out, cache_dir=cache)

    def keep(chunk: memoryview) -> None:
        printed.append(bytes(chunk))

    outcome = run_trial(trial, Echo(keep, keep))
    return outcome.code, b"".join(printed).decode()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_grey(path: Path, pixels: np.ndarray) -> None:
    height, width = pixels.shape
    path.write_bytes(f"P5\n{width} {height}\n255\n".encode() + pixels.astype(np.uint8).tobytes())


def disc(size: int, x: int, y: int, radius: int) -> np.ndarray:
    across = np.arange(size)
    return (across[None, :] - x) ** 2 + (across[:, None] - y) ** 2 <= radius**2


def test_fields_of_known_cells_are_counted_and_tables_tell_what_labels_show(tmp_path: Path, cache: Path) -> None:
    fields = tmp_path / "fields"
    command = [sys.executable, str(EXAMPLE / "make_images.py"), str(fields), "--images", "4", "--seed", "7"]
    subprocess.run(command, check=True)
    assert count(fields, tmp_path / "out", cache)[0] == 0
    truth = {row["image"]: int(row["cells"]) for row in rows(fields / "truth.csv")}
    assert len(truth) == 4
    for name, known in truth.items():
        table = rows(tmp_path / "out" / f"{Path(name).stem}.csv")
        assert abs(len(table) - known) <= known / 10, name
        with Image.open(tmp_path / "out" / f"{Path(name).stem}.labels.pgm") as image:
            labels = np.asarray(image)
        assert [int(row["cell"]) for row in table] == list(range(1, int(labels.max()) + 1))
        for row in table:
            ys, xs = np.nonzero(labels == int(row["cell"]))
            assert int(row["area_px"]) == len(xs) >= 30
            assert abs(float(row["x_px"]) - xs.mean()) <= 0.05001
            assert abs(float(row["y_px"]) - ys.mean()) <= 0.05001


def test_two_that_touch_are_two_and_a_long_one_is_one(tmp_path: Path, cache: Path) -> None:
    fields = tmp_path / "fields"
    (fields / "deep").mkdir(parents=True)
    touching = disc(96, 30, 48, 14) | disc(96, 54, 48, 14)
    write_grey(fields / "touching.pgm", np.where(touching, 200, 20))
    long = np.zeros((96, 96), dtype=bool)
    long[40:56, 10:86] = True
    write_grey(fields / "deep" / "long.pgm", np.where(long, 200, 20))
    ring = disc(96, 0, 48, 20) & ~disc(96, 0, 48, 8)  # at the border, where its hole is open
    hollow = disc(96, 60, 48, 20) & ~disc(96, 60, 48, 8)
    write_grey(fields / "rings.pgm", np.where(ring | hollow, 200, 20))
    assert count(fields, tmp_path / "out", cache)[0] == 0
    assert len(rows(tmp_path / "out" / "touching.csv")) == 2
    assert len(rows(tmp_path / "out" / "deep" / "long.csv")) == 1
    assert [row["touches_border"] for row in rows(tmp_path / "out" / "rings.csv")] == ["1", "0"]
    with Image.open(tmp_path / "out" / "rings.labels.pgm") as image:
        labels = np.asarray(image)
    assert labels[48, 60] == 2, "a hole is filled"
    assert labels[48, 2] == 0, "what is open to the border is none"


def test_dark_cells_are_found_as_bright_ones_of_the_inverse(tmp_path: Path, cache: Path) -> None:
    field = np.where(disc(64, 20, 20, 9) | disc(64, 44, 44, 11), 190, 30)
    for name, pixels in (("bright", field), ("dark", 255 - field)):
        (tmp_path / name).mkdir()
        write_grey(tmp_path / name / "a.pgm", pixels)
    assert count(tmp_path / "bright", tmp_path / "one", cache)[0] == 0
    assert count(tmp_path / "dark", tmp_path / "two", cache, "--dark")[0] == 0
    bright, dark = ((tmp_path / name / "a.csv").read_bytes() for name in ("one", "two"))
    assert bright == dark
    assert bright.count(b"\n") == 3, "a header and two cells"
    assert count(tmp_path / "dark", tmp_path / "three", cache)[0] == 0
    assert (tmp_path / "three" / "a.csv").read_bytes() != dark, "the option matters"


def test_an_even_image_holds_no_cell(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "fields").mkdir()
    write_grey(tmp_path / "fields" / "even.pgm", np.full((40, 40), 77))
    assert count(tmp_path / "fields", tmp_path / "out", cache)[0] == 0
    assert rows(tmp_path / "out" / "even.csv") == []


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.pgm", b"P5\n8 8\n255\n" + bytes(63), "cut off in row 7 of 8"),
        ("a.pgm", b"P5\n8 8\n65535\n" + bytes(128), "largest value is 65535, not 255"),
        ("a.pgm", b"P2\n2 2\n255\n0 0 0 0\n", "not a binary PGM or PPM"),
        ("a.pgm", b"P5\n99999 99999\n255\n", "at most 33554432 pixels"),
        ("a.pgm", b"P5\n4294967297 1\n255\n0", "a number in the header is too large"),
        ("a.pgm", b"P5\n0 4\n255\n", "0 x 4 pixels"),
        ("a.pgm", b"P5\n8", "the header lacks a number"),
        ("a.pgm", b"", "not a binary PGM or PPM"),
        ("a.png", b"\x89PNG", "holds no .pgm and no .ppm file"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_files_are_refused_with_reason(tmp_path: Path, cache: Path, name: str, data: bytes, says: str) -> None:
    (tmp_path / "fields").mkdir()
    (tmp_path / "fields" / name).write_bytes(data)
    code, printed = count(tmp_path / "fields", tmp_path / "out", cache)
    assert code == 3
    assert says in printed
