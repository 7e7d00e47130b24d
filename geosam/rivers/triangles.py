"""Water as triangles between its banks: a Delaunay triangulation that holds every bank segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay

from geosam.rivers.boundary import Boundary

_ROUNDS = 20
"""Times that segments which are missing are halved. Each halves the gap that can be told apart;
where two rings meet in a point, what is left counts as water, as a corner contact does."""
_SLIVER = 1e-7
"""Area, in squares of its longest side, below which a triangle is a line."""
CORNERS = np.array([[1, 2], [2, 0], [0, 1]])
"""The two corners of the side opposite to corner 0, 1 and 2, counter-clockwise."""


@dataclass(frozen=True)
class Triangles:
    """The triangles of the water of one outline."""

    boundary: Boundary
    """The sites; with those that had to be set between them."""
    corners: np.ndarray
    """(t, 3) int: sites of each triangle, counter-clockwise."""
    beside: np.ndarray
    """(t, 3) int: the triangle across the side opposite to each corner; -1 at a bank; -2 - s
    where that side is the gate from site s to the one that follows it."""


def triangulate(boundary: Boundary, polygon: shapely.Polygon) -> Triangles:
    """Triangulate water between its sites.

    Parameters
    ----------
    boundary : Boundary
        Sites of the polygon.
    polygon : shapely.Polygon
        The water.

    Returns
    -------
    Triangles
        As many pieces as the polygon has, and as many cycles as it has holes: banks that nearly
        touch get more sites, until no triangle reaches over land.
    """
    found, missing = _delaunay(boundary)
    for _ in range(_ROUNDS):
        if len(missing) == 0:
            break
        boundary = _halved(boundary, missing)
        found, missing = _delaunay(boundary)
    corners, beside = found.simplices, found.neighbors.copy()
    segment = _bank_sides(boundary, corners)
    beside[segment >= 0] = -1
    inside = _inside(boundary.points, corners, beside, polygon)
    gate = (segment >= 0) & boundary.gate[np.maximum(segment, 0)]
    beside[gate] = -2 - segment[gate]
    new = np.cumsum(inside) - 1
    kept = beside[inside]
    real = kept >= 0
    kept[real] = np.where(inside[kept[real]], new[kept[real]], -1)
    return Triangles(boundary, corners[inside], kept)


def _delaunay(boundary: Boundary) -> tuple[Delaunay, np.ndarray]:
    """Triangulate, and return the segments, by first site, that are no side of a triangle."""
    found = Delaunay(boundary.points - boundary.points.mean(axis=0))
    n = len(boundary.points)
    first, second = found.simplices[:, CORNERS].reshape(-1, 2).T
    sides = np.unique(np.minimum(first, second).astype(np.int64) * n + np.maximum(first, second))
    start, end = _segments(boundary)
    wanted = np.minimum(start, end) * n + np.maximum(start, end)
    return found, start[~np.isin(wanted, sides)]


def _segments(boundary: Boundary) -> tuple[np.ndarray, np.ndarray]:
    start = np.arange(len(boundary.points), dtype=np.int64)
    real = boundary.after != start
    return start[real], boundary.after[real].astype(np.int64)


def _halved(boundary: Boundary, segments: np.ndarray) -> Boundary:
    """Set a site in the middle of some segments."""
    n, after = len(boundary.points), boundary.after.copy()
    new = n + np.arange(len(segments))
    middle = (boundary.points[segments] + boundary.points[after[segments]]) / 2
    follow = np.concatenate([after, after[segments]])
    follow[segments] = new
    return Boundary(
        np.concatenate([boundary.points, middle]),
        follow,
        np.concatenate([boundary.gate, boundary.gate[segments]]),
        np.concatenate([boundary.vertex, np.zeros(len(segments), bool)]),
        np.concatenate([boundary.exits, boundary.exits[segments]]),
    )


def _bank_sides(boundary: Boundary, corners: np.ndarray) -> np.ndarray:
    """Return the first site of the segment that each side is, (t, 3); -1 where it is none."""
    n = len(boundary.points)
    start, end = _segments(boundary)
    key = np.minimum(start, end) * n + np.maximum(start, end)
    order = np.argsort(key)
    sides = corners[:, CORNERS].astype(np.int64)
    wanted = sides.min(axis=2) * n + sides.max(axis=2)
    place = np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)
    return np.where(key[order][place] == wanted, start[order][place], -1)


def _inside(
    points: np.ndarray, corners: np.ndarray, beside: np.ndarray, polygon: shapely.Polygon
) -> np.ndarray:
    """Return which triangles are water, (t,): one test for all that no bank parts."""
    t = len(corners)
    first, side = np.nonzero(beside >= 0)
    graph = sparse.coo_array((np.ones(len(first), np.int8), (first, beside[first, side])), (t, t))
    _, piece = connected_components(graph, directed=False)
    a, b, c = points[corners].transpose(1, 0, 2)
    area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    order = np.lexsort((-area, piece))
    largest = order[np.flatnonzero(np.diff(piece[order], prepend=-1))]
    shapely.prepare(polygon)
    centre = points[corners[largest]].mean(axis=1)
    # Sites in a line make triangles of no area beyond the bank, on either side of it by chance.
    thin = area[largest] < _SLIVER * _longest_side(points[corners[largest]]) ** 2
    return (shapely.contains_xy(polygon, *centre.T) & ~thin)[piece]


def _longest_side(triangles: np.ndarray) -> np.ndarray:
    return np.hypot(*np.moveaxis(triangles - np.roll(triangles, 1, axis=1), -1, 0)).max(axis=1)
