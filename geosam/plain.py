"""Masks without a place on the ground: arrays, and pictures without georeference."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from rasterio.errors import RasterioIOError

from geosam.errors import InputError
from geosam.reader import open_reader
from geosam.scores import IGNORED
from geosam.strips import holds_one, is_mask, means_water, read_array, read_file, read_full

PICTURE_SUFFIXES = {
    ".png",
    ".tif",
    ".tiff",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".gif",
    ".vrt",
    ".img",
    ".jp2",
}
"""Files that are read as rasters."""


def is_plain(source: Any) -> bool:
    """Tell whether a source is an array, or a raster file without georeference."""
    if isinstance(source, np.ndarray):
        return True
    if not isinstance(source, (str, os.PathLike)):
        return False
    if Path(source).suffix.lower() not in PICTURE_SUFFIXES or not Path(source).is_file():
        return False
    with _opened(source) as file:
        return file.crs is None and file.transform.is_identity


def read_plain(source: Any, threshold: float, full_is_water: bool | None = None) -> np.ndarray:
    """Read a mask or a probability, wherever it lies.

    Parameters
    ----------
    source : numpy.ndarray or xarray.DataArray of shape (y, x), or path
        As :func:`geosam.strips.open_strips` takes them, georeferenced or not.
    threshold : float
        Probability above which a pixel is water.
    full_is_water : bool, optional
        Whether 255 is water in a mask file without a nodata value but 0; where not given, it is if
        the file holds only 0 and 255.

    Returns
    -------
    numpy.ndarray of shape (y, x), uint8
        1 water, 0 land, 255 ignored.

    Raises
    ------
    InputError
        It cannot be opened, has several bands, or holds other values.
    """
    if isinstance(source, (np.ndarray, xr.DataArray)):
        values = np.asarray(source)
        if values.ndim != 2:
            raise InputError(f"An array of shape {values.shape} is no mask: it needs two axes.")
        attributes = {} if isinstance(source, np.ndarray) else {**source.encoding, **source.attrs}
        mask, read = values.dtype.kind != "f", read_array(values, attributes, "The array")
    else:
        with _opened(source) as file:
            mask, read = _read(file, full_is_water)
    water = (read > (0.5 if mask else threshold)).astype(np.uint8)
    return np.where(np.isnan(read), np.uint8(IGNORED), water)


def full_means_water(sources: list[Any]) -> bool | None:
    """Tell from all masks of a set together what 255 is in them.

    A single file of 0 and 255 may be water and land, or land and unknown; if another one of the
    set holds a 1, it is unknown.

    Returns
    -------
    bool or None
        False if 255 is unknown; None if nothing tells.
    """
    files = [s for s in sources if isinstance(s, (str, os.PathLike))]
    rasters = [path for path in files if Path(path).suffix.lower() in PICTURE_SUFFIXES]
    return False if any(_file_holds_one(path) for path in rasters) else None


def _file_holds_one(path: Any) -> bool:
    with _opened(path) as file:
        mask = is_mask(file.dtypes[0], file.scales[0], file.offsets[0])
        return mask and file.count == 1 and holds_one(file)


def _read(file: rasterio.DatasetReader, full_is_water: bool | None) -> tuple[bool, np.ndarray]:
    """Return whether a file is a mask, and its values as float32, NaN where unknown."""
    if sum(colour.name != "alpha" for colour in file.colorinterp) != 1:
        raise InputError(f"{file.name} has {file.count} bands, and a mask has one.")
    mask = is_mask(file.dtypes[0], file.scales[0], file.offsets[0])
    full = means_water(file, full_is_water)
    return mask, read_full(file) if full else read_file(file)


@contextmanager
def _opened(path: Any) -> Iterator[rasterio.DatasetReader]:
    try:
        file = open_reader(path)
    except RasterioIOError as error:
        raise InputError(f"{path} cannot be opened as a raster: {error}.") from error
    with file:
        yield file
