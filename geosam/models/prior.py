"""Clicks and boxes drawn into the mask prompt, for networks too small to read them as tokens.

A network with a million parameters learns where a token points only after millions of examples;
a map it reads with its convolutions from the start. The mask input of SAM takes logits, so that
"here", "not here" and "unknown" can all be said in it.
"""

from __future__ import annotations

import numpy as np

SURE = 6.0
"""Logit of what a click or the outside of a box says."""
INSIDE_BOX = 1.0
"""Logit inside a box where nothing else is known: the object fills about two thirds of it."""
CLICK_RADIUS = 2.5
"""Radius of a click in cells of the map."""


def draw_prior(
    shape: tuple[int, int],
    stride: float,
    points: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    box: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Say what the prompts of one object say as a map of logits.

    Parameters
    ----------
    shape
        Rows and columns of the map.
    stride
        Tile pixels a cell.
    points
        (k, 2) x, y in tile pixels, (0, 0) the outer corner of the first.
    labels
        (k,): 1 object, 0 not, -1 no point.
    box
        (4,) x, y, x, y in tile pixels.
    mask
        (rows, columns) logits of a mask prompt or of an earlier answer.

    Returns
    -------
    ndarray (rows, columns) float32
        Zero where nothing is known. A later click overrules what stood there, but where the mask prompt
        says the same already its doubts stay.
    """
    prior = np.zeros(shape, np.float32) if mask is None else mask.astype(np.float32)
    x, y = np.arange(shape[1]) + 0.5, np.arange(shape[0])[:, None] + 0.5
    if box is not None:
        left, top, right, bottom = np.asarray(box) / stride
        inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        known = INSIDE_BOX if mask is None else prior
        prior = np.where(inside, known, -SURE).astype(np.float32)
    if points is not None and labels is not None:
        for (column, row), label in zip(np.asarray(points) / stride, labels, strict=True):
            if label >= 0:
                near = np.hypot(x - column, y - row) <= CLICK_RADIUS
                if mask is None or not _says(mask, column, row, label):
                    prior[near] = SURE if label else -SURE
    return prior


def _says(mask: np.ndarray, column: float, row: float, label: int) -> bool:
    """Return whether a mask prompt says of a cell what a click says there."""
    rows, columns = mask.shape
    at = min(int(row), rows - 1), min(int(column), columns - 1)
    return bool((mask[at] > 0) == (label > 0))
