"""How far a river's main line moved, and its banks, along transects of the earlier date."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from geosam.rivers.crossings import Banks, Crossings, banks_of, cross, nearest
from geosam.rivers.smoothing import distance_along, resample, tangents

REACH_WIDTHS = 4.0
"""Widths within which the later line is looked for: beyond, it is another bend."""


@dataclass(frozen=True)
class MainLine:
    """The main line of a river at one date, in metres of a plane."""

    line: np.ndarray
    """(n, 2) float: x, y from one end to the other."""
    width: float
    """Usual width."""
    polygon: shapely.Polygon
    """The water it runs through."""


@dataclass(frozen=True)
class Moves:
    """Moves of n places of an earlier line."""

    start: np.ndarray
    """(n, 2) float: the place."""
    end: np.ndarray
    """(n, 2) float: where the later line crosses the perpendicular through it."""
    distance: np.ndarray
    """(n,) float: metres, positive to the left of the way."""
    left: np.ndarray
    """(n,) float: metres by which the left bank retreated; negative where it advanced."""
    right: np.ndarray
    """(n,) float: the same of the right bank."""


def moves(before: MainLine, after: MainLine, step: float) -> Moves:
    """Compare two main lines along perpendiculars of the earlier one.

    Parameters
    ----------
    before, after : MainLine
        The river at two dates.
    step : float
        Metres between perpendiculars.

    Returns
    -------
    Moves
        One row for each perpendicular that meets the later line within 4 widths; where a bend was
        cut off, it meets none.
    """
    even = resample(before.line, min(step, before.width / 4))
    along = distance_along(even)
    places = np.arange(step / 2, along[-1], step)
    centre = _at(even, along, places)
    ahead = _at(tangents(even, before.width / 2), along, places)
    normal = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    normal /= np.maximum(np.hypot(*normal.T), 1e-12)[:, None]
    reach = np.full(len(places), REACH_WIDTHS * before.width)
    met = cross(centre, normal, reach, reach, _segments(after.line))
    distance = _nearer(met, len(places))
    found = np.isfinite(distance)
    centre, normal, distance = centre[found], normal[found], distance[found]
    end = centre + distance[:, None] * normal
    old, new = (_banks(m.polygon, at, normal) for m, at in ((before, centre), (after, end)))
    left = distance + new[1] - old[1]
    right = -(distance + new[0] - old[0])
    return Moves(centre, end, distance, left, right)


def _at(values: np.ndarray, along: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(places, along, axis) for axis in values.T], axis=1)


def _segments(line: np.ndarray) -> Banks:
    segments = shapely.linestrings(np.stack([line[:-1], line[1:]], axis=1))
    none = np.zeros(len(segments), bool)
    return Banks(line[:-1], line[1:], none, none, shapely.STRtree(segments), np.inf)


def _nearer(met: Crossings, n: int) -> np.ndarray:
    """Return the nearest meeting on either side, NaN where there is none."""
    right, left, *_ = nearest(met, np.ones(len(met.at), bool), n)
    near = np.where(-right < left, right, left)
    return np.where(np.isfinite(near), near, np.nan)


def _banks(
    polygon: shapely.Polygon, at: np.ndarray, normal: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return how far the outer banks are from places in the water, right (negative) and left."""
    banks = banks_of(polygon, np.zeros(shapely.get_num_coordinates(polygon), bool))
    reach = np.full(len(at), min(banks.reach, _farthest(polygon)))
    met = cross(at, normal, reach, reach, banks)
    right, left, *_ = nearest(met, banks.shell[met.segment], len(at))
    right, left = (np.where(np.isfinite(side), side, np.nan) for side in (right, left))
    return right, left


def _farthest(polygon: shapely.Polygon) -> float:
    """Return a length that reaches across any water of a river, in metres."""
    return 20 * 2 * polygon.area / polygon.length + np.sqrt(polygon.area / 10)
