"""What every training learns from: a tile of pixels and its labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LAND, WATER, IGNORE = 0, 1, 255
"""Values of every label array."""


@dataclass(frozen=True)
class Sample:
    """One tile and its truth."""

    pixels: np.ndarray
    """(3, y, x) float32, 0 to 1, nodata 0.5."""

    label: np.ndarray
    """(y, x) uint8 of LAND, WATER and IGNORE."""

    zoom: float
    """Tile pixels for each pixel of the image the tile was cut from."""
