"""Logistic regression with a ridge, by Newton's method: the same answer whatever the machine adds first."""

from __future__ import annotations

import numpy as np
from scipy import special

_STEPS = 50
_CLOSE = 1e-8


def regress(terms: np.ndarray, water: np.ndarray, weight: np.ndarray, ridge: float) -> np.ndarray:
    """Fit the logits of water as a weighted sum of terms.

    The loss is convex, and Newton's method ends within rounding of its one minimum.

    Parameters
    ----------
    terms
        (n, term) float64; the first is constant, and its coefficient is as good as free.
    water
        (n,) bool.
    weight
        (n,) of each pixel.
    ridge
        Weight of half the square of each coefficient.

    Returns
    -------
    numpy.ndarray
        (term,) coefficients.
    """
    penalty = np.full(terms.shape[1], ridge)
    penalty[0] = 1e-6

    def loss(v: np.ndarray) -> float:
        z = terms @ v
        return float(weight @ (np.logaddexp(0, z) - water * z) + 0.5 * penalty @ v**2)

    v = np.zeros(terms.shape[1])
    for _ in range(_STEPS):
        step, before = _newton(terms, water, weight, penalty, v), loss(v)
        while loss(v - step) > before and np.abs(step).max() > _CLOSE:
            step = step / 2
        v = v - step
        if np.abs(step).max() <= _CLOSE:
            break
    return v


def _newton(
    terms: np.ndarray, water: np.ndarray, weight: np.ndarray, penalty: np.ndarray, v: np.ndarray
) -> np.ndarray:
    said = special.expit(terms @ v)
    slope = terms.T @ (weight * (said - water)) + penalty * v
    bend = (terms * (weight * said * (1 - said))[:, None]).T @ terms + np.diag(penalty)
    return np.linalg.solve(bend, slope)
