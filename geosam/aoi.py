"""An area of interest: the part of the scene around it, and what lies outside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.features import geometry_mask
from shapely import Polygon

from geosam.errors import InputError
from geosam.grids import geobox_of
from geosam.longitudes import brought_to_grid
from geosam.prompts.scene_prompts import to_pixels

MARGIN_TILES = 4
"""Tiles around the area that are looked at too: a tile's answer depends on its neighbours' prompts,
and these on what lies around them."""
TILE_PX = 512
"""Side of the largest tile that is looked at where the options do not say."""


def read_aoi(path: str | Path, geobox: GeoBox) -> gpd.GeoSeries:
    """Read polygons in any CRS and return them in the grid's.

    Raises
    ------
    InputError
        If the file cannot be read, has no CRS or no polygons, or they lie outside the scene.
    """
    try:
        table = gpd.read_file(path, engine="pyogrio")
    except (pyogrio.errors.DataSourceError, OSError) as error:
        raise InputError(
            f"--aoi {path} cannot be read as vectors ({error}). Give a GeoPackage, GeoJSON or shapefile."
        ) from error
    if not isinstance(table, gpd.GeoDataFrame):
        raise InputError(
            f"--aoi {path} has no geometry. Give a GeoPackage, GeoJSON or shapefile of polygons."
        )
    if table.crs is None:
        raise InputError(f"--aoi {path} has no CRS. Save it again with the CRS of its coordinates.")
    areas = table.geometry[table.geom_type.isin(["Polygon", "MultiPolygon"])]
    if areas.empty:
        raise InputError(f"--aoi {path} has no polygons. Draw the area as a polygon.")
    areas = brought_to_grid(areas.explode(ignore_index=True), geobox)
    if not areas.intersects(geobox.extent.geom).any():
        raise InputError(
            f"--aoi {path} lies outside the scene. Check its CRS, or draw it over the scene."
        )
    return areas


def part_around(aoi: gpd.GeoSeries, geobox: GeoBox, coarser: float, tile_px: int | None) -> GeoBox:
    """Return the part of a grid around an area, wide enough that its edge does not change the
    answer inside.

    Parameters
    ----------
    aoi
        Polygons in the grid's CRS.
    geobox
        The scene's grid.
    coarser
        Pixels of the model's grid in pixels of the scene's.
    tile_px
        Side of a tile on the model's grid, the largest of any step without it.
    """
    margin = int(MARGIN_TILES * max(tile_px or 0, TILE_PX) * coarser) + 1
    corners = to_pixels(aoi.get_coordinates().to_numpy(), geobox)
    low = np.floor(corners.min(axis=0)).astype(int) - margin
    high = np.ceil(corners.max(axis=0)).astype(int) + margin
    height, width = geobox.shape
    rows = slice(max(0, low[1]), min(height, high[1]))
    cols = slice(max(0, low[0]), min(width, high[0]))
    return geobox[rows, cols]


def blank_outside(values: xr.DataArray, aoi: gpd.GeoSeries | None) -> xr.DataArray:
    """Set what lies outside the area to NaN, lazily; pixel centres decide."""
    return values if aoi is None else _blank(values, list(aoi), inside=False)


def blank_inside(values: xr.DataArray, areas: Sequence[Polygon]) -> xr.DataArray:
    """Set what lies inside some areas to NaN, lazily; pixel centres decide."""
    return _blank(values, areas, inside=True) if len(areas) else values


def _blank(values: xr.DataArray, shapes: Sequence[Polygon], inside: bool) -> xr.DataArray:
    geobox = geobox_of(values)

    def cut(block: np.ndarray, block_info: dict | None = None) -> np.ndarray:
        if not block_info:
            return block
        (row, _), (col, _) = block_info[0]["array-location"]
        part = geobox[row : row + block.shape[0], col : col + block.shape[1]]
        blank = geometry_mask(shapes, block.shape, part.affine, invert=inside)
        return np.where(blank, np.float32(np.nan), block)

    return values.copy(data=values.data.map_blocks(cut, dtype=values.dtype))
