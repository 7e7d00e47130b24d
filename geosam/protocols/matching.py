"""Which answer stands for which object, and the average precision that follows."""

from __future__ import annotations

import numpy as np

THRESHOLDS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
"""IoU from which an answer stands for an object: COCO's ten."""
_RECALLS = np.linspace(0, 1, 101)
"""Recalls at which COCO reads the precision."""


def match(ious: np.ndarray, threshold: float) -> np.ndarray:
    """Give each answer the object it fits best among those still free.

    Parameters
    ----------
    ious : (n, m)
        IoU of n answers, best first, with m objects.
    threshold : float
        Least IoU.

    Returns
    -------
    (n,) int
        The object of each answer, or -1.
    """
    free = np.ones(ious.shape[1], bool)
    out = np.full(len(ious), -1)
    for i, row in enumerate(ious):
        fits = np.where(free, row, -1.0)
        if len(fits) and fits.max() >= threshold:
            out[i] = fits.argmax()
            free[out[i]] = False
    return out


def average_precision(scores: np.ndarray, hits: np.ndarray, n_objects: int) -> float:
    """Average the precision over 101 recalls, each taken as the best at that recall or above.

    Parameters
    ----------
    scores : (n,)
        Of all answers on all pictures; equal ones keep their order.
    hits : (n,) bool
        Whether each stands for an object.
    n_objects : int
        True objects on all pictures.

    Returns
    -------
    float
        0 to 1; NaN where there is no object.

    References
    ----------
    Lin et al. 2014, Microsoft COCO, https://arxiv.org/abs/1405.0312.
    """
    if n_objects == 0:
        return float("nan")
    if len(hits) == 0:
        return 0.0
    found = np.cumsum(hits[np.argsort(-scores, kind="stable")])
    precision = found / np.arange(1, len(found) + 1)
    return mean_precision(found / n_objects, precision)


def mean_precision(recall: np.ndarray, precision: np.ndarray) -> float:
    """Average the best precision at each of 101 recalls or above; `recall` rises."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(recall, _RECALLS - 1e-12, side="left")
    return float(np.append(best, 0.0)[np.minimum(reached, len(best))].mean())
