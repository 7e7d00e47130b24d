"""Masks and probability rasters read strip by strip, whatever they come as.

A strip is as many whole rows as fit a few million pixels, so that a scene of any height is turned
into vectors in flat memory. A Dask array is computed once, one row of chunks after the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dask
import geopandas as gpd
import numpy as np
import rasterio
import rasterio.features
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geosam.errors import InputError
from geosam.grids import geobox_if_any
from geosam.ground import crs_of
from geosam.reader import open_reader

STRIP_PX = 1_000_000
"""Pixels of a strip: about 25 MB with its labels and probabilities."""
CACHE_BYTES = 4 << 20, 64 << 20
"""Least and most of GDAL's block cache while strips are read."""
MASK_NODATA = 255
"""Nodata of a mask as geosam writes it."""


@dataclass(frozen=True)
class Strip:
    """Whole rows of a scene."""

    row: int
    """First row."""
    water: np.ndarray
    """(rows, cols) bool: inside the mask."""
    valid: np.ndarray
    """(rows, cols) bool: not nodata."""
    probability: np.ndarray | None
    """(rows, cols) float32, NaN where nodata; None for a mask."""
    predicted_iou: np.ndarray | None
    """(rows, cols) float32, NaN where unknown; None where nothing is known."""


@dataclass(frozen=True)
class StripSource:
    """A raster that gives its strips in order, and its grid."""

    geobox: GeoBox
    """The grid."""
    strips: Callable[[], Iterator[Strip]]
    """Starts reading from the first row."""


def open_strips(
    source: Any,
    threshold: float = 0.5,
    predicted_iou: Any = None,
    full_is_water: bool | None = None,
) -> StripSource:
    """Open a mask or probability raster to be read strip by strip.

    Parameters
    ----------
    source : path or xarray.DataArray of shape (y, x)
        Float rasters, and integer ones with a scale, hold the probability of water in 0..1; other
        integer rasters and bool ones are masks of 0 and 1. Nodata is NaN, the declared nodata
        value, or 255 in a mask; what is 0 in a mask is land, also where 0 is its nodata value. In a
        file that holds only 0 and 255, and has no nodata value but 0, 255 is water.
    threshold : float
        Probability above which a pixel is water.
    predicted_iou : path, DataArray of the same grid, or GeoDataFrame, optional
        Predicted IoU of every pixel, or tiles with a column `predicted_iou`.
    full_is_water : bool, optional
        Whether 255 is water in a mask file without a nodata value but 0; where not given, it is if
        the file holds only 0 and 255.

    Returns
    -------
    StripSource

    Raises
    ------
    InputError
        The raster cannot be opened, has several bands, no CRS, or values that are neither a mask
        nor a probability; grids differ.
    """
    if isinstance(source, xr.DataArray):
        return _open_array(source, threshold, predicted_iou)
    return _open_file(source, threshold, predicted_iou, full_is_water)


def grid_of_raster(path: str | os.PathLike) -> GeoBox:
    """Return the grid of a raster file of any bands, or raise InputError where it has no CRS."""
    try:
        with open_reader(path) as file:
            shape, affine, crs = file.shape, file.transform, file.crs
    except rasterio.errors.RasterioIOError as error:
        raise InputError(f"{path} cannot be read as a raster: {error}.") from error
    if crs is None:
        raise InputError(f"{path} has no CRS, so its pixels have no place. Set it, and try again.")
    return GeoBox(shape, affine, str(crs))


def grid_of(array: xr.DataArray) -> GeoBox:
    """Return the grid of a DataArray, or raise InputError where it has none or no CRS."""
    geobox = geobox_if_any(array)
    if not isinstance(geobox, GeoBox) or geobox.crs is None:
        raise InputError(
            f"The array {array.name or ''} has no georeference, and outlines need one: give it a "
            "CRS with array.odc.assign_crs('EPSG:32633') or the like."
        )
    return geobox


def open_raster(path: str | os.PathLike) -> rasterio.DatasetReader:
    """Open a one-band georeferenced file with rasterio, with an InputError where that fails."""
    try:
        file = open_reader(path)
    except rasterio.errors.RasterioIOError as error:
        raise InputError(f"{path} cannot be opened as a raster: {error}.") from error
    bands = sum(colour.name != "alpha" for colour in file.colorinterp)
    if bands != 1:
        raise InputError(f"{path} has {bands} bands, and a mask or a probability has one.")
    if file.transform.is_identity:
        raise InputError(
            f"{path} is not georeferenced, and outlines need a place on Earth: bring it onto a map "
            "grid first, for example with gdalwarp."
        )
    if file.crs is None:
        raise InputError(f"{path} has no CRS, and outlines need one: set it with gdal_edit -a_srs.")
    return file


def file_grid(file: rasterio.DatasetReader) -> GeoBox:
    """Return the grid of an open file."""
    return GeoBox(file.shape, file.transform, str(file.crs.to_wkt()))


def read_file(file: rasterio.DatasetReader, window: Window | None = None) -> np.ndarray:
    """Read a mask as float32 of 0 and 1, or a probability as float32, NaN where nodata."""
    values = _read(file, window, masked=True)
    if np.ma.getmaskarray(values).all() and file.nodata != 0:
        return np.full(values.shape, np.nan, np.float32)
    if file.dtypes[0].startswith("float") or file.scales[0] != 1 or file.offsets[0] != 0:
        return _as_probability(values, file.scales[0], file.offsets[0], file.name)
    # A mask whose nodata value is 0 means land by it: there would be none otherwise.
    missing = np.ma.getmaskarray(values) & (file.nodata != 0)
    data = np.ma.getdata(values)
    return _as_mask(data, missing | (data == MASK_NODATA), file.name)


def read_array(values: np.ndarray, attributes: dict[str, Any], name: str) -> np.ndarray:
    """Turn the values of a DataArray into float32 as `read_file` does."""
    if values.dtype == bool:
        return values.astype(np.float32)
    nodata = attributes.get("_FillValue", attributes.get("nodata"))
    scale, offset = attributes.get("scale_factor", 1.0), attributes.get("add_offset", 0.0)
    missing = np.zeros(values.shape, bool) if nodata is None else values == nodata
    if values.dtype.kind == "f" or scale != 1 or offset != 0:
        return _as_probability(np.ma.array(values, mask=missing), scale, offset, name)
    missing &= nodata != 0
    return _as_mask(values, missing | (values == MASK_NODATA), name)


def is_mask(dtype: Any, scale: float, offset: float) -> bool:
    """Tell a mask of 0 and 1 from a probability."""
    return np.dtype(dtype).kind != "f" and scale == 1 and offset == 0


def array_attributes(array: xr.DataArray) -> dict[str, Any]:
    """Return what an array says about its values, however it was read."""
    return {**array.encoding, **array.attrs}


def _open_file(
    path: Any, threshold: float, predicted_iou: Any, full_is_water: bool | None
) -> StripSource:
    with open_raster(path) as file:
        geobox, height = file_grid(file), file.block_shapes[0][0]
        mask = is_mask(file.dtypes[0], file.scales[0], file.offsets[0])
        full = means_water(file, full_is_water)
    rows = _strip_rows(geobox, height)
    scores = _open_scores(predicted_iou, geobox)

    def strips() -> Iterator[Strip]:
        with open_raster(path) as file:
            for row, count in rows:
                window = Window(0, row, geobox.shape[1], count)
                values = read_full(file, window) if full else read_file(file, window)
                yield _strip(row, values, None if mask else threshold, scores.read(row, count))

    return StripSource(geobox, strips)


def _open_array(array: xr.DataArray, threshold: float, predicted_iou: Any) -> StripSource:
    if array.ndim != 2:
        raise InputError(
            f"The array has the axes {array.dims}, and a mask or a probability has (y, x). "
            "Take one band of it."
        )
    geobox, attributes = grid_of(array), array_attributes(array)
    mask = is_mask(
        array.dtype, attributes.get("scale_factor", 1.0), attributes.get("add_offset", 0.0)
    )
    scores = _open_scores(predicted_iou, geobox)

    def strips() -> Iterator[Strip]:
        for first, block, score in _computed(array, scores):
            for row, count in _split(len(block), geobox.shape[1], 1):
                part = slice(row, row + count)
                values = read_array(block[part], attributes, str(array.name or "The array"))
                known = scores.read(first + row, count) if score is None else score[part]
                yield _strip(first + row, values, None if mask else threshold, known)

    return StripSource(geobox, strips)


def _computed(
    array: xr.DataArray, scores: _Scores
) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """Compute one row of chunks after the other, its scores in the same pass over the graph."""
    chunks = array.chunks[0] if array.chunks else (array.shape[0],)
    row = 0
    for count in chunks:
        rows = slice(row, row + count)
        lazy = scores.array.data[rows] if scores.array is not None else None
        block, score = dask.compute(array.data[rows], lazy)
        yield row, np.asarray(block), None if score is None else np.asarray(score, np.float32)
        row += count


def _open_scores(source: Any, geobox: GeoBox) -> _Scores:
    """Check predicted IoU, and bring tiles into the CRS of the grid once for all strips."""
    if isinstance(source, gpd.GeoDataFrame):
        if "predicted_iou" not in source or source.crs is None:
            raise InputError(
                "Tiles that give the predicted IoU need a CRS and a column `predicted_iou`, "
                f"and these have the columns {list(source.columns)}."
            )
        return _Scores(source.to_crs(crs_of(geobox)), geobox)
    scores = _Scores(source, geobox)
    if source is not None and scores.shape != tuple(geobox.shape):
        raise InputError(
            f"The raster of predicted IoU has {scores.shape} pixels and the probability "
            f"{tuple(geobox.shape)}: they need the same grid."
        )
    return scores


@dataclass(frozen=True)
class _Scores:
    """Predicted IoU, from whatever it comes as."""

    source: Any
    geobox: GeoBox

    @property
    def array(self) -> xr.DataArray | None:
        """The source where it is an array."""
        return self.source if isinstance(self.source, xr.DataArray) else None

    def read(self, row: int, count: int) -> np.ndarray | None:
        """Read some rows; None where nothing is known."""
        if self.source is None:
            return None
        if self.array is not None:
            return np.asarray(self.array.data[row : row + count], np.float32)
        if isinstance(self.source, gpd.GeoDataFrame):
            return _burn(self.source, self.geobox[row : row + count, :])
        with open_raster(self.source) as file:
            return read_file(file, Window(0, row, self.geobox.shape[1], count))

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns of a raster."""
        if self.array is not None:
            return self.array.shape
        with open_raster(self.source) as file:
            return file.shape


def _burn(tiles: gpd.GeoDataFrame, geobox: GeoBox) -> np.ndarray:
    """Rasterise tiles; where they overlap the last one counts."""
    near = np.sort(tiles.sindex.query(geobox.extent.geom, predicate="intersects"))
    tiles = tiles.iloc[near]
    shapes = list(zip(tiles.geometry, tiles.predicted_iou.astype(float), strict=True))
    out = np.full(tuple(geobox.shape), np.nan, np.float32)
    if shapes:
        rasterio.features.rasterize(shapes, out=out, transform=geobox.affine)
    return out


def _strip(
    row: int, values: np.ndarray, threshold: float | None, scores: np.ndarray | None
) -> Strip:
    water = values > (0.5 if threshold is None else threshold)
    return Strip(row, water, np.isfinite(values), None if threshold is None else values, scores)


def _strip_rows(geobox: GeoBox, block_rows: int) -> list[tuple[int, int]]:
    height, width = geobox.shape
    return _split(height, width, block_rows)


def _split(height: int, width: int, block_rows: int) -> list[tuple[int, int]]:
    """Cut rows into strips of whole blocks where these are small enough; (row, count) each."""
    rows = max(1, STRIP_PX // width)
    if rows > block_rows:
        rows -= rows % block_rows
    return [(row, min(rows, height - row)) for row in range(0, height, rows)]


def _as_probability(values: Any, scale: float, offset: float, name: str) -> np.ndarray:
    missing = np.ma.getmaskarray(values)
    out = np.ma.getdata(values).astype(np.float32)
    if scale != 1 or offset != 0:
        out = out * np.float32(scale) + np.float32(offset)
    out[missing] = np.nan
    worst = np.nanmax(np.abs(out - 0.5), initial=0.0)
    if worst > 0.5 + 1e-4:
        raise InputError(
            f"{name} holds a value {worst - 0.5:.4g} outside of 0 to 1, and a probability lies "
            "between them: scale it first, or set its scale and nodata tags."
        )
    return out


def _as_mask(values: np.ndarray, missing: np.ndarray, name: str) -> np.ndarray:
    odd = (values != 0) & (values != 1) & ~missing
    if odd.any():
        raise InputError(
            f"{name} holds the value {values[odd][0]}, and a mask has 0, 1 and nodata only. "
            "A probability in integers needs its scale tag; a map of classes is compared with "
            "its water class first."
        )
    out = (values == 1).astype(np.float32)
    out[missing] = np.nan
    return out


def means_water(file: rasterio.DatasetReader, full_is_water: bool | None = None) -> bool:
    """Tell whether 255 is water in a file: in a mask that holds nothing else but 0, or as it is said.

    A nodata value of 0 says nothing of 255; any other one says what nodata is.
    """
    mask = is_mask(file.dtypes[0], file.scales[0], file.offsets[0])
    if not mask or file.nodata not in (None, 0):
        return False
    return not holds_one(file) if full_is_water is None else full_is_water


def read_full(file: rasterio.DatasetReader, window: Window | None = None) -> np.ndarray:
    """Read a mask in which 255 is water."""
    values = _read(file, window, masked=True)
    data, missing = np.ma.getdata(values), np.ma.getmaskarray(values) & (file.nodata != 0)
    full = data == MASK_NODATA
    return _as_mask(full, missing | ((data != 0) & ~full), file.name)


def holds_one(file: rasterio.DatasetReader) -> bool:
    """Tell whether any pixel is 1, or neither 0 nor 255, so that 255 must mean nodata."""
    rows = _split(file.height, file.width, file.block_shapes[0][0])
    windows = (Window(0, row, file.width, count) for row, count in rows)
    return any(((v := _read(file, w)) == 1).any() or _odd(v) for w in windows)


def _read(file: rasterio.DatasetReader, window: Window | None, **how: Any) -> Any:
    with rasterio.Env(GDAL_CACHEMAX=cache_bytes(file)):
        return file.read(1, window=window, **how)


def cache_bytes(file: rasterio.DatasetReader) -> int:
    """Return how much GDAL need keep where whole rows are read: the blocks side by side and some more, as
    several strips fall into them. By itself it keeps a share of all memory.
    """
    height, width = file.block_shapes[0]
    row = -(-file.width // width) * width * height * np.dtype(file.dtypes[0]).itemsize
    least, most = CACHE_BYTES
    return int(min(most, max(least, 1.1 * row)))


def _odd(values: np.ndarray) -> bool:
    """Tell whether values are anything but 0 and 255, to be refused by the ordinary path."""
    return bool(((values != 0) & (values != MASK_NODATA)).any())
