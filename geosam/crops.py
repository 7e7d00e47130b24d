"""Crops of a picture that are looked at larger, layer by layer, as SAM's mask generator has them.

Kirillov et al. 2023, Segment Anything, https://arxiv.org/abs/2304.02643, appendix B.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from geosam.types import Window

NEAR_PX = 20
"""Pixels from a crop's edge within which a mask counts as cut, of a picture of 1024."""


def crop_windows(
    shape: tuple[int, int], n_layers: int, overlap_ratio: float
) -> list[tuple[int, Window]]:
    """Lay out the crops of a picture: the whole in layer 0, then 4, 16, ... in the layers after.

    Parameters
    ----------
    shape
        Rows and columns of the picture.
    n_layers
        Layers after the whole.
    overlap_ratio
        Share of the shorter side by which crops of the first layer overlap; half of it in the next.

    Returns
    -------
    list of (layer, Window)

    Examples
    --------
    >>> [(w.row, w.col, w.height, w.width) for _, w in crop_windows((80, 100), 1, 0.25)]
    [(0, 0, 80, 100), (0, 0, 50, 60), (30, 0, 50, 60), (0, 40, 50, 60), (30, 40, 50, 60)]
    """
    found = [(0, Window(0, 0, *shape))]
    for layer in range(1, n_layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(shape) * 2 / per_side)
        sides = [math.ceil((overlap * (per_side - 1) + length) / per_side) for length in shape]
        starts = [[(side - overlap) * i for i in range(per_side)] for side in sides]
        for col, row in product(starts[1], starts[0]):
            height, width = min(sides[0], shape[0] - row), min(sides[1], shape[1] - col)
            found.append((layer, Window(row, col, height, width)))
    return found


def near_crop_edge(
    boxes: np.ndarray, crop: Window, shape: tuple[int, int], near: float = NEAR_PX
) -> np.ndarray:
    """Mark boxes that come near an edge of their crop which is no edge of the picture.

    Parameters
    ----------
    boxes : (n, 4)
        x_min, y_min, x_max, y_max in pixels of the picture.
    crop
        The crop.
    shape
        Rows and columns of the picture.
    near
        Pixels that count as near.

    Returns
    -------
    (n,) bool
    """
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    of_crop = np.array([crop.col, crop.row, crop.col_end, crop.row_end])
    of_picture = np.array([0, 0, shape[1], shape[0]])
    by_crop, by_picture = np.abs(boxes - of_crop) <= near, np.abs(boxes - of_picture) <= near
    return (by_crop & ~by_picture).any(axis=1)
