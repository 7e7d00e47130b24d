"""The grid that a raster is labelled with."""

from __future__ import annotations

import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import ODCExtensionDa


def geobox_of(raster: xr.DataArray) -> GeoBox:
    """Return the grid of a raster that has one.

    ``raster.odc.geobox`` says the same, but xarray keeps the accessor in the raster and the accessor keeps
    the raster: a circle, in which the pixels of a block outlive its work until Python happens to look
    for circles, many blocks later.
    """
    geobox = geobox_if_any(raster)
    assert geobox is not None, "rasters of a scene have a grid"
    return geobox


def geobox_if_any(raster: xr.DataArray) -> GeoBox | None:
    """Return the grid of a raster that may have none; one of control points is none."""
    geobox = ODCExtensionDa(raster).geobox
    return geobox if isinstance(geobox, GeoBox) else None
