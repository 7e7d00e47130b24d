"""A plain field with separate objects on it: discs, ellipses and rectangles that can be counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from geosam.cutouts import Cutout, cut_out
from geosam.types import Window

GROUND = (76, 102, 51)
"""Red, green and blue of the field."""
CONTRAST = 75
"""Least distance of an object's colour from the field's."""
GAP_PX = 8
"""Pixels between objects, and from the scene's edge, at least."""


def object_scene(
    shape: tuple[int, int],
    n_objects: int,
    seed: int = 0,
    *,
    noise: float = 5.0,
    radius: tuple[float, float] = (12, 28),
) -> tuple[np.ndarray, list[Cutout]]:
    """Draw objects that do not touch on a plain field.

    Parameters
    ----------
    shape
        Rows and columns.
    n_objects
        How many.
    seed
        Another seed draws another scene.
    noise
        Standard deviation of every pixel, in steps of 255.
    radius
        Smallest and largest half length of an object in pixels.

    Returns
    -------
    pixels : (3, y, x) uint8
        Red, green and blue, 1 to 255; 0 is kept for nodata.
    objects : list of Cutout
        The true masks.

    Raises
    ------
    ValueError
        If so many do not fit.
    """
    rng = np.random.default_rng(seed)
    taken = np.zeros(shape, bool)
    objects: list[Cutout] = []
    pixels = np.empty((3, *shape), np.float32)
    pixels[:] = np.array(GROUND)[:, None, None]
    for _ in range(200 * n_objects):
        if len(objects) == n_objects:
            break
        found = _place(taken, rng, radius)
        if found is not None:
            objects.append(found)
            rows, cols = found.window.slices()
            pixels[:, rows, cols][:, found.mask] = _colour(rng)[:, None]
    if len(objects) < n_objects:
        raise ValueError(f"{n_objects} objects do not fit on {shape[0]} x {shape[1]} pixels.")
    for band in pixels:
        band += noise * rng.standard_normal(shape, dtype=np.float32)
    return np.clip(np.rint(pixels), 1, 255).astype(np.uint8), objects


def nested_objects(
    seed: int = 0, size: int = 256
) -> tuple[np.ndarray, list[np.ndarray], tuple[float, float]]:
    """Draw a disc on a disc on a square, in colours that differ from the next.

    Parameters
    ----------
    seed
        Another seed draws others.
    size
        Rows and columns.

    Returns
    -------
    pixels : (3, size, size) float32
        0 to 1.
    masks : list of (size, size) bool
        From the innermost to the outermost, each with those inside it.
    point
        x, y of the middle of all.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] + 0.5
    middle = rng.uniform(0.43, 0.57, 2) * size
    reach = [rng.uniform(*r) * size for r in ((0.055, 0.095), (0.15, 0.2), (0.27, 0.37))]
    distance = np.hypot(x - middle[0], y - middle[1])
    square = np.maximum(abs(x - middle[0]), abs(y - middle[1])) < reach[2]
    masks = [distance < reach[0], distance < reach[1], square]
    colours = [rng.uniform(0.05, 0.95, 3)]
    while len(colours) < 4:
        colour = rng.uniform(0.05, 0.95, 3)
        if np.linalg.norm(colour - colours[-1]) > CONTRAST / 255:
            colours.append(colour)
    pixels = np.empty((3, size, size))
    pixels[:] = colours[0][:, None, None]
    for mask, colour in zip(masks[::-1], colours[1:], strict=True):
        pixels[:, mask] = colour[:, None]
    noisy = np.clip(pixels + 0.02 * rng.standard_normal(pixels.shape), 0, 1)
    return noisy.astype(np.float32), masks, (float(middle[0]), float(middle[1]))


def write_picture(
    path: str | Path,
    pixels: np.ndarray,
    *,
    pixel_m: float = 1.0,
    corner: tuple[float, float] = (499_968.0, 4_999_680.0),
) -> Path:
    """Write (3, y, x) uint8 as a GeoTIFF of UTM zone 33N, 0 nodata.

    Parameters
    ----------
    path
        The file.
    pixels
        Red, green and blue.
    pixel_m
        Side of a pixel in metres.
    corner
        x, y of the upper left corner: multiples of 576 px, so that tiles of many sizes begin there.
    """
    profile = {
        "driver": "GTiff", "count": 3, "dtype": "uint8", "height": pixels.shape[1],
        "width": pixels.shape[2], "crs": "EPSG:32633", "nodata": 0, "photometric": "RGB",
        "transform": Affine(pixel_m, 0, corner[0], 0, -pixel_m, corner[1]), "tiled": True,
        "compress": "deflate",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels)
    return Path(path)


def _place(
    taken: np.ndarray, rng: np.random.Generator, radius: tuple[float, float]
) -> Cutout | None:
    """Draw one object where there is room for it, and take the room around it."""
    height, width = taken.shape
    reach = rng.uniform(*radius)
    box = int(np.ceil(reach)) + GAP_PX + 1
    if 2 * box >= min(height, width):
        return None
    row, col = (rng.integers(box, length - box) for length in taken.shape)
    window = Window(int(row) - box, int(col) - box, 2 * box, 2 * box)
    room = taken[window.slices()]
    if room.any():
        return None
    mask = _figure(2 * box, reach, rng)
    inner = cut_out(mask)
    assert inner is not None
    room[:] = True
    at = inner.window
    return Cutout(Window(window.row + at.row, window.col + at.col, at.height, at.width), inner.mask)


def _figure(size: int, reach: float, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.6)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = stretch * (y * np.cos(angle) - x * np.sin(angle))
    if rng.random() < 0.5:
        return np.hypot(along, across) < reach
    return np.maximum(abs(along), abs(across)) < reach * 0.7


def _colour(rng: np.random.Generator) -> np.ndarray:
    while True:
        colour = rng.uniform(12, 243, 3)
        if np.linalg.norm(colour - GROUND) >= CONTRAST:
            return colour
