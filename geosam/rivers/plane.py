"""A plane in metres around the data, so that degrees, Web Mercator and UTM are worked on alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from pyproj import CRS, Transformer
from pyproj.crs import ProjectedCRS
from pyproj.crs.coordinate_operation import TransverseMercatorConversion

from geosam.errors import InputError
from geosam.ground import lonlat
from geosam.longitudes import near


class Plane:
    """A transverse Mercator plane on the CRS's own datum, its origin in the middle of the data.

    It keeps angles, so that what is perpendicular in it is so on the ground; lengths in it are
    true in the middle and 0.1 % too long 300 km east and west of it. What is published is
    measured on the ellipsoid instead (:mod:`geosam.ground`).

    Parameters
    ----------
    crs : pyproj.CRS
        CRS of the data.
    bounds : array-like of 4 floats
        x_min, y_min, x_max, y_max of the data in that CRS.

    Raises
    ------
    InputError
        The CRS has no place on Earth, or the data lie outside its domain.
    """

    def __init__(self, crs: CRS, bounds: Any) -> None:
        if crs.geodetic_crs is None or crs.get_geod() is None:
            raise InputError(
                f"The CRS {crs.name} has no place on Earth, and lengths in metres need one: give "
                "the data the CRS they were surveyed in, such as EPSG:32633."
            )
        self.crs = crs
        self._centre = float(bounds[0] + bounds[2]) / 2
        lon, lat = lonlat(self._centre, (bounds[1] + bounds[3]) / 2, crs)
        conversion = TransverseMercatorConversion(
            latitude_natural_origin=float(lat), longitude_natural_origin=float(lon)
        )
        flat = ProjectedCRS(conversion, geodetic_crs=crs.geodetic_crs)
        self._forward = Transformer.from_crs(crs, flat, always_xy=True)
        self._back = Transformer.from_crs(flat, crs, always_xy=True)

    def to_plane(self, geometries: Any) -> Any:
        """Return geometries of the data's CRS with coordinates in metres."""
        return _moved(geometries, self._forward)

    def from_plane(self, geometries: Any) -> Any:
        """Return geometries of the plane with coordinates of the data's CRS, longitudes on its side
        of the antimeridian.
        """
        there = _moved(geometries, self._back)
        return shapely.transform(there, self._beside)

    def _beside(self, xy: np.ndarray) -> np.ndarray:
        return np.stack([near(xy[:, 0], self.crs, self._centre), xy[:, 1]], axis=1)


def _moved(geometries: Any, transformer: Transformer) -> Any:
    return shapely.transform(
        geometries, lambda xy: np.stack(transformer.transform(xy[:, 0], xy[:, 1]), axis=1)
    )
