"""Whether what a model says of itself is true: probabilities, and predicted IoU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage, stats

from geosam.errors import InputError
from geosam.scores import IGNORED, banks


def calibration_error(
    probability: np.ndarray | Sequence[np.ndarray],
    truth: np.ndarray | Sequence[np.ndarray],
    near: int | None = 8,
    bins: int = 15,
) -> float:
    """Compute the expected calibration error of the probability of water, in equal-mass bins.

    The pixels are sorted by probability and cut into bins of as many each; the error is the mean
    of the bins' differences between the mean probability and the share of true water [1]_. Far
    from any bank nearly every pixel is right and sure, so only those near one count.

    Parameters
    ----------
    probability : array of shape (y, x), or a sequence of these
        0 to 1; NaN is ignored.
    truth : array of the same shape, bool or uint8, or a sequence of these
        1 water, 0 land, 255 ignored.
    near : int or None
        Pixels on each side of the true bank, or of the predicted one (probability 0.5), that
        count; None for all.
    bins : int
        Number of bins.

    Returns
    -------
    float
        0 to 1; NaN where no pixel counts.

    References
    ----------
    .. [1] Naeini, M. P., Cooper, G., Hauskrecht, M. (2015). Obtaining well calibrated
       probabilities using Bayesian binning. AAAI. Equal mass: Nixon, J., et al. (2019). Measuring
       calibration in deep learning. CVPR workshops.

    Examples
    --------
    >>> round(calibration_error(np.full((4, 4), 0.8), np.eye(4, dtype=bool), near=None), 6)
    0.55
    """
    given, true = _listed(probability), _listed(truth)
    if len(given) != len(true):
        raise InputError(f"There are {len(given)} probabilities and {len(true)} truths.")
    parts = [_counted(p, t, near) for p, t in zip(given, true, strict=True)]
    said = np.concatenate([p for p, _ in parts])
    if len(said) == 0:
        return float("nan")
    order = np.argsort(said, kind="stable")
    said, wet = said[order], _shared(said[order], np.concatenate([t for _, t in parts])[order])
    gaps = [
        abs(float(p.sum() - t.sum()))
        for p, t in zip(np.array_split(said, bins), np.array_split(wet, bins), strict=True)
    ]
    return sum(gaps) / len(said)


def spearman(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Compute the rank correlation of two series, such as predicted and true IoU.

    Returns
    -------
    float
        -1 to 1, equal values sharing their mean rank; NaN where one of the series is constant.

    Examples
    --------
    >>> round(spearman([0.1, 0.5, 0.9], [1, 2, 30]), 6)
    1.0
    """
    if len(a) != len(b):
        raise InputError(f"Series of {len(a)} and {len(b)} values cannot be correlated.")
    ranks = [stats.rankdata(series) for series in (a, b)]
    if any(len(r) == 0 or np.ptp(r) == 0 for r in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def _listed(values: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
    return [values] if isinstance(values, np.ndarray) and values.ndim == 2 else list(values)


def _counted(
    probability: np.ndarray, truth: np.ndarray, near: int | None
) -> tuple[np.ndarray, np.ndarray]:
    if probability.shape != truth.shape:
        raise InputError(
            f"The probability has {probability.shape} pixels and the truth {truth.shape}: they "
            "need the same size."
        )
    ignore = (truth == IGNORED) | np.isnan(probability)
    counts = ~ignore
    if near is not None:
        wet = _close(probability > 0.5, ignore, near) | _close(truth == 1, ignore, near)
        counts &= wet
    return probability[counts].astype(float), (truth == 1)[counts].astype(float)


def _close(water: np.ndarray, ignore: np.ndarray, near: int) -> np.ndarray:
    """Mark the pixels of which a bank runs within so many on either side."""
    edge = banks(water, ignore) | banks(~water, ignore)
    if not edge.any():
        return edge
    return ndimage.distance_transform_edt(~edge) < near


def _shared(said: np.ndarray, wet: np.ndarray) -> np.ndarray:
    """Give pixels of equal probability their mean truth, so that no bin depends on their order."""
    _, group, counts = np.unique(said, return_inverse=True, return_counts=True)
    return (np.bincount(group, wet) / counts)[group]
