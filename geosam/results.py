"""Rasters that geosam wrote, read back lazily."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import dask.array as da
import numpy as np
import rasterio
import xarray as xr
from dask.array.core import normalize_chunks
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from rasterio.windows import Window as RasterioWindow


def open_result(path: str | Path, chunks: int = 1024) -> xr.DataArray:
    """Open a raster of one band that :func:`geosam.write_raster` wrote.

    Parameters
    ----------
    path
        A raster of one band.
    chunks
        Rows and columns of a Dask chunk.

    Returns
    -------
    DataArray (y, x)
        A mask as it is, uint8 with 255 where nodata; a probability as float32 in 0 to 1, and anything
        else as float32, NaN where nodata.
    """
    with rasterio.open(path) as source:
        geobox = GeoBox(source.shape, source.transform, source.crs)
        scaled = source.scales[0] != 1.0
        dtype = np.dtype("float32" if scaled else source.dtypes[0])
    blocks = normalize_chunks((chunks, chunks), shape=geobox.shape, dtype=dtype)
    read = partial(_read_block, path=str(path), scaled=scaled)
    data = da.map_blocks(read, chunks=blocks, dtype=dtype, meta=np.empty((0, 0), dtype))
    return xr.DataArray(data, coords=xr_coords(geobox, always_yx=True), dims=("y", "x"))


def _read_block(path: str, scaled: bool, block_info: dict | None = None) -> np.ndarray:
    assert block_info is not None
    (row, row_end), (col, col_end) = block_info[None]["array-location"]
    with rasterio.open(path) as source:
        values = source.read(1, window=RasterioWindow(col, row, col_end - col, row_end - row))
        if not scaled:
            return values
        missing = values == source.nodata
        real = values.astype(np.float32) * np.float32(source.scales[0])
    return np.where(missing, np.float32(np.nan), real)
