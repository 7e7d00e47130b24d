"""Prompts as the toolkit or a person would give them, simulated from the truth.

Coarse masks are made wrong in the ways real ones are wrong.  All masks lie on
the logits' grid, half the tile's resolution, where one pixel is about one
native pixel of a satellite scene shown at twice its resolution.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from geosam.models.prompt_tensors import DENSE_LOGIT
from geosam.training.river_tiny.painting import smooth_noise

MAX_CLICK_LOGIT = 10.0
"""Logits that are fed back with a corrective click are clipped to this."""


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Pixels to the outline, positive inside, (y, x) float32."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, np.float32(1e3 if mask.all() else -1e3))
    inside = ndimage.distance_transform_edt(mask)
    outside = ndimage.distance_transform_edt(~mask)
    return (np.where(mask, inside - 0.5, 0.5 - outside)).astype(np.float32)


def corrupt(truth: np.ndarray, rng: np.random.Generator, keep_parts: bool = False) -> np.ndarray:
    """A coarse mask of an object, wrong in realistic ways.

    Parameters
    ----------
    truth : numpy.ndarray, (y, x) bool
    rng : numpy.random.Generator
        Decides everything random.
    keep_parts : bool
        Drop no parts: for objects whose other parts nothing could tell.

    Returns
    -------
    numpy.ndarray, (y, x) bool
        Never empty unless the truth is.
    """
    if rng.random() < 0.15:
        return truth
    mask = truth
    if not keep_parts and rng.random() < 0.35:
        mask = drop_parts(mask, rng)
    mask = _move_outline(mask, rng)
    if rng.random() < 0.12:
        mask = _coarsen(mask, int(rng.integers(2, 6)))
    if rng.random() < 0.1:
        mask = np.roll(mask, tuple(rng.integers(-3, 4, 2)), (0, 1))
    if rng.random() < 0.25:
        mask = mask | _false_blobs(mask, rng)
    return mask if mask.any() else truth


def _move_outline(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Erode, dilate, or neither, with a ragged outline in some cases."""
    draw = rng.random()
    shift = 0.0
    if draw < 0.4:
        shift = -rng.uniform(0.5, 4.0)
    elif draw < 0.75:
        shift = rng.uniform(0.5, 4.0)
    ragged = rng.random() < 0.35
    if shift == 0 and not ragged:
        return mask
    level = signed_distance(mask) + shift
    if ragged:
        cells = rng.uniform(6, 40)
        level = level + rng.uniform(0.3, 2.0) * smooth_noise(mask.shape[0], cells, rng)
    moved = level > 0
    return moved if moved.any() else mask


def drop_parts(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lose some connected parts, or a gap, or both."""
    parts, count = ndimage.label(mask)
    out = mask.copy()
    if count > 1:
        lost = rng.random(count + 1) < rng.uniform(0.05, 0.5)
        lost[0] = False
        out &= ~lost[parts]
    if count == 1 or rng.random() < 0.4:
        rows, cols = np.ogrid[: mask.shape[0], : mask.shape[1]]
        inside = np.argwhere(mask)
        centre = inside[rng.integers(len(inside))]
        radius = rng.uniform(3, 0.2 * mask.shape[0])
        out &= np.hypot(rows - centre[0], cols - centre[1]) > radius
    return out if out.any() else mask


def _coarsen(mask: np.ndarray, factor: int) -> np.ndarray:
    """The mask as a raster of larger pixels would hold it."""
    rows, cols = (np.arange(length) // factor for length in mask.shape)
    shape = (rows[-1] + 1, cols[-1] + 1)
    index = rows[:, None] * shape[1] + cols[None, :]
    share = np.bincount(index.ravel(), mask.ravel()) / np.bincount(index.ravel())
    return (share >= 0.5)[index]


def _false_blobs(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    field = smooth_noise(mask.shape[0], rng.uniform(6, 30), rng)
    return field > np.quantile(field, 1 - rng.uniform(0.002, 0.03))


def dense_logits(mask: np.ndarray) -> np.ndarray:
    """A coarse mask as the prompt encoder takes it, (y, x) float32."""
    return np.where(mask, DENSE_LOGIT, -DENSE_LOGIT).astype(np.float32)


def deep_points(mask: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points inside a mask, the deeper the likelier, (count, 2) x, y in tile pixels.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    if not mask.any():
        raise ValueError("The mask is empty; a point needs at least one pixel to lie in.")
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1].ravel()
    odds = depth**2 if rng.random() < 0.7 else (depth > 0).astype(float)
    chosen = rng.choice(mask.size, count, p=odds / odds.sum())
    rows, cols = np.divmod(chosen, mask.shape[1])
    return to_tile(np.stack([cols, rows], axis=1))


def to_tile(points: np.ndarray) -> np.ndarray:
    """Points on the logits' grid to tile pixels, the centre of a logit pixel lying between four."""
    return (points * 2 + 0.5).astype(np.float32)


def draw_points(
    inside: np.ndarray, outside: np.ndarray, positive: int, negative: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points and labels, (k, 2) x, y and (k,); land points fall back to none-of-the-object.

    Where a side is empty its points become "not a point", label -1.
    """
    points, labels = [], []
    for mask, count, label in ((inside, positive, 1), (outside, negative, 0)):
        if count == 0:
            continue
        is_empty = not mask.any()
        points.append(
            np.zeros((count, 2), np.float32) if is_empty else deep_points(mask, count, rng)
        )
        labels.append(np.full(count, -1 if is_empty else label))
    return np.concatenate(points), np.concatenate(labels)


def draw_box(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bounding box of a mask with sides moved by up to a tenth, (4,) x, y, x, y in tile pixels."""
    rows, cols = np.nonzero(mask)
    box = np.array([cols.min() * 2, rows.min() * 2, cols.max() * 2 + 1, rows.max() * 2 + 1], float)
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    moved = box + rng.uniform(-1, 1, 4) * np.minimum(0.1 * sides, 20)
    limits = np.array([mask.shape[1] * 2 - 1, mask.shape[0] * 2 - 1] * 2)
    return np.clip(moved, 0, limits).astype(np.float32)


def corrective_click(
    answer: np.ndarray, truth: np.ndarray, known: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """A click where the answer is wrong: x, y in tile pixels, and label 1 or 0.

    A miss gets a positive click, a false part a negative one; where nothing is
    wrong the click confirms the object.
    """
    missed, false = truth & ~answer & known, answer & ~truth & known
    wrong = missed | false
    place = wrong if wrong.any() else truth & known
    if not place.any():
        return np.zeros(2, np.float32), -1
    point = deep_points(place, 1, rng)[0]
    col, row = ((point - 0.5) / 2).astype(int)
    return point, int(truth[row, col])


def edge_weight(truth: np.ndarray, known: np.ndarray, strength: float = 4.0) -> np.ndarray:
    """Loss weight: 0 where unknown, highest along the outline, (y, x) float32."""
    near = np.exp(-((signed_distance(truth) / 3.0) ** 2))
    return np.where(known, 1 + strength * near, 0).astype(np.float32)
