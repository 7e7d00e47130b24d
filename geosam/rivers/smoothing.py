"""Lines from side to side of the water made smooth, without leaving it and without shortening bends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.ndimage import gaussian_filter1d
from scipy.signal import savgol_filter

WINDOW_WIDTHS = 1.5
"""Length of river, in its own widths, over which a line is smoothed."""
_ORDER = 3
"""Degree of the local polynomials: bends keep their place, where a mean would cut them."""
_STEPS = 8
"""Points in a window at least."""
_TRIES = 4
"""Times the window is halved where a line leaves the water."""


@dataclass(frozen=True)
class Tip:
    """How an end of a line is drawn, in metres."""

    cut: float = 0.0
    """Length that is drawn straight on to the edge of the water instead; 0 keeps the end."""
    ahead: float = 0.0
    """Length of the line before it that tells the direction; a width at least."""


def smooth_line(
    points: np.ndarray, width: float, polygon: shapely.Polygon, tips: tuple[Tip, Tip]
) -> np.ndarray | None:
    """Smooth a line by local cubic polynomials (Savitzky and Golay [1]_).

    Parameters
    ----------
    points : numpy.ndarray of shape (n, 2)
        x, y in metres, inside the water.
    width : float
        Width of the channel in metres.
    polygon : shapely.Polygon
        The water, prepared.
    tips : (Tip, Tip)
        How its start and its end are drawn: the line leans into a corner there.

    Returns
    -------
    numpy.ndarray of shape (m, 2), or None
        With the same two ends, but for those that are cut, evenly spaced; the points as they are
        where no smoothing keeps them in the water; None where these leave it too.

    References
    ----------
    .. [1] Savitzky, A., Golay, M. J. E. (1964). Smoothing and differentiation of data by simplified
       least squares procedures. Analytical Chemistry 36 (8), 1627-1639.
    """
    points = without_repeats(points)
    trunk = _without_tips(points, width, tips)
    for halving in range(_TRIES if len(points) > 2 else 0):
        window = WINDOW_WIDTHS * width / 2**halving
        smooth = _onward(_smoothed(trunk, window), points, width, polygon, tips)
        line = shapely.LineString(smooth)
        inside = len(smooth) > 3 and shapely.contains(polygon, shapely.LineString(smooth[1:-1]))
        if inside and shapely.is_simple(line):
            return smooth
    whole = len(points) > 1 and shapely.covers(polygon, shapely.LineString(points))
    return points if whole else None


def resample(points: np.ndarray, step: float) -> np.ndarray:
    """Return points at even distances along a line, both ends included, (m, 2)."""
    along = distance_along(points)
    count = max(int(np.ceil(along[-1] / step)), 2) + 1
    even = np.linspace(0, along[-1], count)
    return np.stack([np.interp(even, along, axis) for axis in points.T], axis=1)


def distance_along(points: np.ndarray) -> np.ndarray:
    """Return the distance of every point from the first along the line, (n,)."""
    return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])


def without_repeats(points: np.ndarray) -> np.ndarray:
    """Return a line without points that repeat the one before."""
    new = np.ones(len(points), bool)
    new[1:] = np.hypot(*np.diff(points, axis=0).T) > 1e-9
    return points[new]


def tangents(points: np.ndarray, scale: float | np.ndarray) -> np.ndarray:
    """Return unit vectors along an evenly spaced line, (n, 2), as seen over a scale in metres.

    A scale for every point takes the nearest of a few fixed ones above it.
    """
    step = max(distance_along(points)[-1] / max(len(points) - 1, 1), 1e-12)
    if np.ndim(scale) == 0:
        return _unit(np.gradient(_mean(points, float(scale) / step), axis=0))
    classes = np.ceil(np.log2(np.maximum(scale, step) / step))
    out = np.empty_like(points)
    for value in np.unique(classes):
        chosen = classes == value
        out[chosen] = _unit(np.gradient(_mean(points, 2.0**value), axis=0))[chosen]
    return out


def _mean(points: np.ndarray, sigma: float) -> np.ndarray:
    """Average a line along itself, gone on with beyond its ends by point reflection."""
    reach = min(int(3 * sigma) + 1, len(points) - 1)
    before = 2 * points[0] - points[reach:0:-1]
    after = 2 * points[-1] - points[-2 : -reach - 2 : -1]
    longer = np.concatenate([before, points, after])
    return gaussian_filter1d(longer, sigma, axis=0, mode="nearest")[reach : reach + len(points)]


def _direction(points: np.ndarray) -> np.ndarray:
    """Return the unit vector along points, by least squares."""
    middle = points - points.mean(axis=0)
    way = np.linalg.svd(middle, full_matrices=False)[2][0]
    return way if way @ (points[-1] - points[0]) >= 0 else -way


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.hypot(*vectors.T), 1e-12)[:, None]


def _smoothed(points: np.ndarray, window: float) -> np.ndarray:
    total = distance_along(points)[-1]
    even = resample(points, min(window / _STEPS, total / 4))
    size = round(window / total * (len(even) - 1))
    size = min(max(size, _STEPS), len(even) - 1) // 2 * 2 + 1
    if size > len(even):
        size -= 2
    if size <= _ORDER:
        return even
    smooth = savgol_filter(even, size, _ORDER, axis=0, mode="interp")
    smooth[[0, -1]] = even[[0, -1]]
    return smooth


def _without_tips(points: np.ndarray, width: float, tips: tuple[Tip, Tip]) -> np.ndarray:
    along = distance_along(points)
    first, last = tips[0].cut, along[-1] - tips[1].cut
    kept = points[(along >= first) & (along <= last)]
    return kept if last - first > 2 * width and len(kept) > 3 else points


def _onward(
    points: np.ndarray,
    uncut: np.ndarray,
    width: float,
    polygon: shapely.Polygon,
    tips: tuple[Tip, Tip],
) -> np.ndarray:
    """Draw a line straight on to the edge of the water where it was cut."""
    first, last = tips
    if first.cut:
        points = _straight_on(points[::-1], uncut[0], width, polygon, first)[::-1]
    return _straight_on(points, uncut[-1], width, polygon, last) if last.cut else points


def _straight_on(
    points: np.ndarray, end: np.ndarray, width: float, polygon: shapely.Polygon, tip: Tip
) -> np.ndarray:
    back = distance_along(points[::-1])
    ahead = _direction(points[::-1][: max(np.searchsorted(back, max(width, tip.ahead)), 2)][::-1])
    ray = shapely.LineString([points[-1], points[-1] + 2 * tip.cut * ahead])
    inside = shapely.get_parts(shapely.intersection(ray, polygon))
    new = end
    if len(inside) and inside[0].geom_type == "LineString" and not inside[0].is_empty:
        new = shapely.get_coordinates(inside[0])[-1]
    if np.hypot(*(new - end)) > tip.cut:
        new = end
    if np.hypot(*(new - points[-1])) < 1e-9:
        return points
    step = max(back[-1] / len(points), 1e-9)
    return np.concatenate([points, resample(np.stack([points[-1], new]), step)[1:]])
