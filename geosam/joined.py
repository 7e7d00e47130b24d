"""A mask and the prompts it answers -> the parts of it that hang together with a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geosam.following import connected
from geosam.types import PixelPrompts

LEAST_LOGIT = 0.01
"""What holds an object together is surer than this: less is 0.5 once it is rounded for a file."""
NEAR_PX = 2
"""How far from a mask a click may lie and still be on it."""


def keep_joined(logits: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Take the parts of a mask that hold no seed out of it; all stay where none does.

    Parameters
    ----------
    logits
        (y, x) float32.
    seeds
        (y, x) bool.
    """
    mask = logits > LEAST_LOGIT
    kept = connected(mask, seeds & mask)
    return np.where((logits > 0) & ~kept, -np.abs(logits), logits) if kept.any() else logits


def mark(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Mark the pixels near points, (n, 2) of x and y: (y, x) bool."""
    marks = np.zeros(shape, bool)
    for x, y in np.floor(points).astype(int):
        rows, cols = (slice(max(0, at - NEAR_PX), max(0, at + NEAR_PX + 1)) for at in (y, x))
        marks[rows, cols] = True
    return marks


def keep_asked(logits: np.ndarray, prompts: Sequence[PixelPrompts]) -> np.ndarray:
    """Take the parts of a tile's answer that hang together with no click and nothing drawn out of it.

    Where a box is among the prompts all stay: it says itself how far an object reaches.

    Parameters
    ----------
    logits
        (size, size) float32, the union of the objects.
    prompts
        One an object.
    """
    if any(one.boxes is not None for one in prompts):
        return logits
    seeds = np.zeros(logits.shape, bool)
    for one in prompts:
        seeds |= mark(one.points[0][one.labels[0] == 1], logits.shape)
        if one.masks is not None:
            seeds |= np.asarray(one.masks[0]) > 0
    return keep_joined(logits, seeds)
