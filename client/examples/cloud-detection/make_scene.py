"""Make a synthetic Landsat 8 scene: the files of a real one, from a seed.

    python make_scene.py DIR [--seed 1] [--size 600]

Bands 1 to 11, the quality band (bits 14–15: cloud confidence, 3 is high) and the metadata, named l8_*; about 10 MB at
600 pixels a side. The same seed gives the same bytes: random numbers are drawn as integers and turned into terrain by
arithmetic that rounds alike on every machine.
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]

SUN_ELEVATION = 60.0
SUN_SINE = 0.8660254037844386
BANDS = (1, 2, 3, 4, 5, 6, 7, 8, 9)
REFLECTANCE = {  # fractions by band 1 … 9: coastal, blue, green, red, near and two short-wave infrared, pan, cirrus
    "land": (0.12, 0.10, 0.09, 0.08, 0.28, 0.18, 0.10, 0.09, 0.002),
    "water": (0.11, 0.08, 0.06, 0.04, 0.02, 0.01, 0.008, 0.05, 0.002),
    "cloud": (0.52, 0.52, 0.51, 0.52, 0.58, 0.45, 0.35, 0.52, 0.020),
    "cirrus": (0.24, 0.24, 0.23, 0.23, 0.36, 0.27, 0.18, 0.23, 0.045),
}
CELSIUS = {"land": 22.0, "water": 18.0, "cloud": -12.0, "cirrus": 4.0}
K1, K2 = {10: 774.8853, 11: 480.8883}, {10: 1321.0789, 11: 1201.1442}
RADIANCE_MULT, RADIANCE_ADD = 3.342e-4, 0.1
STACKED = (2, 3, 4, 5, 6, 7, 9, 10)
"""Bands of a scene in one file, in their order."""
NUMBERS = {f"B{number}": number for number in STACKED}
CLEAR, CLOUD = 0x5000, 0xD000  # quality: clear, and cloud with high confidence


def smooth_noise(rng: np.random.Generator, size: int, cell: int) -> Field:
    """Noise in 0 … 1 that varies over `cell` pixels: random corners, blended between."""
    corners = rng.integers(0, 65536, (size // cell + 2, size // cell + 2)).astype(np.float64) / 65536
    at = np.arange(size)
    low, part = at // cell, (at % cell) / cell
    rows = corners[low] * (1 - part)[:, None] + corners[low + 1] * part[:, None]
    blended: Field = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    return blended


def terrain(rng: np.random.Generator, size: int, cell: int) -> Field:
    """Three octaves of noise, in 0 … 1."""
    return (4 * smooth_noise(rng, size, cell) + 2 * smooth_noise(rng, size, cell // 2) +
            smooth_noise(rng, size, cell // 4)) / 7  # fmt: skip


def coverage(field: Field, share: float, softness: float) -> Field:
    """0 … 1: how much of each pixel the thing covers whose middle covers `share` of the scene."""
    threshold = np.sort(field, axis=None)[int((1 - share) * field.size)]
    covered: Field = np.clip((field - threshold) / softness + 0.5, 0, 1)
    return covered


def thermal_numbers(celsius: Field, band: int) -> Field:
    """Digital numbers of a temperature: a table by tenths of a degree, so that exp is asked for few values."""
    grid = np.arange(-800, 801) / 10 + 273.15
    radiance = np.array([K1[band] / (np.exp(K2[band] / kelvin) - 1) for kelvin in grid])
    table = np.round((radiance - RADIANCE_ADD) / RADIANCE_MULT)
    numbers: Field = table[np.clip(np.round(celsius * 10).astype(int) + 800, 0, 1600)]
    return numbers


def draw(seed: int, size: int) -> dict[str, NDArray[np.uint16]]:
    """Band name → pixels."""
    rng = np.random.Generator(np.random.PCG64(seed))
    water = coverage(terrain(rng, size, 128), 0.15, 0.02)
    cloud = coverage(terrain(rng, size, 64), 0.08, 0.05)
    cirrus = coverage(terrain(rng, size, 160), 0.05, 0.10) * 0.8
    texture = 0.8 + 0.4 * terrain(rng, size, 8)

    def mix(texture: Field | float, ground: float, sea: float, thick: float, thin: float) -> Field:
        below = ground * texture * (1 - water) + sea * water
        veiled = below * (1 - cirrus) + thin * cirrus
        mixed: Field = veiled * (1 - cloud) + thick * texture * cloud
        return mixed

    kinds = ("land", "water", "cloud", "cirrus")
    bands: dict[str, NDArray[np.uint16]] = {}
    for index, band in enumerate(BANDS):
        reflectance = mix(texture, *(REFLECTANCE[kind][index] for kind in kinds))
        numbers = np.round((reflectance * SUN_SINE + 0.1) / 2e-5)
        noisy = numbers + rng.integers(-40, 41, (size, size))
        bands[f"B{band}"] = np.clip(noisy, 1, 65535).astype(np.uint16)
    bands["B8"] = np.repeat(np.repeat(bands["B8"], 2, axis=0), 2, axis=1)  # panchromatic pixels are half as wide
    for band in (10, 11):
        celsius = mix(1.0, *(CELSIUS[kind] for kind in kinds)) + (rng.integers(-10, 11, (size, size)) / 10)
        bands[f"B{band}"] = thermal_numbers(celsius, band).astype(np.uint16)
    bands["BQA"] = np.where((cloud > 0.5) | (cirrus > 0.4), CLOUD, CLEAR).astype(np.uint16)
    return bands


def encode_tiff(pixels: NDArray[np.uint16], rows_per_strip: int = 16) -> bytes:
    """An uncompressed little-endian TIFF in strips."""
    return encode_planes([pixels], rows_per_strip)


def encode_stack(bands: Mapping[int, NDArray[np.uint16]], text: bytes) -> bytes:
    """A scene in one file: the bands that cloud detection reads as planes, `text` (the metadata) as the description."""
    return encode_planes([bands[number] for number in STACKED], len(bands[STACKED[0]]), text + b"\0")


def encode_planes(planes: Sequence[NDArray[np.uint16]], rows_per_strip: int, description: bytes = b"") -> bytes:
    """An uncompressed little-endian TIFF, plane after plane in strips; `description` has 5 bytes or more, or none."""
    (height, width), count = planes[0].shape, len(planes)
    starts = range(0, height, rows_per_strip)
    strips = [plane[at : at + rows_per_strip].astype("<u2").tobytes() for plane in planes for at in starts]
    tags = 10 + 2 * bool(description)
    lists_at = 8 + 2 + 12 * tags + 4
    lists: list[bytes] = []

    def place(kind: str, values: Sequence[int]) -> int:
        """A value itself, or where several are."""
        if len(values) == 1:
            return values[0]
        at = lists_at + sum(map(len, lists))
        lists.append(struct.pack(f"<{len(values)}{kind}", *values))
        return at

    each = [1] * count
    sizes = [len(strip) for strip in strips]
    lists_bytes = 8 * len(strips) * (len(strips) > 1) + 4 * count * (count > 1) + len(description)
    offsets = [lists_at + lists_bytes + sum(sizes[:index]) for index in range(len(sizes))]
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, count, place("H", [16] * count)), (259, 3, 1, 1),
        (262, 3, 1, 1), (273, 4, len(strips), place("I", offsets)), (277, 3, 1, count), (278, 3, 1, rows_per_strip),
        (279, 4, len(strips), place("I", sizes)), (339, 3, count, place("H", each)),
    ]  # fmt: skip
    if description:
        at = lists_at + sum(map(len, lists))
        lists.append(description)
        entries += [(270, 2, len(description), at), (284, 3, 1, 2)]
    directory = struct.pack("<H", tags) + b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries)) + bytes(4)
    return b"II*\0\x08\0\0\0" + directory + b"".join(lists) + b"".join(strips)


def metadata(seed: int, size: int) -> str:
    """The MTL fields that cloud detection and the demo read."""
    lines = [
        "GROUP = L1_METADATA_FILE",
        f'  LANDSAT_SCENE_ID = "SYNTHETIC{seed:012d}"',
        '  SPACECRAFT_ID = "LANDSAT_8"',
        f"  REFLECTIVE_LINES = {size}",
        f"  REFLECTIVE_SAMPLES = {size}",
        f"  SUN_ELEVATION = {SUN_ELEVATION}",
    ]
    for band in BANDS:
        lines += [f"  REFLECTANCE_MULT_BAND_{band} = 2.0000E-05", f"  REFLECTANCE_ADD_BAND_{band} = -0.100000"]
    for band in (10, 11):
        lines += [f"  RADIANCE_MULT_BAND_{band} = 3.3420E-04", f"  RADIANCE_ADD_BAND_{band} = 0.10000",
                  f"  K1_CONSTANT_BAND_{band} = {K1[band]}", f"  K2_CONSTANT_BAND_{band} = {K2[band]}"]  # fmt: skip
    return "\n".join([*lines, "END_GROUP = L1_METADATA_FILE", "END", ""])


def make_scene(folder: Path, seed: int = 1, size: int = 600, *, is_stacked: bool = False) -> None:
    """Write the scene's files to `folder`, which is made if need be. `size` in pixels of 30 m, at least 32.

    With `is_stacked` it is one file.
    """
    if size < 32:
        raise ValueError(f"a scene of {size} pixels a side is too small; take at least 32")
    folder.mkdir(parents=True, exist_ok=True)
    if is_stacked:
        bands = {number: pixels for name, pixels in draw(seed, size).items() if (number := NUMBERS.get(name))}
        (folder / "l8.tif").write_bytes(encode_stack(bands, metadata(seed, size).encode("ascii")))
        return
    for name, pixels in draw(seed, size).items():
        (folder / f"l8_{name}.tif").write_bytes(encode_tiff(pixels))
    (folder / "l8_MTL.txt").write_text(metadata(seed, size), encoding="ascii", newline="\n")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=600, help="pixels a side (default 600)")
    parser.add_argument("--one-file", action="store_true", help="write the bands that are needed as one TIFF")
    options = parser.parse_args()
    make_scene(options.folder, options.seed, options.size, is_stacked=options.one_file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
