"""A picture -> the shapes that colour alone tells apart, as masks to ask a model about.

A small network reads a mask long before it reads a click: a click alone gives it all that has the
colour under it. So that it can be asked about one thing, the picture is parted into regions of like
colour at several scales, and each region, with and without its holes, is a question. The answer is
the model's: it moves the outline, and says by its predicted IoU whether there is an object.

Felzenszwalb and Huttenlocher 2004, Efficient graph-based image segmentation,
https://doi.org/10.1023/B:VISI.0000022288.19776.77.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage
from skimage.segmentation import felzenszwalb

from geosam.boxes import box_iou
from geosam.cutouts import Cutout, cut_out, mask_iou
from geosam.types import Window

SCALES = (7e3, 3e4, 1.2e5)
"""Of the regions, for a noise of 1: the larger, the fewer and larger regions. In proportion to the
noise, so that grain is no shape."""
LEAST_NOISE = 0.004
"""Standard deviation that a picture of eight bits has at least."""
LEAST_CELLS = 12
"""Smallest region, in cells."""
CELL_PX = 2
"""Pixels a side of a cell: masks of small models are no finer."""
ALIKE = 0.9
"""IoU above which two shapes are one question."""
_NORMAL_MEDIAN = 0.6745
"""Median of the absolute value of a standard normal variable."""
HOLE = 0.05
"""Share of a region below which its holes are no other question."""


def find_shapes(pixels: np.ndarray, valid: np.ndarray | None = None) -> list[Cutout]:
    """Find the shapes of a picture.

    Parameters
    ----------
    pixels : (3, y, x) float32
        0 to 1, nodata 0.5; y and x even.
    valid : (y, x) bool, optional
        False where nodata: no shape reaches there.

    Returns
    -------
    list of Cutout
        From small to large, no two alike; they overlap and contain one another.
    """
    bands, height, width = pixels.shape
    cells = pixels.reshape(bands, height // CELL_PX, CELL_PX, width // CELL_PX, CELL_PX)
    # Not blurred: a blurred edge is a region of its own, and hides the object's outline.
    image = cells.mean((2, 4))
    noise = max(LEAST_NOISE, _noise(image, valid))
    found = [
        shape
        for scale in SCALES
        for region in _regions(image, scale * noise)
        if (shape := _fine(region, valid)) is not None
    ]
    return _unlike(sorted(found, key=lambda shape: shape.area))


def deepest(shape: Cutout) -> tuple[float, float]:
    """Return x, y of the pixel centre that is farthest from a shape's edge."""
    depth = ndimage.distance_transform_edt(np.pad(shape.mask, 1))[1:-1, 1:-1]
    row, col = np.unravel_index(depth.argmax(), depth.shape)
    return float(shape.window.col + col + 0.5), float(shape.window.row + row + 0.5)


def _noise(image: np.ndarray, valid: np.ndarray | None) -> float:
    """Estimate the standard deviation of noise, by what is left of a picture without its slopes.

    Immerkær 1996, Fast noise variance estimation, https://doi.org/10.1006/cviu.1996.0060; with the
    median in place of the mean, so that edges do not count.
    """
    kernel = np.outer([1, -2, 1], [1, -2, 1])
    left = ndimage.convolve(image, kernel[None])[:, 1:-1, 1:-1]
    if valid is not None:
        left = left[:, valid[::CELL_PX, ::CELL_PX][1:-1, 1:-1]]
    return float(np.median(np.abs(left)) / (_NORMAL_MEDIAN * 6)) if left.size else 0.0


def _regions(image: np.ndarray, scale: float) -> Iterator[Cutout]:
    """Give the regions of one scale in cells, and each with its holes filled."""
    parts = felzenszwalb(np.moveaxis(image, 0, -1), scale=scale, sigma=0, min_size=LEAST_CELLS)
    for k, (rows, cols) in enumerate(ndimage.find_objects(parts + 1)):
        region = parts[rows, cols] == k
        window = Window(rows.start, cols.start, *region.shape)
        yield Cutout(window, region)
        filled = ndimage.binary_fill_holes(region)
        if filled.sum() > (1 + HOLE) * region.sum():
            yield Cutout(window, filled)


def _fine(region: Cutout, valid: np.ndarray | None) -> Cutout | None:
    """Bring a region from cells to pixels, without what has no data."""
    mask = region.mask.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)
    window = Window(region.window.row * CELL_PX, region.window.col * CELL_PX, *mask.shape)
    if valid is None:
        return Cutout(window, mask)
    inner = cut_out(mask & valid[window.slices()])
    if inner is None or inner.area < LEAST_CELLS * CELL_PX**2:
        return None
    moved = Window(inner.window.row + window.row, inner.window.col + window.col, *inner.mask.shape)
    return Cutout(moved, inner.mask)


def _unlike(shapes: list[Cutout]) -> list[Cutout]:
    """Keep the first of shapes that are nearly the same."""
    kept: list[Cutout] = []
    boxes = np.array([shape.box for shape in shapes], float).reshape(-1, 4)
    places: list[int] = []
    for i, shape in enumerate(shapes):
        near = np.flatnonzero(box_iou(boxes[i : i + 1], boxes[places])[0] > ALIKE)
        if all(mask_iou(shape, kept[k]) <= ALIKE for k in near):
            kept.append(shape)
            places.append(i)
    return kept
