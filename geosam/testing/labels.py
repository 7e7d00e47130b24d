"""Labels as people and older models draw them: wrong."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from geosam.testing.noise import smooth_noise

BANK_SCALE_PX = 30.0
"""Length along a bank over which it is drawn too far in or out."""
GAP = (0.03, 0.12)
"""Radii of the gaps in the water, as shares of the image's smaller side."""


def mislabel(
    truth: np.ndarray, *, seed: int = 0, lost: float = 0.3, bank_px: float = 1.5
) -> np.ndarray:
    """Return a label with gaps in the water and banks that wander, most of them inwards.

    As the labels of the Elwha river are, some of which hold a small part of the water
    (https://zenodo.org/records/10155783).

    Parameters
    ----------
    truth
        (y, x) uint8: 1 water, 0 land, 255 ignored, which stays so.
    seed
        The same seed makes the same mistakes.
    lost
        Share of the water that gaps take, 0 to 1.
    bank_px
        How far banks wander, one standard deviation, around a bank half of that too far in.

    Returns
    -------
    (y, x) uint8

    Examples
    --------
    >>> river = np.zeros((64, 64), np.uint8)
    >>> river[24:40] = 1
    >>> bool((mislabel(river)[24:40] == 1).mean() < 0.75)
    True
    """
    rng = np.random.default_rng(seed)
    water = _wandering(truth == 1, bank_px, rng)
    water &= ~_gaps(water, lost, rng)
    return np.where(truth == 255, 255, water).astype(np.uint8)


def _wandering(water: np.ndarray, bank_px: float, rng: np.random.Generator) -> np.ndarray:
    """Move every bank by a smooth random distance."""
    depth = ndimage.distance_transform_edt(water) - ndimage.distance_transform_edt(~water)
    wander = smooth_noise(water.shape, BANK_SCALE_PX, rng) - 0.5
    return np.asarray(depth + bank_px * wander > 0) if water.any() else water.copy()


def _gaps(water: np.ndarray, lost: float, rng: np.random.Generator) -> np.ndarray:
    """Draw discs on the water until that share of it is covered, (y, x) bool."""
    rows, cols = np.indices(water.shape)
    gaps = np.zeros_like(water)
    while water.any() and (water & gaps).sum() < lost * water.sum():
        row, col = rng.choice(np.argwhere(water & ~gaps))
        radius = rng.uniform(*GAP) * min(water.shape)
        gaps |= (rows - row) ** 2 + (cols - col) ** 2 < radius**2
    return gaps
