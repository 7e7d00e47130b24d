"""How wide a river may be, or must be: its transects on other contours of the probability."""

from __future__ import annotations

import numpy as np
import shapely

from geosam.rivers.crossings import Banks, cross
from geosam.rivers.transects import Transects

LOW, HIGH = 0.75, 0.25
"""Probability at which water is likely, and at which it is possible."""
_BEYOND_PX = 10.0
"""Pixels beyond its banks that a transect is followed, at least."""


def contour_widths(transects: Transects, polygons: np.ndarray, pixel_m: float) -> np.ndarray:
    """Measure transects on the outlines of another probability.

    Parameters
    ----------
    transects : Transects
        Of the outlines at 0.5, in metres of a plane.
    polygons : numpy.ndarray of shapely.Polygon
        Outlines at the other probability, in the same plane; they do not overlap.
    pixel_m : float
        Pixel in metres.

    Returns
    -------
    numpy.ndarray of shape (n,)
        Metres of water in the pieces that lie between the transect's ends or reach over them. NaN
        where a piece goes on for more than the span (10 pixels at least) beyond a bank.
    """
    span = transects.span
    if len(polygons) == 0:
        return np.zeros(len(span))
    ahead = (transects.left - transects.right) / np.maximum(span, 1e-12)[:, None]
    beyond = np.maximum(span, _BEYOND_PX * pixel_m)
    start = transects.right - beyond[:, None] * ahead
    total = span + 2 * beyond
    crossings = cross(start, ahead, np.zeros(len(span)), total, _banks(polygons))
    wet = _within(start, polygons)
    return np.array(
        [
            _overlapping(at, bool(first), total[i], beyond[i], beyond[i] + span[i])
            for i, (at, first) in enumerate(
                zip(_by_line(crossings.line, crossings.at, len(span)), wet, strict=True)
            )
        ]
    )


def _banks(polygons: np.ndarray) -> Banks:
    rings = shapely.get_rings(polygons)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    first = np.flatnonzero(ring[:-1] == ring[1:])
    lines = shapely.linestrings(np.stack([points[first], points[first + 1]], axis=1))
    none = np.zeros(len(first), bool)
    return Banks(points[first], points[first + 1], none, none, shapely.STRtree(lines), np.inf)


def _within(points: np.ndarray, polygons: np.ndarray) -> np.ndarray:
    which, _ = shapely.STRtree(polygons).query(shapely.points(points), predicate="within")
    found = np.zeros(len(points), bool)
    found[which] = True
    return found


def _by_line(line: np.ndarray, at: np.ndarray, n: int) -> list[np.ndarray]:
    return np.split(at, np.searchsorted(line, np.arange(1, n)))


def _overlapping(at: np.ndarray, wet: bool, total: float, low: float, high: float) -> float:
    """Add up the pieces of water that overlap an interval of a line."""
    ends = np.concatenate([[0.0] if wet else [], at])
    if len(ends) % 2:
        ends = np.append(ends, total)
    pieces = ends.reshape(-1, 2)
    pieces = pieces[(pieces[:, 0] < high) & (pieces[:, 1] > low)]
    if (pieces[:, 0] <= 0).any() or (pieces[:, 1] >= total).any():
        return np.nan
    return float((pieces[:, 1] - pieces[:, 0]).sum())
