"""Clicks simulated from a label: control points of the river recipe, and corrections of an answer.

Points are x, y in pixels of the tile, (0, 0) at the outer corner of its first, so that a pixel's
centre is at (0.5, 0.5).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from geosam.prompts.control_points import (
    LAND_EROSION,
    LAND_SPREAD,
    REFERENCE_SIZE,
    WATER_EROSION,
    WATER_SPREAD,
    distance_apart,
    erosion_count,
    random_points,
)
from geosam.training.sample import LAND, WATER


def seeded(seed: int, epoch: int, item: int) -> np.random.Generator:
    """Return the generator of one item in one epoch."""
    return np.random.default_rng([seed, epoch, item])


def river_clicks(
    label: np.ndarray, n_pos: int, n_neg: int, rng: np.random.Generator, erode: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Pick control points on water and on land, at random but well inside and apart.

    Where there is no room for all, there are fewer: a prompt is never padded.

    Parameters
    ----------
    label
        (size, size) uint8 of LAND, WATER and IGNORE.
    n_pos, n_neg
        Points wanted on water and on land.
    rng
        Decides everything random.
    erode
        Whether the banks are eroded away first, the more the larger the region.

    Returns
    -------
    tuple
        Points (k, 2) float and labels (k,) int, 1 water and 0 land.

    References
    ----------
    water-surf, https://github.com/geo-smart/water-surf: N**0.6 / 35 erosions and 2.75 sqrt(N) / n
    pixels apart on water, N**0.6 / 50 and 2 sqrt(N) / n on land, for tiles of 256 px; erosions
    grow with the tile here.
    """
    water = _spread(label == WATER, n_pos, rng, erode, WATER_EROSION, WATER_SPREAD)
    land = _spread(label == LAND, n_neg, rng, erode, LAND_EROSION, LAND_SPREAD)
    return np.concatenate([water, land]), np.repeat([1, 0], [len(water), len(land)])


def _spread(
    region: np.ndarray,
    n: int,
    rng: np.random.Generator,
    erode: bool,
    divisor: float,
    factor: float,
) -> np.ndarray:
    if n == 0 or not region.any():
        return np.empty((0, 2))
    scale = max(region.shape) / REFERENCE_SIZE
    if erode:
        region = eroded(region, erosion_count(int(region.sum()), scale, divisor))
    picked = random_points(region, n, distance_apart(region, n, factor), rng)
    return picked[:, ::-1] + 0.5


def eroded(region: np.ndarray, times: int) -> np.ndarray:
    """Erode by a 3x3 square, but never so often that nothing is left; the image's edge stays.

    Examples
    --------
    >>> stream = np.zeros((9, 9), bool)
    >>> stream[3:6] = True
    >>> eroded(stream, 8).sum()
    np.int64(9)
    """
    if region.all():
        return region
    # A pixel survives k erosions if it is farther than k from the outside, as the king moves.
    depth = ndimage.distance_transform_cdt(region, "chessboard")
    return depth > min(times, int(depth.max()) - 1)


def deepest_click(answer: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, int] | None:
    """Click where an answer is wrong deepest: the pixel of the error farthest from its border.

    Parameters
    ----------
    answer
        (size, size) bool.
    label
        (size, size) uint8 of LAND, WATER and IGNORE.

    Returns
    -------
    tuple or None
        Point (2,) and label: 1 where water was missed, 0 where there is none. None where nothing
        is wrong.

    References
    ----------
    The evaluation of SAM 2, Ravi et al. 2024, https://arxiv.org/abs/2408.00714.
    """
    missed, false = _depth((label == WATER) & ~answer), _depth((label == LAND) & answer)
    depth = missed if missed.max() >= false.max() else false
    if depth.max() == 0:
        return None
    row, col = divmod(int(depth.argmax()), depth.shape[1])
    return np.array([col + 0.5, row + 0.5]), int(depth is missed)


def _depth(region: np.ndarray) -> np.ndarray:
    return ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
