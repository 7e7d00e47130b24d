"""Bends that a river has left for a shorter way."""

from __future__ import annotations

import numpy as np
import shapely

from geosam.change.migration import MainLine
from geosam.rivers.smoothing import distance_along, resample

AWAY_WIDTHS = 1.0
"""Widths that the old line lies from the new one where it was left."""
LONG_WIDTHS = 4.0
"""Widths of the old line that were left, at least."""
SHORTER = 2.0
"""Times the new way is shorter than the old, at least, and the straight one; a bend that only moved is
as long, and a river that leaves the scene elsewhere need not be shorter beyond its edge."""


def cutoffs(
    before: MainLine, after: MainLine, edge: shapely.Geometry
) -> list[tuple[shapely.Polygon, float]]:
    """Find bends of the earlier line that the later one cuts off.

    Parameters
    ----------
    before, after : MainLine
        The river at two dates, drawn the same way.
    edge : shapely geometry
        Lines of the scene's edge. A bend through which the river left the scene counts as well,
        if the river now leaves it by a shorter way.

    Returns
    -------
    list of (shapely.Polygon, float)
        The area between old and new way, and by how many metres the way became shorter.
    """
    width = before.width
    old, new = resample(before.line, width / 4), resample(after.line, width / 4)
    new_line = shapely.LineString(new)
    shapely.prepare(new_line)
    distance = shapely.distance(new_line, shapely.points(old))
    along = distance_along(old)
    leaves = shapely.dwithin(edge, _line_ends(old, new), 2 * width).all(axis=0)
    found = []
    for first, last in _stretches(distance, AWAY_WIDTHS * width):
        at_end = first == 0, last == len(old) - 1
        length = along[last] - along[first]
        if all(at_end) or (np.array(at_end) & ~leaves).any() or length < LONG_WIDTHS * width:
            continue
        ends = [shapely.line_locate_point(new_line, shapely.Point(old[i])) for i in (first, last)]
        ends = [0.0 if at_end[0] else ends[0], new_line.length if at_end[1] else ends[1]]
        way = abs(ends[1] - ends[0])
        straight = float(np.hypot(*(old[last] - old[first])))
        if length > SHORTER * max(way, straight):
            found.append((_between(old[first : last + 1], new_line, ends), float(length - way)))
    return [(polygon, lost) for polygon, lost in found if not polygon.is_empty]


def _line_ends(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return the first and last point of both lines, (2, 2)."""
    return shapely.points(np.stack([old[[0, -1]], new[[0, -1]]]))


def _stretches(distance: np.ndarray, limit: float) -> list[tuple[int, int]]:
    """Return the first and last index of each stretch beyond a limit, with the ways out and back."""
    padded = np.concatenate([[False], distance > limit, [False]])
    changes = np.flatnonzero(padded[1:] != padded[:-1])
    found = []
    for first, last in changes.reshape(-1, 2).tolist():
        last -= 1
        while first > 0 and distance[first - 1] < distance[first]:
            first -= 1
        while last < len(distance) - 1 and distance[last + 1] < distance[last]:
            last += 1
        found.append((first, last))
    return found


def _between(old: np.ndarray, new_line: shapely.LineString, ends: list[float]) -> shapely.Polygon:
    low, high = sorted(ends)
    inner = shapely.get_coordinates(new_line)
    along = distance_along(inner)
    way = inner[(along > low) & (along < high)]
    way = way[::-1] if ends[1] >= ends[0] else way
    area = shapely.make_valid(shapely.Polygon(np.concatenate([old, way])))
    parts = [p for p in shapely.get_parts(area) if p.geom_type == "Polygon"]
    return max(parts, key=lambda p: p.area, default=shapely.Polygon())
