"""Where straight lines across a river meet its banks, all lines at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely

_CHUNK = 256
"""Lines that are met with the banks at once."""


@dataclass(frozen=True)
class Banks:
    """The segments of one outline's rings, found by place."""

    start: np.ndarray
    """(s, 2) float: where each begins."""
    end: np.ndarray
    """(s, 2) float: where it ends."""
    shell: np.ndarray
    """(s,) bool: whether it belongs to the outer ring, and not to an island."""
    edge: np.ndarray
    """(s,) bool: whether it lies on the scene's edge, where no bank is."""
    tree: shapely.STRtree
    """All of them."""
    reach: float
    """Metres beyond which no line has to be followed."""


@dataclass(frozen=True)
class Crossings:
    """Meetings of lines with banks, by line and along it."""

    line: np.ndarray
    """(m,) int: the line."""
    at: np.ndarray
    """(m,) float: metres along it from its centre, ascending within a line."""
    segment: np.ndarray
    """(m,) int: the segment of the bank."""


def banks_of(polygon: shapely.Polygon, on_edge: np.ndarray) -> Banks:
    """Take the rings of a polygon apart; `on_edge` is for each coordinate and the one after it."""
    rings = shapely.get_rings(polygon)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    first = np.flatnonzero(ring[:-1] == ring[1:])
    segments = shapely.linestrings(np.stack([points[first], points[first + 1]], axis=1))
    left, bottom, right, top = polygon.bounds
    reach = float(np.hypot(right - left, top - bottom))
    return Banks(
        points[first],
        points[first + 1],
        ring[first] == 0,
        on_edge[first],
        shapely.STRtree(segments),
        reach,
    )


def cross(
    centres: np.ndarray, ahead: np.ndarray, back: np.ndarray, forth: np.ndarray, banks: Banks
) -> Crossings:
    """Meet lines with banks.

    Parameters
    ----------
    centres, ahead : numpy.ndarray of shape (n, 2)
        A point of each line and the unit vector along it.
    back, forth : numpy.ndarray of shape (n,)
        How far each line reaches to either side, in metres.
    banks : Banks
        The segments.

    Returns
    -------
    Crossings
        A line through a vertex meets one of its two segments, or both or none where it only
        touches them, so that water and land alternate.
    """
    found = [_cross(part, centres, ahead, back, forth, banks) for part in _parts(len(centres))]
    line, at, segment = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.lexsort((at, line))
    return Crossings(line[order], at[order], segment[order])


def nearest(
    crossings: Crossings, wanted: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the nearest wanted meeting on either side of each of n lines.

    Returns
    -------
    right, left : numpy.ndarray of shape (n,)
        Metres along the line, negative and positive; infinite where there is none.
    right_segment, left_segment : numpy.ndarray of shape (n,)
        Their segments; -1 where there is none.
    """
    line, at, segment = (a[wanted] for a in (crossings.line, crossings.at, crossings.segment))
    sides = []
    for sign in (-1.0, 1.0):
        side = np.flatnonzero(at * sign > 0)
        order = side[np.lexsort((np.abs(at[side]), line[side]))]
        lines, first = np.unique(line[order], return_index=True)
        place, number = np.full(n, sign * np.inf), np.full(n, -1)
        place[lines], number[lines] = at[order[first]], segment[order[first]]
        sides.append((place, number))
    (right, right_segment), (left, left_segment) = sides
    return right, left, right_segment, left_segment


def _parts(n: int) -> Iterator[np.ndarray]:
    for start in range(0, max(n, 1), _CHUNK):
        yield np.arange(start, min(start + _CHUNK, n))


def _cross(
    part: np.ndarray,
    centres: np.ndarray,
    ahead: np.ndarray,
    back: np.ndarray,
    forth: np.ndarray,
    banks: Banks,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ends = [
        centres[part] - back[part, None] * ahead[part],
        centres[part] + forth[part, None] * ahead[part],
    ]
    # By their boxes alone: which of two neighbours a line meets is decided below, once.
    line, segment = banks.tree.query(shapely.linestrings(np.stack(ends, axis=1)))
    line = part[line]
    way, centre = ahead[line], centres[line]
    start, end = banks.start[segment] - centre, banks.end[segment] - centre
    from_side, to_side = _turn(way, start), _turn(way, end)
    meets = (from_side >= 0) != (to_side >= 0)
    line, segment, way = line[meets], segment[meets], way[meets]
    share = from_side[meets] / (from_side[meets] - to_side[meets])
    at = (way * (start[meets] + share[:, None] * (end[meets] - start[meets]))).sum(axis=1)
    within = (at >= -back[line]) & (at <= forth[line])
    return line[within], at[within], segment[within]


def _turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
