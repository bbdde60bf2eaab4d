"""Landsat scenes as files: their bands, and the example's maker of such scenes, which demos and benchmarks read."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
from PIL import Image

MAKER = Path(__file__).resolve().parents[2] / "client" / "examples" / "cloud-detection" / "make_scene.py"


def find_band(folder: Path, name: str) -> npt.NDArray[np.uint16] | None:
    """The band whose file's name ends in `_NAME.tif`, of shape (height, width) and raw values; None without one."""
    found = sorted(p for p in folder.iterdir() if p.stem.upper().endswith(f"_{name}") and p.suffix.lower() == ".tif")
    if not found:
        return None
    with Image.open(found[0]) as image:
        return np.asarray(image).astype(np.uint16)


def read_band(folder: Path, name: str) -> npt.NDArray[np.uint16]:
    """The same. Raises FileNotFoundError where there is none."""
    band = find_band(folder, name)
    if band is None:
        raise FileNotFoundError(f"{folder} has no band {name} (a file like l8_{name}.tif)")
    return band


def load_maker() -> ModuleType:
    """The example's maker of scenes, which is a script."""
    found = importlib.util.spec_from_file_location("make_scene", MAKER)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
