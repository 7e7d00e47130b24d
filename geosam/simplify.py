"""Staircases of pixels to smooth lines that keep their area, each polygon checked.

First every corner of a ring is cut off halfway along its pixel edges, outward corners and inward
ones by just as much that the ring keeps its area exactly; then the lines are thinned with the
method of Visvalingam and Whyatt [1]_, which never lets two lines cross.

References
----------
.. [1] Visvalingam, M., Whyatt, J. D. (1993). Line generalisation by repeated elimination of
   points. The Cartographic Journal 30 (1), 46-51.
"""

from __future__ import annotations

import numpy as np
import shapely

from geosam.rings import STEPS, Rings

BRIDGE_PX = 0.02
"""How far from a corner contact its land corners are cut off. Two triangles of this leg are
0.0004 px, and a pixel shares at most two such corners: below 0.1 % of any area."""
CUT_PX = 0.5
"""How far from a corner a smooth ring leaves the pixel edges: halfway along the shortest."""
AREA_LIMIT = 0.004
"""Largest relative change of the area of a polygon by simplification; 0.5 % is promised."""
_HALVINGS = 4
"""How often the tolerance of a polygon is halved before it is left unthinned."""


def pixel_polygons(rings: Rings) -> np.ndarray:
    """Make polygons that follow the pixel edges, corner contacts bridged.

    Parameters
    ----------
    rings : Rings
        Shells and holes; a region has one shell.

    Returns
    -------
    numpy.ndarray of shapely.Polygon, in the order of the regions' numbers
        In pixels, x = column and y = row, (0, 0) at the outer corner of the first pixel.
    """
    return _polygons(rings, np.where(rings.corners.contact, BRIDGE_PX, 0.0))


def smooth_polygons(rings: Rings) -> np.ndarray:
    """Make polygons with their corners cut off, each ring with the area it had.

    Same parameters and result as `pixel_polygons`.
    """
    return _polygons(rings, _smooth_cuts(rings))


def thin(polygons: np.ndarray, area: np.ndarray, tolerance: float) -> np.ndarray:
    """Thin the lines of polygons that do not overlap.

    Parameters
    ----------
    polygons : numpy.ndarray of shapely.Polygon, shape (n,)
        Valid and disjoint, in a plane where both axes have the same unit.
    area : numpy.ndarray, shape (n,)
        The area each of them should have, in that unit squared.
    tolerance : float
        Side of the largest triangle taken away, in that unit: points are removed while the
        triangle they make with their neighbours is smaller than its square.

    Returns
    -------
    numpy.ndarray of shapely.Polygon, shape (n,)
        Valid and disjoint, with the same number of holes. A polygon whose area would change by
        more than 0.4 % is thinned with half the tolerance, and so on.
    """
    result = polygons.copy()
    pending = np.arange(len(polygons))
    for halving in range(_HALVINGS):
        if len(pending) == 0:
            break
        # The whole coverage, so that no line may cross a neighbour already thinned.
        thinned = shapely.coverage_simplify(result, tolerance / 2**halving)[pending]
        good = _acceptable(thinned, polygons[pending], area[pending])
        result[pending[good]] = thinned[good]
        pending = pending[~good]
    return _without_overlaps(result, polygons)


def _acceptable(thinned: np.ndarray, original: np.ndarray, area: np.ndarray) -> np.ndarray:
    same_holes = shapely.get_num_interior_rings(thinned) == shapely.get_num_interior_rings(original)
    change = np.abs(shapely.area(thinned) - area)
    return same_holes & shapely.is_valid(thinned) & (change <= AREA_LIMIT * area)


def _without_overlaps(result: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Give back the lines they had to polygons that meet, until none does."""
    while True:
        pairs = shapely.STRtree(result).query(result, predicate="intersects")
        meeting = np.unique(pairs[:, pairs[0] != pairs[1]])
        changed = meeting[[result[i] is not original[i] for i in meeting]]
        if len(changed) == 0:
            return result
        result[changed] = original[changed]


def _smooth_cuts(rings: Rings) -> np.ndarray:
    """Return how far each corner is cut, (n,): a ring has four corners more of one kind."""
    convex, ring = rings.corners.convex, rings.ring_of_corner
    n_convex = np.bincount(ring, convex, minlength=len(rings))
    n_concave = np.bincount(ring, ~convex, minlength=len(rings))
    fewer, more = np.minimum(n_convex, n_concave), np.maximum(n_convex, n_concave)
    frequent = convex == (n_convex > n_concave)[ring]
    cut = np.where(frequent, (CUT_PX * np.sqrt(fewer / more))[ring], CUT_PX)
    # A hole of one pixel has no inward corner, but its contacts stay bridged.
    return np.where(rings.corners.contact, np.maximum(cut, BRIDGE_PX), cut)


def _polygons(rings: Rings, cut: np.ndarray) -> np.ndarray:
    points, ring_of_point = _points(rings, cut)
    lines = shapely.linearrings(points[:, ::-1], indices=ring_of_point)
    hole = rings.areas_px() < 0
    order = np.lexsort((hole, rings.region))
    _, polygon = np.unique(rings.region[order], return_inverse=True)
    return shapely.polygons(lines[order], indices=polygon)


def _points(rings: Rings, cut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (row, col) of the points of all rings and the ring of each: two at a cut corner."""
    corners = rings.corners
    place = np.stack([corners.row, corners.col], axis=1).astype(float)
    points = np.stack(
        [
            place - cut[:, None] * STEPS[corners.arrive],
            place + cut[:, None] * STEPS[corners.leave],
        ],
        axis=1,
    )
    ring = rings.ring_of_corner
    # Halves of a pixel edge meet in its middle: one point of the two is enough.
    keep = np.stack([np.ones(len(cut), bool), cut > 0], axis=1)
    keep[:, 1] &= (points[:, 1] != points[rings.following(), 0]).any(axis=1)
    return points[keep], np.repeat(ring, 2).reshape(-1, 2)[keep]
