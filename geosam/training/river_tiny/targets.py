"""What a training tile asks the promptable network for: water, land, a segment, a shape.

The answer must follow the prompt and not a class, so that every kind of object
is a target here.  Truth lies on the grid of the network's logits, half the
tile's resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.segmentation import felzenszwalb

from geosam.training.river_tiny.painting import nested_shapes
from geosam.training.sample import IGNORE, WATER, Sample

STRIDE = 2
"""Tile pixels for each pixel of the network's logits."""

SMALLEST = 12
"""Fewest logit pixels an object may have."""

_EVERYWHERE = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Target:
    """A tile and the one object in it that the prompts ask for."""

    pixels: np.ndarray
    """(3, y, x) float32, 0 to 1."""

    truth: np.ndarray
    """(y / 2, x / 2) bool: the object."""

    known: np.ndarray
    """(y / 2, x / 2) bool: where the truth is known."""

    kind: str
    """"water", "land", "segment" or "shape"."""

    coarse: np.ndarray | None = None
    """(y / 2, x / 2) bool: a coarse mask that comes with the tile, if there is one."""


def halve_label(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Water and known pixels on the logits' grid, two (y / 2, x / 2) bool arrays."""
    rows, cols = label.shape
    blocks = label.reshape(rows // 2, 2, cols // 2, 2)
    water = (blocks == WATER).mean((1, 3))
    known = (blocks != IGNORE).mean((1, 3))
    return (water >= 0.5 * known) & (known > 0), known >= 0.5


def halve_pixels(pixels: np.ndarray) -> np.ndarray:
    """Mean of 2x2 pixels, (3, y / 2, x / 2)."""
    bands, rows, cols = pixels.shape
    return pixels.reshape(bands, rows // 2, 2, cols // 2, 2).mean((2, 4))


def water_target(sample: Sample) -> Target | None:
    """All the water of a tile; None where there is hardly any."""
    water, known = halve_label(sample.label)
    if (water & known).sum() < SMALLEST:
        return None
    return Target(sample.pixels, water, known, "water")


def land_target(sample: Sample) -> Target | None:
    """All that is not water, where a tile has both."""
    water, known = halve_label(sample.label)
    land = ~water & known
    if land.sum() < SMALLEST or (water & known).sum() < SMALLEST:
        return None
    return Target(sample.pixels, land, known, "land")


def segment_target(sample: Sample, rng: np.random.Generator) -> Target | None:
    """A segment of the image, alone or with every segment of a like colour.

    The like-coloured ones teach the network to complete a prompt with what
    looks the same.
    """
    image = ndimage.gaussian_filter(halve_pixels(sample.pixels), (0, 0.6, 0.6)).transpose(1, 2, 0)
    scale = float(np.exp(rng.uniform(np.log(60), np.log(600))))
    segments = felzenszwalb(image, scale=scale, sigma=0, min_size=40)
    count = segments.max() + 1
    areas = np.bincount(segments.ravel(), minlength=count)
    fitting = np.flatnonzero((areas > 60) & (areas < 0.5 * segments.size))
    if not len(fitting):
        return None
    chosen = int(rng.choice(fitting))
    mask = segments == chosen
    if rng.random() < 0.5:
        index = np.arange(count)
        colours = np.stack([ndimage.mean(image[..., k], segments, index) for k in range(3)], 1)
        distance = np.linalg.norm(colours - colours[chosen], axis=1)
        mask = (distance < rng.uniform(0.02, 0.08))[segments]
    return Target(sample.pixels, mask, np.ones_like(mask), "segment")


def shape_target(size: int, rng: np.random.Generator) -> Target | None:
    """One of several nested synthetic shapes."""
    pixels, masks = nested_shapes(size, rng)
    if not masks:
        return None
    chosen = masks[rng.integers(len(masks))]
    halved = chosen.reshape(size // 2, 2, size // 2, 2).mean((1, 3)) >= 0.5
    if halved.sum() < SMALLEST:
        return None
    return Target(pixels, halved, np.ones_like(halved), "shape")


def one_component(target: Target, rng: np.random.Generator) -> Target:
    """The same tile asking for one connected part, as a click or a box does."""
    parts, count = ndimage.label(target.truth & target.known, structure=_EVERYWHERE)
    areas = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    fitting = np.flatnonzero(areas >= SMALLEST) + 1
    if count < 2 or not len(fitting):
        return target
    odds = np.sqrt(areas[fitting - 1])
    chosen = rng.choice(fitting, p=odds / odds.sum())
    return Target(target.pixels, parts == chosen, target.known, target.kind, target.coarse)
