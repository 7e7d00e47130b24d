"""Small holes and islands of a mask, mended as SAM's mask generator does."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_EVERYWHERE = np.ones((3, 3), bool)
"""Pixels that touch at a corner hang together."""


def fill_small_holes(mask: np.ndarray, least: float) -> np.ndarray:
    """Fill the parts of the ground of (y, x) bool that have fewer pixels than `least`.

    Ground at the border of the array is a hole like any other, as it is in SAM.
    """
    parts, n = ndimage.label(~mask, _EVERYWHERE)
    small = np.bincount(parts.ravel(), minlength=n + 1) < least
    small[0] = False
    return mask | small[parts]


def drop_small_islands(mask: np.ndarray, least: float) -> np.ndarray:
    """Drop the parts of (y, x) bool that have fewer pixels than `least`; the largest stays."""
    parts, n = ndimage.label(mask, _EVERYWHERE)
    sizes = np.bincount(parts.ravel(), minlength=n + 1)
    kept = sizes >= least
    kept[0] = False
    if n and not kept.any():
        kept[1 + sizes[1:].argmax()] = True
    return kept[parts]
