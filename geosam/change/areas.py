"""Where land became water, and water land."""

from __future__ import annotations

import numpy as np
import shapely


def gained(
    before: shapely.Geometry, after: shapely.Geometry, uncertainty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find what belongs to `after` and did not belong to `before`.

    Parameters
    ----------
    before, after : shapely geometry
        Areas in a plane, in metres.
    uncertainty : float
        Metres that the distance of two banks may be wrong.

    Returns
    -------
    polygons : numpy.ndarray of shapely.Polygon
        What was gained.
    beyond : numpy.ndarray of bool
        Whether each is wider than the uncertainty. Narrow fringes of a wide polygon are
        polygons of their own.
    """
    difference = _polygons(shapely.difference(after, before))
    if uncertainty == 0:
        return difference, np.ones(len(difference), bool)
    wide = shapely.buffer(shapely.buffer(difference, -uncertainty / 2), uncertainty / 2)
    wide = shapely.intersection(wide, difference)
    narrow = shapely.difference(difference, wide)
    beyond, within = _polygons(wide), _polygons(narrow)
    # The corners that rounding takes off a wide polygon are no change of their own.
    within = within[shapely.area(within) > uncertainty**2]
    return np.concatenate([beyond, within]), np.arange(len(beyond) + len(within)) < len(beyond)


def _polygons(geometries: shapely.Geometry | np.ndarray) -> np.ndarray:
    parts = shapely.get_parts(np.atleast_1d(geometries))
    parts = shapely.get_parts(parts)
    return parts[(shapely.get_dimensions(parts) == 2) & (shapely.area(parts) > 0)]
