"""Longitudes on the scene's side of the antimeridian: 180.04 and -179.96 are one place."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS

from geosam.ground import crs_of


def near(x: Any, crs: CRS, centre: float) -> Any:
    """Return x moved by whole turns to within half a turn of a centre.

    Parameters
    ----------
    x : numpy.ndarray
        Coordinates along x, in units of the CRS.
    crs : pyproj.CRS
        Their CRS; only longitudes are moved.
    centre : float
        A place along x.
    """
    turn = _turn(crs)
    return x if turn is None else x + _whole_turns(centre - np.asarray(x, float), turn)


def brought_to(shapes: gpd.GeoSeries, crs: Any, centre: float) -> gpd.GeoSeries:
    """Return shapes in another CRS, each moved by whole turns to where it is nearest to a centre.

    PROJ gives longitudes from -180 to 180, whatever those of a scene are. A shape that is cut
    through by this lies within half a turn of its first vertex and is joined again.

    Parameters
    ----------
    shapes : geopandas.GeoSeries
        In any CRS, or in `crs` already.
    crs : anything pyproj understands
        The CRS to bring them to.
    centre : float
        A place along x in that CRS.
    """
    there = shapes.to_crs(crs)
    turn = _turn(there.crs)
    if turn is None or len(there) == 0:
        return there
    values = _joined(np.array(there.values, dtype=object), turn)
    turns = _whole_turns(centre - shapely.bounds(values)[:, ::2].mean(axis=1), turn)
    if turns.any():
        owner = shapely.get_coordinates(values, return_index=True)[1]
        values = _shifted(values, turns[owner])
    return gpd.GeoSeries(values, index=there.index, crs=there.crs, name=there.name)


def brought_to_grid(shapes: gpd.GeoSeries, geobox: GeoBox) -> gpd.GeoSeries:
    """Return shapes in the CRS of a grid, on its side of the antimeridian."""
    box = geobox.boundingbox
    return brought_to(shapes, crs_of(geobox), (box.left + box.right) / 2)


def _turn(crs: CRS) -> float | None:
    """Return a whole turn in units of the CRS, or None where x is no longitude."""
    if not crs.is_geographic:
        return None
    unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else np.radians(1)
    return float(2 * np.pi / unit)


def _whole_turns(distance: np.ndarray, turn: float) -> np.ndarray:
    """Return the whole turns next to a distance; 0 where it is not finite."""
    known = np.where(np.isfinite(distance), distance, 0.0)
    return turn * np.round(known / turn)


def _joined(shapes: np.ndarray, turn: float) -> np.ndarray:
    """Join shapes that reach around the globe the long way, and need not."""
    x_min, _, x_max, _ = shapely.bounds(shapes).T
    for k in np.flatnonzero(x_max - x_min > turn / 2):
        x = shapely.get_coordinates(shapes[k])[:, 0]
        there = _shifted(shapes[k : k + 1], _whole_turns(x[0] - x, turn))
        if 0 < np.ptp(shapely.bounds(there)[0, ::2]) < turn / 2:
            shapes[k] = there[0]
    return shapes


def _shifted(shapes: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Add to the x of every vertex."""
    xy = shapely.get_coordinates(shapes)
    xy[:, 0] += shift
    return shapely.set_coordinates(shapes.copy(), xy)
