"""A window of a raster as a task, also where it overhangs."""

from __future__ import annotations

import numpy as np
import xarray as xr
from dask.delayed import Delayed

from geosam.tasks import task
from geosam.types import Window


def read_window(raster: xr.DataArray, window: Window, fill: float = np.nan) -> Delayed:
    """Return a task that gives the pixels of a window of a raster.

    Parameters
    ----------
    raster
        (..., y, x), lazy or in memory.
    window
        May overhang the raster.
    fill
        Value where it overhangs.

    Returns
    -------
    Delayed
        Of an array (..., height, width) of the raster's dtype.
    """
    height, width = raster.shape[-2:]
    inside = window.intersection(Window(0, 0, height, width))
    lead = raster.shape[:-2]
    if inside is None:
        shape = (*lead, window.height, window.width)
        return task(np.full, shape=shape, fill_value=fill, dtype=raster.dtype)()
    return task(_place, inside=inside, window=window, fill=fill)(raster.data[(..., *inside.slices())])


def _place(pixels: np.ndarray, inside: Window, window: Window, fill: float) -> np.ndarray:
    if inside == window:
        return pixels
    out = np.full((*pixels.shape[:-2], window.height, window.width), fill, pixels.dtype)
    out[(..., *inside.slices(window))] = pixels
    return out
