"""Staircases of pixels to smooth lines that keep their area, each polygon checked.

First the corners of a ring are cut off halfway along their pixel edges, as many outward ones as
inward ones, so that the ring keeps its area exactly; then the lines are thinned with the
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
AREA_LIMIT = 0.002
"""Largest relative change of the area of a polygon by thinning; 0.5 % is promised."""
AREA_LIMIT_SMALL = 0.0009
"""The same where a polygon is small, because the many of a scene add up."""
TINY_SHARE = 0.06
"""Polygons below this share of a small one are left alone: they have few points, and noise has
many of them."""
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


def shell_polygons(rings: Rings) -> np.ndarray:
    """Make a polygon of each ring alone, along the pixel edges, in pixels."""
    points, ring_of_point = _points(rings, np.where(rings.corners.contact, BRIDGE_PX, 0.0))
    return shapely.polygons(shapely.linearrings(points[:, ::-1], indices=ring_of_point))


def thin(
    polygons: np.ndarray, area: np.ndarray, tolerance: float, small: float = 0.0
) -> np.ndarray:
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
    small : float
        Area, in that unit squared, below which a polygon may lose less of it, or is left alone.

    Returns
    -------
    numpy.ndarray of shapely.Polygon, shape (n,)
        Valid and disjoint, with the same number of holes. A polygon whose area would change by
        more than 0.2 % (0.09 % where it is small) is thinned with half the tolerance, and so on.
    """
    result = polygons.copy()
    pending = area >= TINY_SHARE * small
    limit = area * np.where(area < small, AREA_LIMIT_SMALL, AREA_LIMIT)
    for halving in range(_HALVINGS):
        step = tolerance / 2**halving
        # Where one triangle is more than 1 % of a polygon, trying would be in vain.
        chosen = np.flatnonzero(pending & (area >= 100 * step**2))
        thinned = shapely.coverage_simplify(polygons[chosen], step)
        good = _acceptable(thinned, polygons[chosen], area[chosen], limit[chosen])
        result[chosen[good]] = thinned[good]
        pending[chosen[good]] = False
    return _without_overlaps(result, polygons)


def _acceptable(
    thinned: np.ndarray, original: np.ndarray, area: np.ndarray, limit: np.ndarray
) -> np.ndarray:
    same_holes = shapely.get_num_interior_rings(thinned) == shapely.get_num_interior_rings(original)
    return same_holes & shapely.is_valid(thinned) & (np.abs(shapely.area(thinned) - area) <= limit)


def _without_overlaps(result: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Give back the lines they had to polygons that meet, until none does."""
    while True:
        meeting = _meeting(result)
        changed = meeting[[result[i] is not original[i] for i in meeting]]
        if len(changed) == 0:
            return result
        result[changed] = original[changed]


def _meeting(polygons: np.ndarray) -> np.ndarray:
    """Return the indices of polygons that touch or overlap another one."""
    first, second = shapely.STRtree(polygons).query(polygons)
    # Pairs by hand, because a large polygon takes long to find that it meets itself.
    first, second = first[first < second], second[first < second]
    shapely.prepare(polygons[first])
    meet = shapely.intersects(polygons[first], polygons[second])
    return np.unique([first[meet], second[meet]])


def _smooth_cuts(rings: Rings) -> np.ndarray:
    """Return how far each corner is cut, (n,).

    A closed ring has four corners more of one kind, outward or inward, than of the other. The
    four sharpest of the frequent kind stay, and the others give and take the same area.
    """
    convex, ring = rings.corners.convex, rings.ring_of_corner
    surplus = np.bincount(ring, np.where(convex, 1, -1), minlength=len(rings))
    frequent = convex == (surplus > 0)[ring]
    order = np.lexsort((-_sharpness(rings), ~frequent, ring))
    rank = np.arange(len(ring)) - rings.starts[ring]
    cut = np.full(len(ring), CUT_PX)
    cut[order[rank < 4]] = 0.0
    # A hole of one pixel keeps all its corners, but its contacts stay bridged.
    return np.where(rings.corners.contact, np.maximum(cut, BRIDGE_PX), cut)


def _sharpness(rings: Rings) -> np.ndarray:
    """Rank corners, (n,): ends of spurs above corners of long edges above steps of a staircase."""
    corners, after = rings.corners, rings.following()
    before = np.empty_like(after)
    before[after] = np.arange(len(after))
    run = np.abs(corners.row[after] - corners.row) + np.abs(corners.col[after] - corners.col)
    alike = (corners.convex[after] == corners.convex) * 1.0
    shortest = np.minimum(run, run[before])
    return alike + alike[before] + shortest / (1.0 + shortest)


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
