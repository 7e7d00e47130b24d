"""Boxes: their overlap, and which of many that overlap stay.

A box is x_min, y_min, x_max, y_max in pixels from the outer corner of the first, so that its width
is x_max - x_min.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def box_of(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Return the box around a mask, (y, x) bool, or None where it is empty.

    Examples
    --------
    >>> box_of(np.eye(4, dtype=bool)[:, :3])
    (0, 0, 3, 3)
    """
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return None
    return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1


def boxes_of_parts(measure: np.ndarray, least_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes of the connected parts of a measure, (y, x) of 0 to 1, above a half.

    Parameters
    ----------
    measure
        (y, x); corners connect.
    least_px
        Smaller parts are left out.

    Returns
    -------
    tuple
        Boxes (n, 4), and the mean measure of each part (n,).
    """
    labels, n = ndimage.label(measure > 0.5, np.ones((3, 3), int))
    numbers = np.arange(1, n + 1)
    sizes = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    rated = np.asarray(ndimage.mean(measure, labels, numbers), float).reshape(-1)
    sides = [(c.start, r.start, c.stop, r.stop) for r, c in ndimage.find_objects(labels)]
    large = sizes >= least_px
    return np.array(sides, float).reshape(-1, 4)[large], rated[large]


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute intersection over union of n boxes with m, (n, 4), (m, 4) -> (n, m).

    Boxes without an area overlap nothing.
    """
    a, b = np.asarray(a, float)[:, None], np.asarray(b, float)[None]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=-1)
    either = _areas(a) + _areas(b) - common
    return np.divide(common, either, out=np.zeros_like(common), where=either > 0)


def suppress(boxes: np.ndarray, scores: np.ndarray, max_overlap: float) -> np.ndarray:
    """Keep the best of boxes that overlap: greedy non-maximum suppression.

    Parameters
    ----------
    boxes : (n, 4)
        The boxes.
    scores : (n,)
        The higher the better; of equal ones the first.
    max_overlap : float
        A box goes if its IoU with a better one that stays is above this.

    Returns
    -------
    (k,) int
        Indices of those that stay, best first.
    """
    left = np.argsort(-np.asarray(scores, float), kind="stable")
    boxes, kept = np.asarray(boxes, float).reshape(-1, 4), []
    while len(left):
        kept.append(left[0])
        overlap = box_iou(boxes[left[:1]], boxes[left[1:]])[0]
        left = left[1:][overlap <= max_overlap]
    return np.array(kept, dtype=int)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.clip(boxes[..., 2:] - boxes[..., :2], 0, None), axis=-1)
