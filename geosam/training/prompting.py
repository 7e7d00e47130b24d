"""A label -> the prompts that a person or the toolkit would give for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from geosam.prompts.control_points import REFERENCE_SIZE, bounding_box
from geosam.training.clicks import deepest_click, river_clicks
from geosam.training.recipe import PromptRecipe
from geosam.training.sample import WATER
from geosam.training.simulation import corrupt
from geosam.types import PixelPrompts

MIX = {"points": 0.25, "box": 0.25, "mask": 0.5}
"""First prompts of SAM 2's training: half masks, a quarter boxes, a quarter clicks."""
COARSE_GRID_PX = 256
"""Coarse masks are made wrong on a grid of at most this side, as large as SAM's mask input: what
is one pixel off there is four off in a tile of 1,024."""


def draw_prompt(
    label: np.ndarray, recipe: PromptRecipe, rng: np.random.Generator
) -> PixelPrompts | None:
    """Draw the first prompt of a tile.

    Parameters
    ----------
    label
        (size, size) uint8 of LAND, WATER and IGNORE.
    recipe
        Kinds and counts.
    rng
        Decides everything random.

    Returns
    -------
    PixelPrompts or None
        Of one object. None where there is no water and the kind needs some.
    """
    if recipe.kind == "none":
        return _sparse(np.empty((0, 2)), np.empty(0, int))
    if not (label == WATER).any():
        return None
    kind = recipe.kind
    n_pos, n_neg = recipe.n_pos, recipe.n_neg
    if kind == "mixed":
        kind = str(rng.choice(list(MIX), p=list(MIX.values())))
        fewest = 1 if kind == "points" else 0
        n_pos = int(rng.integers(fewest, max(n_pos, fewest) + 1))
        n_neg = int(rng.integers(0, n_neg + 1))
    if kind == "box":
        return jittered_box(label, recipe.box_jitter, rng)
    prompt = _sparse(*river_clicks(label, n_pos, n_neg, rng, recipe.erode))
    return prompt if kind == "points" else replace(prompt, masks=coarse_mask(label, rng)[None])


def _sparse(points: np.ndarray, labels: np.ndarray) -> PixelPrompts:
    return PixelPrompts(points[None].astype(float), labels[None].astype(int))


def jittered_box(label: np.ndarray, jitter: int, rng: np.random.Generator) -> PixelPrompts:
    """Draw a box around all water whose sides each move by -jitter to jitter - 1 pixels.

    Pixels are those of a tile of 256 px; in larger tiles sides move farther. A box never leaves
    the tile, and one that would turn inside out stays tight.

    Raises
    ------
    ValueError
        If there is no water.

    References
    ----------
    water-surf, https://github.com/geo-smart/water-surf, with a jitter of 10.
    """
    box = bounding_box(label == WATER)
    if box is None:
        raise ValueError("There is no water in the label; a box needs at least one pixel.")
    reach = round(jitter * max(label.shape) / REFERENCE_SIZE)
    moved = box + (rng.integers(-reach, reach, 4) if reach else 0)
    height, width = label.shape
    moved = np.clip(moved, 0, [width, height, width, height])
    if (moved[2:] <= moved[:2]).any():
        moved = box
    return PixelPrompts(np.empty((1, 0, 2)), np.empty((1, 0), int), boxes=moved[None])


def coarse_mask(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a coarse mask of the water, wrong in the ways real ones are, (size, size) bool."""
    step = -(-max(label.shape) // COARSE_GRID_PX)
    wrong = corrupt(_reduced(label == WATER, step), rng)
    height, width = label.shape
    return np.kron(wrong, np.ones((step, step), bool))[:height, :width]


def _reduced(mask: np.ndarray, step: int) -> np.ndarray:
    """Return a mask in cells of step x step pixels: those half full, or any if none is."""
    if step == 1:
        return mask
    height, width = (-(-side // step) * step for side in mask.shape)
    whole = np.zeros((height, width), bool)
    whole[: mask.shape[0], : mask.shape[1]] = mask
    share = whole.reshape(height // step, step, width // step, step).mean((1, 3))
    return share >= 0.5 if (share >= 0.5).any() else share > 0


def correct_prompt(prompt: PixelPrompts, logits: np.ndarray, label: np.ndarray) -> PixelPrompts:
    """Add the next click of a person who sees an answer, and feed its logits back.

    Parameters
    ----------
    prompt
        What gave the answer.
    logits
        (y, x) float32 of the answer, on any grid that covers the tile.
    label
        (size, size) uint8.

    Returns
    -------
    PixelPrompts
        The same prompt where nothing is wrong.
    """
    click = deepest_click(_enlarged(logits, label.shape) > 0, label)
    if click is None:
        return replace(prompt, masks=logits[None])
    point, kind = click
    return replace(
        prompt,
        points=np.concatenate([prompt.points, point[None, None]], axis=1),
        labels=np.concatenate([prompt.labels, [[kind]]], axis=1),
        masks=logits[None],
    )


def _enlarged(logits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return logits on a finer grid by nearest neighbour."""
    rows, cols = (np.arange(n) * m // n for n, m in zip(shape, logits.shape, strict=True))
    return logits[np.ix_(rows, cols)]
