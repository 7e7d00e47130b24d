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
"""Largest relative change of the area of a polygon or island by thinning; 0.5 % is promised."""
AREA_LIMIT_SMALL = 0.0009
"""The same where it is small, because the many of a scene add up."""
TINY_SHARE = 0.06
"""Rings below this share of a small one are left alone: they have few points, and noise has
many of them."""
_HALVINGS = 4
"""How often the tolerance of a ring is halved before it is left unthinned."""


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


def thin(polygons: np.ndarray, tolerance: float, small: float = 0.0) -> np.ndarray:
    """Thin the lines of polygons that do not overlap.

    Parameters
    ----------
    polygons : numpy.ndarray of shapely.Polygon, shape (n,)
        Valid and disjoint, in a plane where both axes have the same unit.
    tolerance : float
        Side of the largest triangle taken away, in that unit: points are removed while the
        triangle they make with their neighbours is smaller than its square.
    small : float
        Area, in that unit squared, below which a ring may lose less of it, or is left alone.

    Returns
    -------
    numpy.ndarray of shapely.Polygon, shape (n,)
        Valid and disjoint, with the same holes. The area of a polygon, and of each of its rings,
        changes by at most 0.2 % (0.09 % where the ring is small): a ring that would exceed that is
        thinned with half the tolerance, and so on.
    """
    lines, owner = shapely.get_rings(polygons, return_index=True)
    original = shapely.polygons(lines)
    result, area = original.copy(), shapely.area(original)
    limit = _area_limits(area, owner, small)
    pending = area >= TINY_SHARE * small
    for halving in range(_HALVINGS):
        step = tolerance / 2**halving
        # Where one triangle is more than 1 % of a ring, trying would be in vain.
        chosen = np.flatnonzero(pending & (area >= 100 * step**2))
        # Rings lie inside each other, but no two edges meet, which is all this relies on.
        thinned = shapely.coverage_simplify(original[chosen], step)
        change = np.abs(shapely.area(thinned) - area[chosen])
        good = shapely.is_valid(thinned) & (change <= limit[chosen])
        result[chosen[good]] = thinned[good]
        pending[chosen[good]] = False
    rings = _uncrossed(shapely.get_exterior_ring(result), shapely.get_exterior_ring(original))
    return shapely.polygons(rings, indices=owner)


def _area_limits(area: np.ndarray, owner: np.ndarray, small: float) -> np.ndarray:
    """Return how much area each ring may lose, so that its polygon keeps within its own limit."""
    shell = np.diff(owner, prepend=-1) > 0
    water = np.bincount(owner, np.where(shell, area, -area))
    share = water / np.bincount(owner, area)
    return area * share[owner] * np.where(area < small, AREA_LIMIT_SMALL, AREA_LIMIT)


def _uncrossed(rings: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Give back the line it had to each ring that meets another, until none does."""
    while True:
        meeting = _meeting(rings)
        changed = meeting[~shapely.equals_identical(rings[meeting], original[meeting])]
        if len(changed) == 0:
            return rings
        rings[changed] = original[changed]


def _meeting(rings: np.ndarray) -> np.ndarray:
    """Return the indices of rings that touch or cross another one."""
    first, second = shapely.STRtree(rings).query(rings)
    # Pairs by hand, because a long ring takes long to find that it meets itself.
    first, second = first[first < second], second[first < second]
    shapely.prepare(rings[first])
    meet = shapely.intersects(rings[first], rings[second])
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
