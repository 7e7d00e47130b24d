"""Two answers, raster or vector, brought to one grid so that they can be compared."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio.features
import rasterio.warp
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geosam.errors import InputError
from geosam.ground import crs_of
from geosam.longitudes import brought_to, brought_to_grid
from geosam.scores import IGNORED
from geosam.strips import open_strips

VECTOR_SUFFIXES = {".gpkg", ".geojson", ".json", ".shp", ".fgb", ".gml", ".kml", ".sqlite"}
"""Files that are read as vectors."""
COMMON_GRID_PX = 4096
"""Longest side, in pixels, of the grid on which two vector layers are compared."""


@dataclass(frozen=True)
class FullMeaning:
    """Whether 255 is water in mask files that do not say; None where each file decides alone."""

    pred: bool | None = None
    """In predictions."""
    truth: bool | None = None
    """In truths."""


def on_one_grid(
    pred: Any, truth: Any, threshold: float, full: FullMeaning | None = None
) -> tuple[np.ndarray, np.ndarray, GeoBox]:
    """Return both as (rows, cols) uint8 of 0, 1 and 255 for ignored, and their grid."""
    pred, truth, full = _opened(pred), _opened(truth), full or FullMeaning()
    if not isinstance(truth, gpd.GeoDataFrame):
        true, geobox = _read(truth, threshold, full.truth)
        if isinstance(pred, gpd.GeoDataFrame):
            return _burn(pred, geobox, "prediction"), true, geobox
        return _warp(*_read(pred, threshold, full.pred), geobox), true, geobox
    if isinstance(pred, gpd.GeoDataFrame):
        geobox = _common_grid(pred, truth)
        return _burn(pred, geobox, "prediction"), _burn(truth, geobox, "truth"), geobox
    predicted, geobox = _read(pred, threshold, full.pred)
    return predicted, _burn(truth, geobox, "truth"), geobox


def _opened(source: Any) -> Any:
    """Read vector files, and leave the rest."""
    if isinstance(source, xr.DataArray):
        return source
    if not isinstance(source, gpd.GeoDataFrame):
        if Path(os.fspath(source)).suffix.lower() not in VECTOR_SUFFIXES:
            return source
        source = _read_polygons(source)
    if source.crs is None:
        raise InputError("The polygons have no CRS: set it in the file, or with set_crs.")
    return source


def _read_polygons(path: Any) -> gpd.GeoDataFrame:
    try:
        names = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        layer = "outlines" if "outlines" in names else (names or [None])[0]
        frame = pyogrio.read_dataframe(path, layer=layer)
    except pyogrio.errors.DataSourceError as error:
        raise InputError(f"{path} cannot be read as a vector file: {error}.") from error
    if not isinstance(frame, gpd.GeoDataFrame):
        raise InputError(f"{path} has no layer with polygons to compare.")
    return frame


def _read(source: Any, threshold: float, full_is_water: bool | None) -> tuple[np.ndarray, GeoBox]:
    raster = open_strips(source, threshold, full_is_water=full_is_water)
    out = np.empty(tuple(raster.geobox.shape), np.uint8)
    for strip in raster.strips():
        rows = out[strip.row : strip.row + len(strip.water)]
        rows[:] = np.where(strip.valid, strip.water, IGNORED)
    return out, raster.geobox


def _warp(values: np.ndarray, grid: GeoBox, target: GeoBox) -> np.ndarray:
    """Bring a mask to another grid by nearest neighbour; what it does not cover is ignored."""
    if grid.shape == target.shape and grid.crs == target.crs and _same(grid.affine, target.affine):
        return values
    out = np.full(tuple(target.shape), IGNORED, np.uint8)
    rasterio.warp.reproject(
        values,
        out,
        src_transform=grid.affine,
        src_crs=crs_of(grid),
        src_nodata=IGNORED,
        dst_transform=target.affine,
        dst_crs=crs_of(target),
        dst_nodata=IGNORED,
        resampling=rasterio.warp.Resampling.nearest,
    )
    return out


def _same(a: Affine, b: Affine) -> bool:
    """Tell whether two grids agree to a thousandth of a pixel."""
    pixel = abs(a.determinant) ** 0.5
    return bool(np.allclose(a[:6], b[:6], rtol=1e-9, atol=1e-3 * pixel))


def _burn(polygons: gpd.GeoDataFrame, geobox: GeoBox, name: str) -> np.ndarray:
    shapes = brought_to_grid(polygons.geometry, geobox)
    shapes = shapes[~(shapes.is_empty | shapes.isna())]
    if len(shapes) and not shapes.intersects(geobox.extent.geom).any():
        raise InputError(
            f"The polygons of the {name} lie outside the raster they are compared with: check "
            "that both show the same place and have the right CRS."
        )
    out = np.zeros(tuple(geobox.shape), np.uint8)
    if len(shapes):
        rasterio.features.rasterize(shapes, out=out, transform=geobox.affine)
    return out


def _common_grid(pred: gpd.GeoDataFrame, truth: gpd.GeoDataFrame) -> GeoBox:
    crs = truth.crs
    if crs.is_geographic:
        shapes = (truth if len(truth) else pred).geometry
        # Zones are looked up by longitudes from -180 to 180.
        crs = brought_to(shapes, shapes.crs, 0.0).estimate_utm_crs()
    boxes = [frame.to_crs(crs).total_bounds for frame in (pred, truth) if len(frame)]
    if not boxes:
        raise InputError("Neither the prediction nor the truth has a polygon: nothing to compare.")
    if len(boxes) == 2 and not _boxes_meet(*boxes):
        raise InputError("The prediction and the truth lie apart: check that both show one place.")
    left, bottom = np.min(boxes, axis=0)[:2]
    right, top = np.max(boxes, axis=0)[2:]
    pixel = max(right - left, top - bottom) / COMMON_GRID_PX
    # One pixel of land around, so that banks at the edge are banks.
    shape = (int(np.ceil((top - bottom) / pixel)) + 2, int(np.ceil((right - left) / pixel)) + 2)
    return GeoBox(shape, Affine(pixel, 0, left - pixel, 0, -pixel, top + pixel), crs)


def _boxes_meet(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a[:2] <= b[2:]).all() and (b[:2] <= a[2:]).all())
