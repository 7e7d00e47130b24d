"""Scenes -> training tiles at a chosen scale: crop, resample, stretch.

Both networks of `river-tiny` draw their tiles here.  A tile's pixels are what
the toolkit would show its models: stretched to 0..1, nodata at 0.5.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from geosam.training.river_tiny.sources import QUANTILES, Scene
from geosam.training.sample import IGNORE, WATER, Sample

NODATA_FILL = 0.5
"""Value of nodata after the stretch: the models' mean."""

RGB_BANDS = (2, 1, 0)
"""Red, green, blue of a five-band chip (blue, green, red, nir, swir1)."""

FALSE_COLOURS = ((3, 2, 1), (3, 2, 1), (3, 2, 1), (4, 3, 2), (4, 3, 1), (1, 1, 1), (3, 3, 3))
"""Composites of a five-band chip, nir-red-green first and most often."""


_MIRRORED = 0.65


def draw_zoom(scene: Scene, rng: np.random.Generator) -> float:
    """A ground resolution the toolkit might choose for this kind of scene.

    Satellite chips are shown at about twice their resolution, aerial images
    reduced to about 0.3 to 2 m.
    """
    if scene.source == "chips_multispectral":
        return rng.uniform(1.5, 2.5) if rng.random() < 0.85 else 1.0
    if scene.source in ("chips_s2_rgb", "scenes"):
        return rng.uniform(1.4, 2.5) if rng.random() < 0.8 else rng.uniform(0.8, 1.4)
    low, high = _ZOOMS.get(scene.group, _ZOOMS.get(scene.source, (0.4, 1.0)))
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


_ZOOMS = {
    "aerial_ste_marguerite": (0.08, 0.6),
    "aerial_dubai": (0.4, 1.5),
    "aerial_monterey": (0.25, 1.2),
    "oblique_floods": (0.4, 1.2),
    "synthetic": (0.5, 2.2),
    "naip": (0.6, 2.0),
    "image": (0.3, 1.0),
    "caliterra": (0.3, 1.0),
    "brighton": (0.35, 1.0),
    "deepforest": (0.4, 1.2),
}


def draw_tile(
    scene: Scene,
    size: int,
    rng: np.random.Generator,
    composite: tuple[int, ...] | None = None,
    wet_share: float = 0.6,
    zoom: float | None = None,
) -> Sample:
    """Cut one tile from a scene at a random place.

    Parameters
    ----------
    scene : Scene
        Where to cut.
    size : int
        Height and width of the tile.
    rng : numpy.random.Generator
        Decides everything random.
    composite : tuple of int, optional
        Three bands to show; red, green, blue when it is None.
    wet_share : float
        Share of tiles that are centred near water, where there is some.
    zoom : float, optional
        Tile pixels for each native pixel; drawn from the scene's kind when None.

    Returns
    -------
    Sample
    """
    zoom = zoom or draw_zoom(scene, rng)
    level = min(len(scene.levels) - 1, max(0, int(np.floor(-np.log2(zoom) + 1e-6))))
    span = max(8, round(size / (zoom * 2**level)))
    origin = _draw_origin(scene, level, span, rng, wet_share)
    bands = composite or (RGB_BANDS if not scene.is_rgb else (0, 1, 2))
    raw, label = _cut(scene, level, origin, span, bands)
    if rng.random() < _MIRRORED:
        raw, label = _mirror_outside(raw, label, scene, level, origin)
    nodata = (raw == 0).all(0)
    how = draw_stretch(rng, scene.is_rgb)
    if span > size:
        pixels = stretch(_resample(raw, size), scene, bands, how)
    else:
        pixels = _resample(stretch(raw, scene, bands, how), size)
    pixels[:, _nearest(nodata, size)] = NODATA_FILL
    return Sample(pixels, resample_label(label, size), zoom)


def _draw_origin(
    scene: Scene, level: int, span: int, rng: np.random.Generator, wet_share: float
) -> tuple[int, int]:
    """Upper left corner of the window, which overhangs a scene that is too small."""
    rows, cols = scene.labels[level].shape
    if len(scene.wet) and rng.random() < wet_share:
        row, col = scene.wet[rng.integers(len(scene.wet))] / 2**level
        corner = np.array([row, col]) - span * rng.uniform(0.1, 0.9, 2)
    else:
        corner = rng.uniform(0, 1, 2) * (np.array([rows, cols]) - span)
    limits = np.array([rows, cols]) - span
    corner = np.clip(corner, np.minimum(0, limits), np.maximum(0, limits))
    return int(corner[0]), int(corner[1])


def _cut(
    scene: Scene, level: int, origin: tuple[int, int], span: int, bands: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """A window as float32 (3, span, span); 0 and IGNORE where it overhangs."""
    source, truth = scene.levels[level], scene.labels[level]
    raw = np.zeros((3, span, span), np.float32)
    label = np.full((span, span), IGNORE, np.uint8)
    inside, window = _overlap(truth.shape, origin, span)
    raw[(slice(None), *inside)] = source[(list(bands), *window)]
    label[inside] = truth[window]
    return raw, label


def _overlap(
    shape: tuple[int, ...], origin: tuple[int, int], span: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of a window that the scene covers, in the window and in the scene."""
    inside, window = [], []
    for start, length in zip(origin, shape, strict=True):
        low, high = max(0, start), min(length, start + span)
        inside.append(slice(low - start, high - start))
        window.append(slice(low, high))
    return (inside[0], inside[1]), (window[0], window[1])


def _mirror_outside(
    raw: np.ndarray, label: np.ndarray, scene: Scene, level: int, origin: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Fill the overhang with the scene mirrored at its edge, so that small chips fill a tile."""
    span = label.shape[0]
    inside, _ = _overlap(scene.labels[level].shape, origin, span)
    pads = [(part.start, span - part.stop) for part in inside]
    if not any(map(any, pads)):
        return raw, label
    filled = np.pad(raw[(slice(None), *inside)], [(0, 0), *pads], mode="symmetric")
    return filled, np.pad(label[inside], pads, mode="symmetric")


def draw_stretch(rng: np.random.Generator, is_rgb: bool) -> tuple[str, float, float]:
    """How the tile is stretched: kind, low and high percentile."""
    kinds, odds = ("raw", "joint", "band"), (0.25, 0.3, 0.45) if is_rgb else (0.0, 0.35, 0.65)
    kind = str(rng.choice(kinds, p=odds))
    return kind, float(rng.choice([0.0, 0.5, 1, 2, 3])), float(rng.choice([97, 98, 99, 99.5, 100]))


def stretch(
    raw: np.ndarray, scene: Scene, bands: tuple[int, ...], how: tuple[str, float, float]
) -> np.ndarray:
    """Bring raw values to 0..1 by the percentiles of the whole scene.

    Parameters
    ----------
    raw : numpy.ndarray, (3, y, x)
        Values of the three shown bands.
    scene : Scene
        Gives the percentiles.
    bands : tuple of int
        The bands shown.
    how : (str, float, float)
        "raw" divides 8 bits by 255; "joint" uses one pair of percentiles for all
        bands, "band" a pair for each.

    Returns
    -------
    numpy.ndarray, (3, y, x) float32
    """
    kind, low_percent, high_percent = how
    if kind == "raw":
        return raw / np.float32(255.0)
    columns = scene.quantiles[list(bands)]
    low = np.array([np.interp(low_percent, QUANTILES, row) for row in columns])
    high = np.array([np.interp(high_percent, QUANTILES, row) for row in columns])
    if kind == "joint":
        low, high = np.full(3, low.min()), np.full(3, high.max())
    scale = (1.0 / np.maximum(high - low, 1e-6)).astype(np.float32)
    shown = (raw - low.astype(np.float32)[:, None, None]) * scale[:, None, None]
    return np.clip(shown, 0, 1, out=shown)


def _resample(pixels: np.ndarray, size: int) -> np.ndarray:
    tensor = torch.from_numpy(pixels)[None]
    shrinks = pixels.shape[-1] > size
    out = functional.interpolate(
        tensor, (size, size), mode="bilinear", align_corners=False, antialias=shrinks
    )
    return out[0].numpy()


def _nearest(mask: np.ndarray, size: int) -> np.ndarray:
    index = (np.arange(size) * (mask.shape[0] / size)).astype(int)
    return mask[np.ix_(index, index)]


def resample_label(label: np.ndarray, size: int) -> np.ndarray:
    """Bring a label to another size with smooth outlines.

    Parameters
    ----------
    label : numpy.ndarray, (y, x) uint8
        LAND, WATER and IGNORE.
    size : int
        Height and width wanted.

    Returns
    -------
    numpy.ndarray, (size, size) uint8
        The water share resampled bilinearly, cut at a half.
    """
    water = _resample((label == WATER).astype(np.float32)[None], size)[0]
    ignored = _nearest(label == IGNORE, size)
    return np.where(ignored, IGNORE, water >= 0.5).astype(np.uint8)
