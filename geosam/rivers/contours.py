"""How wide a river may be, or must be: its transects at other levels of the probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from pyproj import Transformer
from scipy.ndimage import map_coordinates

from geosam.errors import InputError
from geosam.ground import crs_of
from geosam.longitudes import near
from geosam.rivers.plane import Plane
from geosam.rivers.transects import Transects
from geosam.strips import StripSource, open_strips

LOW, HIGH = 0.75, 0.25
"""Probability at which water is likely, and at which it is possible."""
_BEYOND_PX = 10.0
"""Pixels beyond its banks that a transect is followed, at least."""
_STEP_PX = 0.5
"""Pixels between the places where a transect reads the probability."""


@dataclass(frozen=True)
class Profiles:
    """Probability along n transects, from beyond the right bank to beyond the left one."""

    values: list[np.ndarray]
    """For each transect the probability at even distances; 0 where the raster has no data."""
    step: np.ndarray
    """(n,) float: metres between these."""
    beyond: np.ndarray
    """(n,) float: metres before the right bank and after the left one."""
    span: np.ndarray
    """(n,) float: metres from bank to bank."""


def read_profiles(transects: Transects, plane: Plane, probability: Any, pixel_m: float) -> Profiles:
    """Read a probability along transects, and beyond them for a span or 10 pixels.

    Parameters
    ----------
    transects : Transects
        In metres of the plane.
    plane : Plane
        Where they lie.
    probability : path or xarray.DataArray of shape (y, x)
        In any CRS; read strip by strip, and between the centres of four pixels linearly.
    pixel_m : float
        Its pixel in metres.

    Returns
    -------
    Profiles

    Raises
    ------
    InputError
        The raster cannot be read, or is a mask.
    """
    source, span = open_strips(probability), transects.span
    ahead = (transects.left - transects.right) / np.maximum(span, 1e-12)[:, None]
    beyond = np.maximum(span, _BEYOND_PX * pixel_m)
    ends = [
        transects.right - beyond[:, None] * ahead,
        transects.left + beyond[:, None] * ahead,
    ]
    total = span + 2 * beyond
    counts = np.ceil(total / (_STEP_PX * pixel_m)).astype(int) + 1
    line = np.repeat(np.arange(len(span)), counts)
    first = np.cumsum(counts) - counts
    share = (np.arange(len(line)) - first[line]) / (counts - 1)[line]
    start, end = (_in_pixels(each, plane, source) for each in ends)
    rows, cols = (start[line] + share[:, None] * (end - start)[line]).T
    values = np.split(_sampled(source, rows, cols), first[1:])
    return Profiles(values if len(span) else [], total / (counts - 1), beyond, span)


def level_widths(profiles: Profiles, level: float) -> np.ndarray:
    """Measure how much of each transect lies above a level of the probability.

    Returns
    -------
    numpy.ndarray of shape (n,)
        Metres of water in the pieces that lie between the transect's ends or reach over them,
        crossings of the level between two places found linearly. NaN where a piece goes on for
        more than the span (10 pixels at least) beyond a bank.
    """
    each = zip(profiles.values, profiles.step, profiles.beyond, profiles.span, strict=True)
    return np.array([_above(*profile, level) for profile in each])


def _in_pixels(points: np.ndarray, plane: Plane, source: StripSource) -> np.ndarray:
    """Return row and column of points of the plane, (n, 2), 0.5 in the middle of the first pixel."""
    there = shapely.get_coordinates(plane.from_plane(shapely.points(points)))
    move = Transformer.from_crs(plane.crs, source.geobox.crs, always_xy=True)
    inverse = ~source.geobox.affine
    x, y = move.transform(*there.T)
    box = source.geobox.boundingbox
    x = near(x, crs_of(source.geobox), (box.left + box.right) / 2)
    return np.stack(
        [inverse.d * x + inverse.e * y + inverse.f, inverse.a * x + inverse.b * y + inverse.c],
        axis=1,
    )


def _sampled(source: StripSource, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Read a probability at places, strip by strip; 0 outside of the raster and without data."""
    height, width = source.geobox.shape
    inside = (rows >= 0) & (rows <= height) & (cols >= 0) & (cols <= width)
    rows, cols = np.clip(rows - 0.5, 0, height - 1), np.clip(cols - 0.5, 0, width - 1)
    found, before = np.zeros(len(rows)), np.empty((0, width), np.float32)
    for strip in source.strips():
        if strip.probability is None:
            raise InputError("A mask has no low and high widths: they need a probability.")
        # With the last row of the strip before: places lie between two.
        block = np.concatenate([before, np.nan_to_num(strip.probability)])
        first = strip.row - len(before)
        here = np.flatnonzero((rows >= first) & (rows <= first + len(block) - 1) & inside)
        found[here] = map_coordinates(block, [rows[here] - first, cols[here]], order=1)
        before = block[-1:]
    return found


def _above(values: np.ndarray, step: float, beyond: float, span: float, level: float) -> float:
    """Add up the pieces above a level that overlap the part from bank to bank."""
    wet = np.concatenate([[False], values > level, [False]])
    starts, ends = np.flatnonzero(~wet[:-1] & wet[1:]), np.flatnonzero(wet[:-1] & ~wet[1:]) - 1
    low, high = _crossing(values, starts - 1, level), _crossing(values, ends, level)
    kept = (low * step < beyond + span) & (high * step > beyond)
    if (kept & ((starts == 0) | (ends == len(values) - 1))).any():
        return np.nan
    return float((high - low)[kept].sum() * step)


def _crossing(values: np.ndarray, before: np.ndarray, level: float) -> np.ndarray:
    """Return where values cross a level between each of some places and the next one."""
    a, b = (values[np.clip(i, 0, len(values) - 1)] for i in (before, before + 1))
    different = a != b
    return before + np.where(different, (level - a) / np.where(different, b - a, 1), 0.0)
