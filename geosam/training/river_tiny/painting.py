"""Synthetic truth: rivers painted over real land, and nested textured shapes.

Thin rivers are rare in the labelled imagery, and a promptable model needs
objects that are not water at all.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from geosam.training.sample import IGNORE, LAND, WATER, Sample

_PLAUSIBLE = np.array(
    [
        [0.38, 0.40, 0.30],
        [0.30, 0.36, 0.28],
        [0.45, 0.40, 0.30],
        [0.15, 0.19, 0.17],
        [0.10, 0.13, 0.14],
        [0.20, 0.27, 0.33],
        [0.25, 0.38, 0.42],
        [0.28, 0.27, 0.20],
    ]
)
"""Colours of turbid, dark, blue and stained rivers, seen from above in stretched RGB."""


def smooth_noise(size: int, cells: float, rng: np.random.Generator) -> np.ndarray:
    """Random field of unit spread with about `cells` bumps a side, (size, size)."""
    count = max(2, int(np.ceil(cells)) + 2)
    coarse = rng.standard_normal((count, count))
    field = ndimage.zoom(coarse, size / (count - 1) + 1e-3, order=1)[:size, :size]
    return (field / 0.7).astype(np.float32)


def draw_course(size: int, rng: np.random.Generator) -> np.ndarray:
    """A meandering line through a tile, (n, 2) row and column, half a pixel apart."""
    steps = np.arange(4 * size)
    wander = rng.uniform(0.3, 1.3) * np.sin(
        2 * np.pi * steps / rng.uniform(60, 400) + rng.uniform(0, 6)
    )
    wander += 0.5 * np.sin(2 * np.pi * steps / rng.uniform(40, 150) + rng.uniform(0, 6))
    heading = rng.uniform(0, 2 * np.pi) + wander
    track = np.cumsum(0.5 * np.stack([np.sin(heading), np.cos(heading)], 1), axis=0)
    middle = track[len(track) // 2]
    return track - middle + size * rng.uniform(0.25, 0.75, 2)


def river_distance(size: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Signed distance to the banks of a random river, positive in the water, and its half width."""
    course = np.rint(draw_course(size, rng)).astype(int)
    course = course[((course >= 0) & (course < size)).all(1)]
    line = np.ones((size, size), bool)
    line[course[:, 0], course[:, 1]] = False
    half = float(np.exp(rng.uniform(np.log(1.5), np.log(30.0))))
    ripple = 1 + 0.2 * smooth_noise(size, rng.uniform(3, 12), rng)
    if line.all():
        return np.full((size, size), -np.inf), half
    return half * ripple - ndimage.distance_transform_edt(line), half


def paint_river(
    sample: Sample,
    rng: np.random.Generator,
    colours: list[np.ndarray] | None = None,
    texture: np.ndarray | None = None,
) -> Sample:
    """Lay a river over the land of a tile.

    Parameters
    ----------
    sample : Sample
        Pixels 0 to 1; water that is there stays water.
    rng : numpy.random.Generator
        Decides everything random.
    colours : list of numpy.ndarray (3,), optional
        Mean colours of real water to choose from beside the plausible ones.
    texture : numpy.ndarray (3, y, x), optional
        Pixels of real water, which the river then shows.

    Returns
    -------
    Sample
    """
    size = sample.label.shape[0]
    distance, half = river_distance(size, rng)
    feather = rng.uniform(0.5, 1.8)
    opacity = np.clip(0.5 + np.float32(distance) / np.float32(2 * feather), 0, 1)
    water = texture
    if water is None:
        water = _water_pixels(sample, np.minimum(distance / half, 1), rng, colours)
    cover = _canopy(sample, distance, half, rng)
    alpha = opacity * (1 - cover) * (sample.label != IGNORE)
    pixels = sample.pixels * (1 - alpha) + water * alpha
    wet = (distance >= 0) & (cover < 0.7) & (sample.label == LAND)
    label = np.where(wet, WATER, sample.label).astype(np.uint8)
    return Sample(pixels.astype(np.float32), label, sample.zoom)


def _water_pixels(
    sample: Sample, depth: np.ndarray, rng: np.random.Generator, colours: list[np.ndarray] | None
) -> np.ndarray:
    """Colour of the water: smooth, darker or lighter in the middle, tinted by the land's light."""
    size = sample.label.shape[0]
    choices = colours if colours and rng.random() < 0.5 else list(_PLAUSIBLE)
    colour = np.asarray(choices[rng.integers(len(choices))]) * rng.uniform(0.6, 1.5)
    land = sample.pixels.mean((1, 2))
    tint = land / max(1e-3, float(land.mean()))
    colour = colour * tint ** rng.uniform(0, 0.7)
    if rng.random() < 0.15:
        colour = land * rng.uniform(0.5, 1.1)
    colour, land = colour.astype(np.float32), land.astype(np.float32)
    shade = np.float32(rng.uniform(-0.3, 0.15)) * np.maximum(np.float32(depth), 0)
    shade += np.float32(rng.uniform(0, 0.12)) * smooth_noise(size, rng.uniform(2, 10), rng)
    grain = np.float32(rng.uniform(0, 0.015)) * rng.standard_normal(
        (3, size, size), dtype=np.float32
    )
    bed = np.float32(rng.uniform(0, 0.25)) * (sample.pixels - land[:, None, None])
    return np.clip(colour[:, None, None] * (1 + shade) + grain + bed, 0, 1)


def real_water(sample: Sample, least: float = 0.3) -> np.ndarray | None:
    """Pixels of a tile with what is not water filled from the nearest water, (3, y, x).

    None where less than a share of `least` is water.
    """
    water = sample.label == WATER
    if water.mean() < least:
        return None
    core = ndimage.binary_erosion(water, iterations=2, border_value=1)
    core = core if core.any() else water
    rows, cols = ndimage.distance_transform_edt(~core, return_distances=False, return_indices=True)
    return sample.pixels[:, rows, cols]


def cast_shadows(sample: Sample, rng: np.random.Generator) -> Sample:
    """Darken patches of a tile as houses, towers and trees do; what is what stays as it is.

    The shade is bluer than the light, keeps some of the ground's texture, and its far edge is a
    little soft.

    Parameters
    ----------
    sample : Sample
        Pixels 0 to 1.
    rng : numpy.random.Generator
        Decides everything random.

    Returns
    -------
    Sample
    """
    size = sample.label.shape[0]
    shade = _crown_shade(size, rng) if rng.random() < 0.5 else _house_shade(size, rng)
    shade = ndimage.gaussian_filter(shade.astype(np.float32), rng.uniform(0.4, 1.5))
    blue = np.array([0.85, 0.95, 1.15]) ** rng.uniform(0, 1.5)
    light = np.asarray(rng.uniform(0.15, 0.55) * blue)
    factor = 1 - shade * (1 - light.astype(np.float32)[:, None, None])
    known = sample.label != IGNORE
    pixels = np.where(known, sample.pixels * factor, sample.pixels)
    return Sample(np.clip(pixels, 0, 1).astype(np.float32), sample.label, sample.zoom)


def _house_shade(size: int, rng: np.random.Generator) -> np.ndarray:
    """Parallelograms that all point the same way, (size, size) bool."""
    shade = np.zeros((size, size), bool)
    away, house = rng.uniform(0, 2 * np.pi), rng.uniform(0, np.pi / 2)
    longest = size * rng.uniform(0.04, 0.2)
    rows, cols = np.mgrid[0:size, 0:size].astype(np.float32)
    for _ in range(int(rng.integers(2, 14))):
        row, col = rng.uniform(0, size, 2)
        long, wide = longest * rng.uniform(0.4, 1), longest * rng.uniform(0.2, 0.8)
        turn = house + (np.pi / 2 if rng.random() < 0.5 else 0)
        along, across = _oblique(rows - row, cols - col, away, turn)
        shade |= (along > 0) & (along < long) & (abs(across) < wide)
    return shade


def _oblique(
    rows: np.ndarray, cols: np.ndarray, first: float, second: float
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along two directions that need not stand upright on each other."""
    a, b = np.array([np.sin(first), np.cos(first)]), np.array([np.sin(second), np.cos(second)])
    area = a[0] * b[1] - a[1] * b[0]
    area = area if abs(area) > 0.3 else 0.3
    return (rows * b[1] - cols * b[0]) / area, (cols * a[0] - rows * a[1]) / area


def _crown_shade(size: int, rng: np.random.Generator) -> np.ndarray:
    """Ragged clumps, (size, size) bool."""
    clumps = smooth_noise(size, rng.uniform(6, 50), rng)
    clumps = clumps + 0.4 * smooth_noise(size, rng.uniform(30, 80), rng)
    return clumps > rng.uniform(0.9, 2.0)


def lay_field(sample: Sample, rng: np.random.Generator) -> Sample:
    """Lay a plain piece of land with straight edges over a tile: field, meadow, roof, asphalt.

    What is plain is not water for that reason alone.

    Parameters
    ----------
    sample : Sample
        Pixels 0 to 1; water that is there stays water.
    rng : numpy.random.Generator
        Decides everything random.

    Returns
    -------
    Sample
    """
    size = sample.label.shape[0]
    rows, cols = np.mgrid[0:size, 0:size].astype(np.float32)
    row, col = rng.uniform(0, size, 2)
    turn = rng.uniform(0, np.pi)
    along, across = _oblique(rows - row, cols - col, turn, turn + np.pi / 2)
    long, wide = size * rng.uniform(0.08, 0.6, 2)
    distance = np.minimum(long - abs(along), wide - abs(across))
    colour = np.asarray(_FIELDS[rng.integers(len(_FIELDS))]) * rng.uniform(0.6, 1.5)
    slow = rng.uniform(0, 0.08) * smooth_noise(size, rng.uniform(1, 8), rng)
    lines = rng.uniform(0, 0.05) * np.sin(across * rng.uniform(0.2, 2.5))
    grain = rng.uniform(0, 0.02) * rng.standard_normal((3, size, size), dtype=np.float32)
    field = colour[:, None, None] * (1 + slow + lines) + grain
    opacity = np.clip(0.5 + distance / rng.uniform(1, 3), 0, 1) * (sample.label == LAND)
    pixels = sample.pixels + (field - sample.pixels) * opacity
    return Sample(np.clip(pixels, 0, 1).astype(np.float32), sample.label, sample.zoom)


_FIELDS = np.array(
    [
        [0.55, 0.50, 0.38],
        [0.45, 0.36, 0.28],
        [0.30, 0.42, 0.20],
        [0.42, 0.50, 0.28],
        [0.22, 0.32, 0.16],
        [0.35, 0.35, 0.36],
        [0.62, 0.60, 0.56],
        [0.50, 0.27, 0.22],
    ]
)
"""Colours of stubble, soil, crops, meadows, asphalt, concrete and tiles."""


def _canopy(
    sample: Sample, distance: np.ndarray, half: float, rng: np.random.Generator
) -> np.ndarray:
    """How much of the water the land's trees hide, mostly along the banks, (y, x) 0 to 1."""
    size = sample.label.shape[0]
    if rng.random() < 0.4:
        return np.zeros((size, size), np.float32)
    clumps = smooth_noise(size, rng.uniform(10, 40), rng)
    near_bank = np.clip(1.5 - 1.5 * distance / max(half, 1.0), 0.1, 1)
    return np.clip((clumps - rng.uniform(0.3, 1.2)) * 2, 0, 1) * near_bank * rng.uniform(0.4, 1)


def nested_shapes(size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """A disc in a ring in a square, or the like, each with its own textured fill.

    Returns
    -------
    pixels : numpy.ndarray, (3, size, size) float32
    masks : list of numpy.ndarray, (size, size) bool
        From the innermost object to the outermost, each holding the ones inside it.
    """
    pixels = _texture(size, rng)
    radius = size * rng.uniform(0.15, 0.45)
    centre = rng.uniform(0.3, 0.7, 2) * size
    masks: list[np.ndarray] = []
    for _ in range(int(rng.integers(1, 4))):
        mask = _shape(size, centre, radius, rng)
        mask = mask & masks[0] if masks else mask
        masks.insert(0, mask)
        pixels = np.where(mask, _texture(size, rng), pixels)
        radius *= rng.uniform(0.4, 0.75)
        centre = centre + rng.uniform(-0.15, 0.15, 2) * radius
    return pixels.astype(np.float32), [mask for mask in masks if mask.sum() > 12]


def _shape(size: int, centre: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    rows, cols = np.mgrid[0:size, 0:size].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along = (rows - centre[0]) * np.cos(angle) + (cols - centre[1]) * np.sin(angle)
    across = (cols - centre[1]) * np.cos(angle) - (rows - centre[0]) * np.sin(angle)
    across = across * rng.uniform(1, 2.5)
    kind = rng.integers(3)
    if kind == 0:
        return np.hypot(along, across) < radius
    if kind == 1:
        return np.maximum(abs(along), abs(across)) < radius
    bumps = 1 + 0.3 * smooth_noise(size, rng.uniform(3, 8), rng)
    return np.hypot(along, across) < radius * bumps


def _texture(size: int, rng: np.random.Generator) -> np.ndarray:
    """A plain colour with low and high frequency variation, (3, size, size)."""
    colour = rng.uniform(0.05, 0.95, (3, 1, 1))
    slow = rng.uniform(0, 0.08) * smooth_noise(size, rng.uniform(2, 20), rng)
    fast = rng.uniform(0, 0.08) * rng.standard_normal((3, size, size), dtype=np.float32)
    return np.clip(colour + slow + fast, 0, 1)
