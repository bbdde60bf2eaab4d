"""Pictures of the demo: a mask over its scene, and stakes over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from scenes import find_band, read_band

Gray = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]

CLOUD_COLOUR = (255, 64, 64)
CLOUD_OPACITY = 0.6
CAPTION_PX = 28
GAP_PX = 8
STRETCH_PERCENT = (2, 98)
# Quality band of a scene that is not yet in a collection: the two highest bits are the confidence in cloud.
BQA_CLOUD_SHIFT = 14
BQA_CLOUD_HIGH = 3


@dataclass(frozen=True, slots=True)
class Scene:
    """What is shown of a scene: RGB bytes of shape (height, width, 3), and the cloud of its own quality band."""

    colour: npt.NDArray[np.uint8]
    quality_cloud: Mask | None


def load_scene(folder: Path) -> Scene:
    """Read the visible bands and the quality band of a Landsat 8 scene."""
    colour = np.dstack([_stretch(read_band(folder, name)) for name in ("B4", "B3", "B2")])
    quality = find_band(folder, "BQA")
    cloud = None if quality is None else (quality >> BQA_CLOUD_SHIFT) == BQA_CLOUD_HIGH
    return Scene(colour, cloud)


def read_mask(path: Path) -> Mask:
    """Read a mask as the program wrote it: a PGM, 255 is cloud."""
    with Image.open(path) as image:
        mask: Mask = np.asarray(image) == 255
        return mask


def write_mask_picture(path: Path, scene: Scene, mask: Mask, share: float) -> None:
    """True colour on the left; on the right the same with the mask over it."""
    if mask.shape != scene.colour.shape[:2]:
        raise ValueError(f"the mask has {mask.shape} pixels, the scene {scene.colour.shape[:2]}")
    overlay = scene.colour.astype(np.float32)
    overlay[mask] = overlay[mask] * (1 - CLOUD_OPACITY) + np.array(CLOUD_COLOUR) * CLOUD_OPACITY
    height, width = mask.shape
    picture = Image.new("RGB", (2 * width + GAP_PX, height + CAPTION_PX), "white")
    picture.paste(Image.fromarray(scene.colour), (0, CAPTION_PX))
    picture.paste(Image.fromarray(overlay.astype(np.uint8)), (width + GAP_PX, CAPTION_PX))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=16)
    draw.text((6, 4), "true colour (bands 4, 3, 2)", fill="black", font=font)
    draw.text((width + GAP_PX + 6, 4), f"verified cloud mask: {share:.2%} cloud", fill="black", font=font)
    picture.save(path)


@dataclass(frozen=True, slots=True)
class StakeSample:
    """Stakes at one moment: seconds since the start, wei by operator."""

    seconds: float
    stakes_wei: Mapping[int, int]


def write_stakes_picture(path: Path, samples: Sequence[StakeSample], liar: int, slashed_at: float | None) -> None:
    """Change of every operator's stake over time, in ether; the liar's in red."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (whole, near) = plt.subplots(2, 1, figsize=(9, 6.5), sharex=True, constrained_layout=True)
    start = samples[0].seconds
    times = [s.seconds - start for s in samples]
    operators = sorted(samples[0].stakes_wei)
    for place, operator in enumerate(operators):
        first = samples[0].stakes_wei[operator]
        change = [(s.stakes_wei[operator] - first) / 1e18 for s in samples]
        is_liar = operator == liar
        style = {"color": "crimson", "linewidth": 2.2} if is_liar else {"color": "steelblue", "alpha": 0.6}
        label = f"operator {operator} (lies from its second job on)" if is_liar else f"operator {operator}"
        whole.step(times, change, where="post", label=label, **style)
        if not is_liar:  # thinner and thinner, no red: lines that coincide stay visible, and the liar's colour its own
            rest = 1 - place / len(operators)
            shade = {"color": plt.get_cmap("viridis")(1 - rest), "linewidth": 1 + 6 * rest}
            near.step(times, [c * 1000 for c in change], where="post", label=label, **shade)
    for axes in (whole, near):
        if slashed_at is not None:
            axes.axvline(slashed_at - start, color="crimson", linestyle=":", linewidth=1)
        axes.grid(alpha=0.3)
    whole.set_title(f"Stake since the start: {'the liar pays, ' if slashed_at is not None else ''}the honest earn")
    whole.set_ylabel("all, change in ether")
    near.set_ylabel("honest, change in 1/1000 ether")
    near.set_xlabel("seconds since the first job was signed")
    near.legend(fontsize=7, ncols=3)
    lines, labels = whole.get_legend_handles_labels()
    shown = [at for at, label in enumerate(labels) if "lies" in label]
    whole.legend([lines[at] for at in shown], [labels[at] for at in shown], fontsize=7, loc="center left")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _stretch(band: Gray) -> npt.NDArray[np.uint8]:
    low, high = np.percentile(band[band > 0] if np.any(band > 0) else band, STRETCH_PERCENT)
    scaled = (band.astype(np.float32) - low) / max(float(high - low), 1.0) * 255
    clipped: npt.NDArray[np.float32] = np.clip(scaled, 0, 255)
    return clipped.astype(np.uint8)
