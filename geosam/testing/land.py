"""The land of a synthetic scene: fields with furrows, woods, roads, roofs, and their shadows.

Reflectances are (4, height, width) float32: red, green, blue, near infrared, 0 to 1. Their values
are those of spectral libraries rounded to what matters here: vegetation is bright in near
infrared, soil brightens steadily from blue to near infrared, dark roofs and shadows are dark in
all bands, and that is why they are taken for water.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from geosam.testing.noise import enlarge, grid_nodes, smooth_noise
from geosam.testing.rivers import Waters

FIELDS = np.array(
    [
        (0.056, 0.083, 0.042, 0.42),  # maize
        (0.078, 0.103, 0.052, 0.35),  # meadow
        (0.066, 0.093, 0.048, 0.38),  # beet
        (0.108, 0.120, 0.072, 0.28),  # young crop
        (0.205, 0.175, 0.115, 0.29),  # stubble
        (0.175, 0.140, 0.100, 0.25),  # bare, dry
        (0.115, 0.090, 0.064, 0.165),  # ploughed
        (0.072, 0.064, 0.050, 0.100),  # ploughed, wet
    ],
    dtype="float32",
)
FURROWS = np.array([0.10, 0.03, 0.10, 0.16, 0.10, 0.08, 0.12, 0.12], dtype="float32")
"""Depth of the furrows' pattern, as a share of the reflectance."""
ROOFS = np.array(
    [
        (0.060, 0.064, 0.068, 0.054),  # slate
        (0.070, 0.110, 0.150, 0.072),  # blue metal
        (0.280, 0.150, 0.100, 0.330),  # tiles
        (0.380, 0.370, 0.350, 0.400),  # light metal
    ],
    dtype="float32",
)
WOOD = (0.032, 0.056, 0.026, 0.36)
ASPHALT = (0.125, 0.125, 0.125, 0.150)
TRACK = (0.290, 0.245, 0.180, 0.350)
SKYLIGHT = np.array([0.20, 0.25, 0.34, 0.16], dtype="float32")
"""What is left of the light in the shade: the sky is blue, and dark in near infrared."""
SUN = np.array([-0.75, -0.66])
"""Direction (row, col) in which shadows fall."""
TREE_PX, HOUSE_PX = 9.0, 6.0
"""Length of the shadows of a tall tree and of a house, in pixels."""


@dataclass(frozen=True)
class Land:
    """The land before the sun's shadows fall on it and on the water."""

    reflectance: np.ndarray
    """(4, height, width)."""
    height: np.ndarray
    """(height, width) length of the shadow that each pixel casts, in pixels."""


def paint_land(waters: Waters, rng: np.random.Generator) -> Land:
    """Paint fields, roads, houses and woods, from the ground up."""
    shape = waters.water.shape
    frame = _frame(shape, rng.uniform(0, np.pi / 2))
    reflectance = _fields(frame, rng)
    height = np.zeros(shape, dtype="float32")
    road = _road(waters, rng)
    _pave(reflectance, road, waters, frame, rng)
    _build(reflectance, height, road, waters, rng)
    _plant(reflectance, height, waters, frame, rng)
    reflectance *= 1 + 0.05 * rng.standard_normal(shape, dtype="float32")
    return Land(reflectance, height)


def cast_shadows(reflectance: np.ndarray, height: np.ndarray) -> None:
    """Darken what lies in the shade of something taller, in place."""
    shade = np.zeros_like(height)
    for distance in range(1, int(TREE_PX * 1.4)):
        shift = np.rint(distance * SUN).astype(int)
        taller = _shifted(height, shift) - distance
        np.maximum(shade, taller, out=shade)
    dark = np.clip((shade - height) / 2, 0, 1)
    reflectance *= 1 - dark * (1 - SKYLIGHT[:, None, None])


def _frame(shape: tuple[int, int], angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the two axes along which the fields lie, (height, width) pixels each."""
    rows, cols = np.mgrid[: shape[0], : shape[1]].astype("float32")
    u = cols * np.cos(angle) + rows * np.sin(angle)
    v = rows * np.cos(angle) - cols * np.sin(angle)
    return u.astype("float32"), v.astype("float32")


def _fields(frame: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Paint parcels, each with its crop, its tone and the direction of its furrows."""
    u, v = frame
    labels, n = _parcels(u, v, rng)
    crop = rng.choice(len(FIELDS), n, p=[0.18, 0.2, 0.12, 0.12, 0.12, 0.1, 0.09, 0.07])
    tone = rng.uniform(0.92, 1.08, (4, n)) * rng.uniform(0.85, 1.15, n)
    base = FIELDS[crop].T * tone.astype("float32")
    lengthwise = rng.uniform(size=n) < 0.7
    across = np.where(lengthwise[labels], u, v)
    period = rng.uniform(4.5, 11, n).astype("float32")
    contrast = FURROWS[crop] * rng.uniform(0.1, 1, n).astype("float32")
    stripes = np.sin(across * (2 * np.pi / period)[labels])
    stripes[np.mod(across, 34) < 2] -= 1.2  # the wheels of the sprayer
    texture = contrast[labels] * stripes
    texture += 0.09 * smooth_noise(u.shape, 70, rng, octaves=3)
    texture += 0.05 * smooth_noise(u.shape, 6, rng)
    return base[:, labels] * np.clip(1 + texture, 0.4, 1.8)


def _parcels(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Return (height, width) numbers of parcels: strips along v, each cut at its own places."""
    strips = _cuts(float(u.min()), float(u.max()), (90, 230), rng)
    low, high = float(v.min()), float(v.max())
    reach = high - low + 1000.0
    cuts = np.concatenate(
        [n * reach + _cuts(low, high, (70, 330), rng) - low for n in range(len(strips) + 1)]
    )
    return np.searchsorted(cuts, np.searchsorted(strips, u) * reach + v - low), len(cuts) + 1


def _cuts(low: float, high: float, widths: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    n = int((high - low) / widths[0]) + 1
    return low + np.cumsum(rng.uniform(*widths, n))


def _pave(
    reflectance: np.ndarray,
    road: np.ndarray,
    waters: Waters,
    frame: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> None:
    """Paint a road along each side of the river, well away from it, and straight farm tracks."""
    _overlay(reflectance, np.abs(road) < 3.2, ASPHALT)
    _overlay(reflectance, np.abs(road) < 0.6, (0.19, 0.19, 0.19, 0.21))
    dry = (waters.bank > 14) & (np.abs(road) > 3.2)
    for axis in frame:
        where = rng.uniform(float(axis.min()), float(axis.max()), 2)
        for position in where:
            wheel = np.abs(np.abs(axis - position) - 1.3) < 0.9
            _overlay(reflectance, wheel & dry, TRACK)


def _road(waters: Waters, rng: np.random.Generator) -> np.ndarray:
    """Return the distance to a road along each side of the river, negative towards the river."""
    shape = waters.across.shape
    step = 8
    rows, cols = (
        np.clip(nodes, 0, n - 1) for nodes, n in zip(grid_nodes(shape, step), shape, strict=True)
    )
    # Distances have creases between two bends, and roads do not turn on the spot.
    smoothed = ndimage.gaussian_filter(np.abs(waters.across[np.ix_(rows, cols)]), 40 / step)
    away = 3 * float(waters.river.half_width.mean()) + 40
    return enlarge(smoothed, shape, step) - away + 9 * smooth_noise(shape, 260, rng)


def _build(
    reflectance: np.ndarray,
    height: np.ndarray,
    road: np.ndarray,
    waters: Waters,
    rng: np.random.Generator,
) -> None:
    """Set houses, barns and sheds on the far sides of the roads."""
    sites = np.argwhere((np.abs(road - 38) < 14) & (waters.bank > 40))
    if len(sites) == 0:
        return
    n = int(45 * (max(height.shape) / 1024) ** 2)
    for row, col in sites[rng.integers(len(sites), size=n)]:
        half = rng.uniform((4, 4), (13, 8)) * rng.choice([1.0, 1.0, 1.7])
        _roof(reflectance, height, (int(row), int(col)), half, rng)


def _roof(
    reflectance: np.ndarray,
    height: np.ndarray,
    centre: tuple[int, int],
    half: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Paint one pitched roof, lighter on the side that faces the sun."""
    reach = int(np.hypot(*half)) + 2
    window = tuple(
        slice(max(c - reach, 0), min(c + reach, n))
        for c, n in zip(centre, height.shape, strict=True)
    )
    rows, cols = np.mgrid[window]
    turn = rng.choice([0.2, 0.2 + np.pi / 2]) + rng.normal(0, 0.1)
    x = (cols - centre[1]) * np.cos(turn) + (rows - centre[0]) * np.sin(turn)
    y = (rows - centre[0]) * np.cos(turn) - (cols - centre[1]) * np.sin(turn)
    roof = (np.abs(x) <= half[0]) & (np.abs(y) <= half[1])
    colour = ROOFS[rng.choice(len(ROOFS), p=[0.30, 0.06, 0.44, 0.20])] * rng.uniform(0.85, 1.15)
    lit = np.where(y > 0, 1.12, 0.85)
    part = reflectance[(slice(None), *window)]
    part[:, roof] = colour[:, None] * lit[roof]
    height[window][roof] = HOUSE_PX


def _plant(
    reflectance: np.ndarray,
    height: np.ndarray,
    waters: Waters,
    frame: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> None:
    """Plant woods: a belt along the banks, copses on the land, and trees on the islands."""
    shape = height.shape
    belt = 1.5 * np.exp(-np.maximum(waters.bank, 0) / 26)
    density = belt + 0.5 * smooth_noise(shape, 150, rng, octaves=2) - 0.68
    density += 0.35 * smooth_noise(shape, 14, rng, octaves=2)
    crowns = smooth_noise(shape, 5, rng) + 0.6 * smooth_noise(shape, 2.5, rng)
    wood = (density > 0.25) & (waters.bank > 3 + 2 * crowns) & (height == 0)
    canopy = np.clip(0.7 + 0.22 * crowns, 0.15, 1.3)
    slope = np.gradient(canopy)
    lit = np.clip(1 + 2.6 * (SUN[0] * slope[0] + SUN[1] * slope[1]) + 0.5 * (canopy - 0.7), 0.35, 2)
    tone = 1 + 0.15 * smooth_noise(shape, 12, rng)
    reflectance[:, wood] = np.array(WOOD, dtype="float32")[:, None] * (lit * tone)[wood]
    height[wood] = (TREE_PX * canopy)[wood]


def _overlay(reflectance: np.ndarray, mask: np.ndarray, colour: tuple[float, ...]) -> None:
    reflectance[:, mask] = np.array(colour, dtype="float32")[:, None]


def _shifted(field: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return the field moved by whole pixels (row, col), with zeros coming in."""
    return ndimage.shift(field, shift, order=0, cval=0, prefilter=False)
