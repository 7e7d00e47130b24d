"""Labelled imagery on disk -> scenes in memory, each with its split.

Decoded pixels are packed into one file per data set, so that starting a
training again costs seconds.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import rasterio

from geosam.testing import synthetic_scene
from geosam.training.river_tiny.indexed import INDEXED, agreed, read_indexed
from geosam.training.sample import IGNORE, LAND, WATER

QUANTILES = np.array([0.0, 0.5, 1, 2, 3, 5, 50, 95, 97, 98, 99, 99.5, 100])
"""Percentiles kept for each band of a scene, so that any stretch is an interpolation."""

SYNTHETIC_SEEDS = {"train": range(1000, 1036), "val": range(2000, 2004), "test": range(3000, 3006)}
"""Seeds of the scenes that the project draws itself. The demo and the tests use small seeds, which
are in none of these."""
SYNTHETIC_PX = 768
"""Side of those scenes."""

_LEVELS = 4
_ANCHORS = 2000
_HELD_OUT_DRY = 0.2
_HELD_OUT_FLOODS = 0.1


@dataclass(frozen=True)
class Scene:
    """One labelled image, as a pyramid of halved resolutions."""

    source: str
    """Data set the image belongs to."""

    name: str
    """Image name inside the data set."""

    levels: tuple[np.ndarray, ...]
    """(band, y, x) uint8 or int16, level k at 1 / 2**k of the native resolution."""

    labels: tuple[np.ndarray, ...]
    """(y, x) uint8 of LAND, WATER and IGNORE, one for each level."""

    quantiles: np.ndarray
    """(band, 13) values at `QUANTILES` over the pixels that are not nodata."""

    wet: np.ndarray = field(repr=False)
    """(n, 2) row, column of some water pixels at level 0; empty for a dry scene."""

    @property
    def is_rgb(self) -> bool:
        """Whether the bands are red, green, blue; else blue, green, red, nir, swir1."""
        return self.levels[0].shape[0] == 3

    @property
    def group(self) -> str:
        """Where the image came from: the leading word of its name."""
        return self.name.split("_")[0]


def load_scenes(
    data: Path, source: str, split: str, cache: Path | None = None, agreed_only: bool = True
) -> list[Scene]:
    """Scenes of one data set and split.

    Parameters
    ----------
    data : Path
        Folder with one folder a data set and `splits.json`.
    source : str
        Name of the data set.
    split : str
        "train", "val", "test", or "all".
    cache : Path, optional
        Folder for packed pixels; nothing is kept when it is None.
    agreed_only : bool
        Whether labels of the five-band chips to train on count only where an index agrees.

    Returns
    -------
    list of Scene
    """
    cleaned = agreed_only and source == "chips_multispectral" and split == "train"
    make = partial(_make_scenes, data, source, split, cleaned)
    if cache is None:
        return make()
    return _remember(cache / f"{source}-{split}{'-agreed' if cleaned else ''}.pickle", make)


def _make_scenes(data: Path, source: str, split: str, cleaned: bool) -> list[Scene]:
    """Scenes from disk, from an index, or drawn with the bands of a five-band chip."""
    if source == "synthetic":
        return [draw_scene(seed) for seed in SYNTHETIC_SEEDS.get(split, ())]
    if source == "scenes":
        seen = INDEXED if split == "train" else ()
        return [make_scene(source, name, *read_indexed(data, name)) for name in seen]
    names = split_names(data, source)[split]
    return [read_scene(data, source, name, cleaned) for name in names]


def draw_scene(seed: int) -> Scene:
    """One synthetic scene; its near infrared stands in for the missing short-wave band."""
    drawn = synthetic_scene((SYNTHETIC_PX, SYNTHETIC_PX), seed=seed, nodata_corner=0.0)
    bands = drawn.scene.sel(band=["blue", "green", "red", "nir", "nir"]).values
    pixels = np.clip(bands, 1, 32767).astype(np.int16)
    return make_scene("synthetic", f"synthetic_{seed}", pixels, drawn.truth.values.astype(np.uint8))


def _remember(path: Path, make: Callable[[], list[Scene]]) -> list[Scene]:
    if path.exists():
        return pickle.loads(path.read_bytes())
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(pickle.dumps(made, protocol=5))
    partial.rename(path)
    return made


def split_names(data: Path, source: str) -> dict[str, list[str]]:
    """Image names of a data set by split, with "all" for every one of them."""
    splits = json.loads((data / "splits.json").read_text()).get(source)
    every = sorted(path.stem for path in (data / source / "images").iterdir())
    if source == "aerial_dry":
        splits = _split_dry(every)
    if source == "oblique_floods":
        every = sorted(every, key=int)
        kept = len(every) - round(_HELD_OUT_FLOODS * len(every))
        splits = {"train": every[:kept], "val": every[kept:], "test": every[kept:]}
    if splits is None:
        splits = {"train": [], "val": [], "test": every}
    return {**splits, "all": every}


def _split_dry(names: list[str]) -> dict[str, list[str]]:
    """Hold out the last block of every prefix: neighbours can share a parent image."""
    held = []
    for prefix in sorted({name.split("_")[0] for name in names}):
        block = [name for name in names if name.startswith(prefix + "_")]
        held += block[-max(1, round(_HELD_OUT_DRY * len(block))) :]
    train = [name for name in names if name not in set(held)]
    return {"train": train, "val": held, "test": held}


def read_scene(data: Path, source: str, name: str, cleaned: bool = False) -> Scene:
    """Decode one image and its mask, and build its pyramid; cleaned, without what an index denies."""
    folder = data / source
    path = next((folder / "images").glob(f"{name}.*"))
    with rasterio.open(path) as image:
        pixels = image.read()
    pixels = pixels[:3] if pixels.dtype == np.uint8 else pixels
    mask = folder / "masks" / f"{name}.png"
    label = np.zeros(pixels.shape[1:], np.uint8)
    if mask.exists():
        with rasterio.open(mask) as image:
            label = image.read(1)
    label = np.where((pixels == 0).all(0), IGNORE, label).astype(np.uint8)
    label = agreed(pixels, label) if cleaned else label
    return make_scene(source, name, pixels, label)


def make_scene(source: str, name: str, pixels: np.ndarray, label: np.ndarray) -> Scene:
    """A scene from arrays.

    Parameters
    ----------
    source, name : str
        Data set and image.
    pixels : numpy.ndarray, (band, y, x)
        uint8 RGB, or int16 blue, green, red, nir, swir1; 0 in all bands is nodata.
    label : numpy.ndarray, (y, x)
        LAND, WATER or IGNORE.

    Returns
    -------
    Scene
    """
    levels, labels = [pixels], [label]
    while len(levels) < _LEVELS and min(levels[-1].shape[1:]) >= 512:
        levels.append(_halve(levels[-1]))
        labels.append(_halve_label(labels[-1]))
    valid = (pixels != 0).any(0)
    sample = pixels[:, valid] if valid.any() else pixels.reshape(len(pixels), -1)
    step = max(1, sample.shape[1] // 100_000)
    quantiles = np.percentile(sample[:, ::step], QUANTILES, axis=1).T
    wet = np.argwhere(label == WATER)
    wet = wet[:: max(1, len(wet) // _ANCHORS)]
    return Scene(source, name, tuple(levels), tuple(labels), quantiles, wet)


def _halve(pixels: np.ndarray) -> np.ndarray:
    bands, rows, cols = pixels.shape
    even = pixels[:, : rows // 2 * 2, : cols // 2 * 2].astype(np.float32)
    mean = even.reshape(bands, rows // 2, 2, cols // 2, 2).mean((2, 4))
    return np.rint(mean).astype(pixels.dtype)


def _halve_label(label: np.ndarray) -> np.ndarray:
    rows, cols = label.shape
    blocks = label[: rows // 2 * 2, : cols // 2 * 2].reshape(rows // 2, 2, cols // 2, 2)
    water = (blocks == WATER).mean((1, 3))
    known = (blocks != IGNORE).mean((1, 3))
    out = np.where(water >= 0.5 * known, WATER, LAND)
    return np.where(known < 0.5, IGNORE, out).astype(np.uint8)
