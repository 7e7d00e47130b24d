"""Metres on the ground for any CRS: areas, lengths and the size of a pixel, on the ellipsoid.

Degrees, Web Mercator and UTM give the same answers here. Every edge is taken as the geodesic
between its two ends, which for the short edges of an outline is the same as the drawn line.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer

from geosam.errors import InputError

_PROBE_PX = 0.5
"""Half the step, in pixels, of the finite differences that measure a pixel."""
_MOST_LON = 540.0
"""Degrees of longitude that data may reach: a turn and a half, from -180 to 180 a whole turn on."""
_SLACK_LAT = 1e-6
"""Degrees that the digits of a grid's edge may lie beyond a pole."""


def area_m2(geometries: Any, crs: Any) -> np.ndarray:
    """Measure the area on the ellipsoid, holes left out.

    Parameters
    ----------
    geometries : array-like of shapely geometries, shape (n,)
        Polygons and multipolygons count; points and lines are 0, as are None and empty ones.
    crs : anything pyproj understands
        CRS of the coordinates, x before y.

    Returns
    -------
    numpy.ndarray, shape (n,), float64
        Square metres.

    Raises
    ------
    InputError
        The CRS is missing or has no place on Earth, or coordinates lie outside its domain.

    Examples
    --------
    >>> import shapely
    >>> area_m2([shapely.box(0, 0, 0.001, 0.001)], "EPSG:4326").round(-1)
    array([12310.])
    """
    geometries = _array(geometries)
    polygons, owner = _parts_of_dimension(geometries, 2)
    rings, polygon_of_ring = shapely.get_rings(polygons, return_index=True)
    areas = _ring_areas(rings, _as_crs(crs))
    signs = np.where(_is_shell(polygon_of_ring), 1.0, -1.0)
    return np.bincount(owner[polygon_of_ring], signs * areas, minlength=len(geometries))


def length_m(geometries: Any, crs: Any) -> np.ndarray:
    """Measure the length on the ellipsoid: of lines, or of all rings of polygons.

    Parameters
    ----------
    geometries : array-like of shapely geometries, shape (n,)
        For a polygon the banks of its islands count as well; points are 0.
    crs : anything pyproj understands
        CRS of the coordinates, x before y.

    Returns
    -------
    numpy.ndarray, shape (n,), float64
        Metres.

    Raises
    ------
    InputError
        The CRS is missing or has no place on Earth, or coordinates lie outside its domain.

    Examples
    --------
    >>> import shapely
    >>> length_m([shapely.LineString([(0, 0), (0, 1)])], "EPSG:4326").round()
    array([110574.])
    """
    geometries = _array(geometries)
    polygons, polygon_owner = _parts_of_dimension(geometries, 2)
    lines, line_owner = _parts_of_dimension(geometries, 1)
    rings, polygon_of_ring = shapely.get_rings(polygons, return_index=True)
    lines = np.concatenate([lines, rings])
    owner = np.concatenate([line_owner, polygon_owner[polygon_of_ring]])
    return np.bincount(owner, _line_lengths(lines, _as_crs(crs)), minlength=len(geometries))


def perimeter_m(geometries: Any, crs: Any) -> np.ndarray:
    """Measure the length of all rings of polygons, islands included, in metres, shape (n,)."""
    return length_m(geometries, crs)


def resolution_m(geobox: GeoBox) -> tuple[float, float]:
    """Measure one pixel on the ground at the grid's centre.

    Parameters
    ----------
    geobox : GeoBox
        Any grid with a CRS; rotated and south-up ones as well.

    Returns
    -------
    (float, float)
        Metres from one row to the next and from one column to the next: (y, x).

    Raises
    ------
    InputError
        The CRS is missing or has no place on Earth.
    """
    rows, cols = _centre(geobox)
    (y, _), (x, _) = _pixel_steps(geobox, rows, cols)
    return float(y[0]), float(x[0])


def pixel_area_m2(
    geobox: GeoBox, rows: np.ndarray | None = None, cols: np.ndarray | None = None
) -> np.ndarray | float:
    """Measure the ground one pixel covers.

    Parameters
    ----------
    geobox : GeoBox
        Any grid with a CRS.
    rows, cols : numpy.ndarray of the same shape, optional
        Where to measure, in pixels; at the grid's centre when left out.

    Returns
    -------
    float, or numpy.ndarray of the shape of `rows`
        Square metres.

    Raises
    ------
    InputError
        The CRS is missing or has no place on Earth.
    """
    if rows is None or cols is None:
        return float(pixel_area_m2(geobox, *_centre(geobox))[0])  # type: ignore[index]
    (y, y_azimuth), (x, x_azimuth) = _pixel_steps(geobox, np.asarray(rows), np.asarray(cols))
    return y * x * np.abs(np.sin(np.radians(y_azimuth - x_azimuth)))


def metres_to_crs(
    distance_m: float, grid: Any, at: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Turn a distance on the ground into CRS units, separately along y and x.

    Parameters
    ----------
    distance_m : float
        Metres.
    grid : GeoBox, or anything pyproj understands as a CRS
        The CRS in question.
    at : (float, float), optional
        (x, y) in that CRS of the place where it shall hold. The centre of a GeoBox when left out.

    Returns
    -------
    (float, float)
        (y, x) in units of the CRS. In degrees x is the longer away from the equator.

    Raises
    ------
    InputError
        The CRS is missing or has no place on Earth, or `at` is needed and was left out.
    """
    if at is None and not isinstance(grid, GeoBox):
        raise InputError(
            f"A distance of {distance_m} m in units of {grid} depends on the place: give at=(x, y)."
        )
    at = _apply(grid.affine, grid.shape[1] / 2, grid.shape[0] / 2) if at is None else at
    crs = _as_crs(grid.crs if isinstance(grid, GeoBox) else grid)
    step = 1e-5 if crs.is_geographic else 1.0
    x = at[0] + step * np.array([-0.5, 0.5, 0.0, 0.0])
    y = at[1] + step * np.array([0.0, 0.0, -0.5, 0.5])
    lon, lat = lonlat(x, y, crs)
    _, _, metres = _geod(crs).inv(lon[[0, 2]], lat[[0, 2]], lon[[1, 3]], lat[[1, 3]])
    return float(distance_m * step / metres[1]), float(distance_m * step / metres[0])


def crs_of(geobox: GeoBox) -> CRS:
    """Return the CRS of a grid for pyproj and geopandas, or raise InputError without one."""
    return _as_crs(geobox.crs)


def moved(geometries: Any, affine: Affine) -> Any:
    """Return geometries with their coordinates put through an affine transform."""
    return shapely.transform(geometries, lambda xy: np.stack(_apply(affine, *xy.T), axis=1))


def _apply(affine: Affine, x: Any, y: Any) -> tuple[Any, Any]:
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def _pixel_steps(
    geobox: GeoBox, rows: np.ndarray, cols: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return (metres, azimuth in degrees) of one step down a column and one along a row."""
    crs = _as_crs(geobox.crs)
    down = _ground_step(geobox, crs, rows, cols, (_PROBE_PX, 0.0))
    along = _ground_step(geobox, crs, rows, cols, (0.0, _PROBE_PX))
    return down, along


def _ground_step(
    geobox: GeoBox, crs: CRS, rows: np.ndarray, cols: np.ndarray, half: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    lon0, lat0 = lonlat(*_apply(geobox.affine, cols - half[1], rows - half[0]), crs)
    lon1, lat1 = lonlat(*_apply(geobox.affine, cols + half[1], rows + half[0]), crs)
    azimuth, _, metres = _geod(crs).inv(lon0, lat0, lon1, lat1)
    return metres, azimuth


def _centre(geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    return np.array([geobox.shape[0] / 2]), np.array([geobox.shape[1] / 2])


def _array(geometries: Any) -> np.ndarray:
    return np.atleast_1d(np.asarray(geometries, dtype=object))


def _parts_of_dimension(geometries: np.ndarray, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Take multipart geometries apart; return the parts of one dimension and their owners."""
    parts, owner = shapely.get_parts(geometries, return_index=True)
    keep = shapely.get_dimensions(parts) == dimension
    return parts[keep], owner[keep]


def _is_shell(polygon_of_ring: np.ndarray) -> np.ndarray:
    """Mark the first ring of each polygon."""
    return np.diff(polygon_of_ring, prepend=-1) > 0


def _ring_areas(rings: np.ndarray, crs: CRS) -> np.ndarray:
    coords, index = shapely.get_coordinates(rings, return_index=True)
    lon, lat = lonlat(coords[:, 0], coords[:, 1], crs)
    bounds = np.searchsorted(index, np.arange(len(rings) + 1))
    geod = _geod(crs)
    areas = [
        geod.polygon_area_perimeter(lon[start:end], lat[start:end])[0]
        for start, end in pairwise(bounds)
    ]
    return np.abs(np.asarray(areas, dtype=float))


def _line_lengths(lines: np.ndarray, crs: CRS) -> np.ndarray:
    coords, index = shapely.get_coordinates(lines, return_index=True)
    lon, lat = lonlat(coords[:, 0], coords[:, 1], crs)
    _, _, metres = _geod(crs).inv(lon[:-1], lat[:-1], lon[1:], lat[1:])
    same = index[:-1] == index[1:]
    return np.bincount(index[:-1][same], np.asarray(metres)[same], minlength=len(lines))


def lonlat(x: Any, y: Any, crs: CRS) -> tuple[np.ndarray, np.ndarray]:
    """Transform to longitude and latitude in degrees on the CRS's own ellipsoid and datum.

    Raises
    ------
    InputError
        The CRS has no place on Earth, or coordinates lie outside its domain.
    """
    transformer, degrees = _geodetic(crs)
    lon, lat = transformer.transform(np.asarray(x, float), np.asarray(y, float))
    lon, lat = lon * degrees, lat * degrees
    # What is not finite is within nothing.
    if not ((np.abs(lon) <= _MOST_LON).all() and (np.abs(lat) <= 90 + _SLACK_LAT).all()):
        raise InputError(
            f"Coordinates lie outside the domain of {crs.name}, so they cannot be measured in "
            "metres. Check that the CRS is the right one."
        )
    return lon, np.clip(lat, -90, 90)


@lru_cache(maxsize=32)
def _geodetic(crs: CRS) -> tuple[Transformer, float]:
    """Return the way to longitude and latitude, and the degrees in one of their units."""
    geodetic = crs.geodetic_crs
    if geodetic is None or crs.get_geod() is None:
        raise InputError(
            f"The CRS {crs.name} has no place on Earth, and areas need one: set the CRS of "
            "the survey, such as EPSG:32633, in the file (gdal_edit -a_srs, or Assign Projection in "
            "QGIS), or give it with --crs where the command has that option."
        )
    # Gradians and radians exist as well: the old French grids count in the former.
    unit = geodetic.axis_info[0].unit_conversion_factor if geodetic.axis_info else np.radians(1)
    transformer = Transformer.from_crs(crs, geodetic, always_xy=True)
    return transformer, float(np.degrees(unit))


@lru_cache(maxsize=32)
def _geod(crs: CRS) -> Geod:
    geod = crs.get_geod()
    if geod is None:
        raise InputError(f"The CRS {crs.name} has no ellipsoid, and lengths in metres need one.")
    return geod


def _as_crs(crs: Any) -> CRS:
    if crs is None:
        raise InputError(
            "Areas and lengths in metres need a CRS, and there is none: give it with "
            "--crs EPSG:32633 or the like."
        )
    return CRS.from_user_input(getattr(crs, "proj", crs) if not isinstance(crs, CRS) else crs)
