"""Water that is doubtful is believed where it hangs together with water that is sure.

Thresholding with hysteresis (Canny 1986, A computational approach to edge detection, IEEE Transactions on
Pattern Analysis and Machine Intelligence 8), with a reach: what hangs together without one can depend on
what lies anywhere in a scene.
"""

from __future__ import annotations

import dask.array as da
import numpy as np
import xarray as xr
from scipy import ndimage

from geosam.grids import geobox_of
from geosam.tiles import anchor
from geosam.windows import map_around

SURE_LOGIT = 4.0
"""Logit of the learned network, with what the scene's own colours say, from which on water is sure."""
CELL_PX = 8
"""Side of the cells in which connection is told, in pixels of the model's grid, counted from the origin of
the CRS. Gaps under trees and bridges that fit between two of them are no matter."""
REACH_PX = 256
"""How far from sure water doubtful water is believed, from cell to cell."""
_BLOCK_PX = 2048
"""Side of what is looked at at once: a block of a run with its surroundings."""


def near_sure(evidence: xr.DataArray) -> da.Array:
    """Return where evidence speaks for water that hangs together with sure water.

    Parameters
    ----------
    evidence
        (y, x) float32 logits on the model's grid; NaN where there is none.

    Returns
    -------
    dask.array.Array
        (y, x) bool, lazy. A pixel depends on what lies within :data:`REACH_PX` and a cell of it.
    """
    row, col = (start % CELL_PX for start in anchor(geobox_of(evidence)))
    aligned = da.pad(da.asarray(evidence.data), ((row, 0), (col, 0)), constant_values=-np.inf)
    seen = {"logits": aligned.rechunk(_BLOCK_PX)}
    return map_around(_believed, seen, {"logits": -np.inf}, REACH_PX, bool)[row:, col:]


def _believed(logits: np.ndarray) -> np.ndarray:
    water = logits > 0
    if not water.any():
        return water
    sure = _in_cells(logits > SURE_LOGIT)
    if sure.any():
        reached = REACH_PX // CELL_PX
        around = np.ones((3, 3), bool)
        sure = np.asarray(ndimage.binary_dilation(sure, around, reached, mask=_in_cells(water)))
    fine = sure.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)
    return water & fine[: water.shape[0], : water.shape[1]]


def _in_cells(mask: np.ndarray) -> np.ndarray:
    """Return which cells hold any of a mask that begins with one."""
    over = [(0, -side % CELL_PX) for side in mask.shape]
    rows, cols = (
        (side + more) // CELL_PX for side, (_, more) in zip(mask.shape, over, strict=True)
    )
    parts = np.pad(mask, over).reshape(rows, CELL_PX, cols, CELL_PX)
    return np.asarray(parts.any(axis=(1, 3)))
