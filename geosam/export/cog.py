"""Rasters to cloud optimised GeoTIFFs, streamed block by block."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dask.array as da
import numpy as np
import rasterio
import xarray as xr
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window as RasterioWindow

from geosam.errors import DiskFullError, OptionError, OutputError
from geosam.grids import geobox_of
from geosam.workspace import check_writable, disk_is_full

NODATA = 255
"""Of masks and probabilities."""
BAND_BLOCKS = 256
"""Blocks that are laid out at once."""
STEPS = 254
"""A probability is stored as a whole number of these."""
BLOCK_PX = 512
"""Side of the stored blocks."""
CACHE_BYTES = 16 << 20
"""GDAL's block cache while files are written: every block is written, and read again, once."""
OVERVIEWS = MappingProxyType(
    {
        "SPARSE_OK_OVERVIEW": "YES",
        "GDAL_TIFF_OVR_BLOCKSIZE": str(BLOCK_PX),
        "COMPRESS_OVERVIEW": "DEFLATE",
        "BIGTIFF_OVERVIEW": "IF_SAFER",
    }
)
"""How GDAL makes overviews: blocks of the file's own side, those without data left out."""
WRITE_ERRORS = (OSError, RasterioError, CPLE_BaseError, SystemError)
"""What a failed write raises: rasterio passes some of GDAL's errors on as they are."""


@dataclass(frozen=True)
class Format:
    """How values are stored."""

    dtype: str
    """Of the file."""
    nodata: float
    """Value where there is none."""
    resampling: str
    """Of the overviews."""
    scale: float | None = None
    """GDAL scale of the stored values."""


FORMATS = {
    "mask": Format("uint8", NODATA, "NEAREST"),
    "probability": Format("uint8", NODATA, "AVERAGE", 1 / STEPS),
    "labels": Format("uint32", 0, "NEAREST"),
    None: Format("float32", float("nan"), "AVERAGE"),
}


def write_raster(
    array: xr.DataArray,
    path: str | Path,
    *,
    kind: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a raster as a cloud optimised GeoTIFF, never holding more than a few blocks of it.

    Parameters
    ----------
    array
        (y, x) or (band, y, x) with a CRS, lazy or not.
    path
        The file. It appears when it is complete.
    kind
        ``mask``: 0 and 1 as uint8, 255 nodata. ``probability``: 0 to 1 as uint8, value / 254 with
        the GDAL scale set, 255 nodata; uint8 is taken for such values.
        ``labels``: numbers of objects as uint32, 0 nodata. None: float32, NaN nodata.
    overwrite
        Replace the file if it is there.

    Raises
    ------
    OutputError
        If the file is there already, its folder is missing or not writable, or the disk is full.
    OptionError
        If the kind is unknown.
    """
    if kind not in FORMATS:
        names = ", ".join(str(name) for name in FORMATS if name)
        raise OptionError(f"Raster kind {kind!r} is unknown. Kinds: {names}, or none.")
    path = Path(path)
    check_writable(path, overwrite)
    plain = path.with_name(f".{path.name}.plain.tif")
    whole = path.with_name(f".{path.name}.cog.tif")
    try:
        _stream(_stored(array, kind), plain, FORMATS[kind])
        _optimise(plain, whole, FORMATS[kind])
        os.replace(whole, path)
    except WRITE_ERRORS as error:
        if disk_is_full(error, path.parent):
            raise DiskFullError(
                f"The disk is full while writing {path}. Free some space, or write elsewhere."
            ) from error
        raise OutputError(f"{path} could not be written ({error}). Write it elsewhere.") from error
    finally:
        for left in (plain, whole):
            left.unlink(missing_ok=True)


def _stored(array: xr.DataArray, kind: str | None) -> xr.DataArray:
    """Return the values as they are stored, (band, y, x) and lazy."""
    data = da.asarray(array.data)
    data = data[None] if data.ndim == 2 else data
    encode = _ENCODERS[kind]
    stored = data.rechunk({0: -1}).map_blocks(encode, dtype=FORMATS[kind].dtype)
    y, x = array.dims[-2:]
    coords = {name: c for name, c in array.coords.items() if set(c.dims) <= {y, x}}
    return xr.DataArray(stored, dims=("layer", y, x), coords=coords)


def as_stored(array: xr.DataArray, kind: str) -> xr.DataArray:
    """Return a raster (y, x) with the values of a file of its kind, lazily."""
    return _stored(array, kind).isel(layer=0, drop=True)


def _encode_mask(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return np.where(np.isnan(values), NODATA, values > 0).astype(np.uint8)
    return values.astype(np.uint8)


def _encode_probability(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    with np.errstate(invalid="ignore"):
        return np.where(np.isnan(values), NODATA, np.round(values * STEPS)).astype(np.uint8)


def _encode_plain(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)


def _encode_labels(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint32)


_ENCODERS = {
    "mask": _encode_mask,
    "probability": _encode_probability,
    "labels": _encode_labels,
    None: _encode_plain,
}


class _Sink:
    """Writes Dask's blocks into an open file, one at a time, but for those without data."""

    def __init__(self, target: rasterio.io.DatasetWriter) -> None:
        self._target, self._lock = target, threading.Lock()

    def __setitem__(self, key: tuple[slice, ...], block: np.ndarray) -> None:
        layers, rows, cols = key
        window = RasterioWindow.from_slices(rows, cols)
        indexes = list(range(layers.start + 1, layers.stop + 1))
        # What was never written is nodata, and takes neither time nor room.
        if (block == self._target.nodata).all():
            return
        with self._lock:
            self._target.write(block, indexes=indexes, window=window)


def _stream(stored: xr.DataArray, path: Path, form: Format) -> None:
    geobox = geobox_of(stored)
    profile = {
        "driver": "GTiff", "dtype": form.dtype, "count": stored.shape[0], "nodata": form.nodata,
        "height": geobox.shape[0], "width": geobox.shape[1], "crs": str(geobox.crs),
        "transform": geobox.affine, "tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX,
        "compress": "deflate", "zlevel": 1, "bigtiff": "if_safer", "sparse_ok": True,
    }  # fmt: skip
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), rasterio.open(path, "w", **profile) as target:
        if form.scale is not None:
            target.scales = [form.scale] * stored.shape[0]
        target.update_tags(TIFFTAG_SOFTWARE="geosam")
        sink: Any = _Sink(target)
        for rows in _bands(stored.data):
            # The open file is in this process, whatever other scheduler may be the default.
            part, place = stored.data[:, rows], (slice(None), rows, slice(None))
            da.store(part, sink, lock=False, regions=place, scheduler="threads")


def _bands(data: da.Array) -> list[slice]:
    """Part the rows of (layer, y, x) where blocks meet, so that none has many blocks: what Dask keeps of
    each would grow with the raster.
    """
    heights, across = data.chunks[1], len(data.chunks[2])
    count = max(1, BAND_BLOCKS // across)
    ends = [0, *np.cumsum(heights)[count - 1 :: count].tolist(), sum(heights)]
    return [slice(start, end) for start, end in pairwise(ends) if start < end]


def _optimise(plain: Path, path: Path, form: Format) -> None:
    # Overviews of its own the COG driver makes with twice the memory, and reads what is not stored.
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, **OVERVIEWS):
        with rasterio.open(plain, "r+") as target:
            target.build_overviews(_levels(target.shape), Resampling[form.resampling.lower()])
        copy_raster(
            plain, path, driver="COG", compress="DEFLATE", blocksize=BLOCK_PX, bigtiff="IF_SAFER",
            overview_resampling=form.resampling, num_threads=2, sparse_ok=True,
        )  # fmt: skip


def _levels(shape: tuple[int, int]) -> list[int]:
    """Return the factors of overviews down to a single block, as the COG driver would choose them."""
    levels: list[int] = []
    while max(shape) > BLOCK_PX << len(levels):
        levels.append(2 << len(levels))
    return levels
