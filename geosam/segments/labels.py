"""Segments -> a raster of their numbers, block by block."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import rasterio.features
import shapely
import xarray as xr

from geosam.grids import geobox_of
from geosam.tasks import task
from geosam.windows import blocks_of

NO_SEGMENT = 0
"""Where there is no segment, or no data."""


def label_raster(segments: gpd.GeoDataFrame, scene: xr.DataArray) -> xr.DataArray:
    """Write the number of the smallest segment over each pixel centre of a scene, lazily.

    Parameters
    ----------
    segments
        The layer ``segments``, in the CRS of the scene.
    scene
        (band, y, x), NaN where nodata.

    Returns
    -------
    DataArray (y, x) uint32 on the scene's grid
        `segment_id`, 0 where there is no segment or no data.
    """
    import dask.array as da

    blocks, geobox = blocks_of(scene), geobox_of(scene)
    # Large ones first, so that what lies inside them is drawn over them.
    order = np.argsort(-segments.area_m2.to_numpy(), kind="stable")
    shapes = segments.geometry.to_numpy()[order]
    numbers = segments.segment_id.to_numpy(np.uint32)[order]
    tree = shapely.STRtree(shapes)
    rows: list[list[Any]] = []
    for i in range(blocks.tasks.shape[0]):
        rows.append([])
        for j in range(blocks.tasks.shape[1]):
            window = blocks.window(i, j)
            part = geobox[window.slices()]
            inside = np.sort(tree.query(part.extent.geom))
            burn = task(_burn, affine=part.affine, shapes=shapes[inside], numbers=numbers[inside])
            made = da.from_delayed(
                burn(blocks.tasks[i, j]), (window.height, window.width), np.uint32
            )
            rows[-1].append(made)
    coords = {k: v for k, v in scene.coords.items() if k != "band" and "band" not in v.dims}
    return xr.DataArray(da.block(rows), dims=scene.dims[1:], coords=coords, name="segment_id")


def _burn(pixels: np.ndarray, affine: Any, shapes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    out = np.zeros(pixels.shape[-2:], np.uint32)
    if len(shapes):
        pairs = zip(shapes, numbers.tolist(), strict=True)
        rasterio.features.rasterize(pairs, out=out, transform=affine)
    out[np.isnan(pixels).all(axis=0)] = NO_SEGMENT
    return out
