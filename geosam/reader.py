"""Rasters opened to be read, on a map or not."""

from __future__ import annotations

import os
from typing import Any

import rasterio
from rasterio.env import ensure_env_with_credentials


class _Reader(rasterio.DatasetReader):
    """A dataset that does not warn where it has no place on Earth.

    A filter of warnings would not do: all threads share one list of them, and what one puts back
    another has lost.
    """

    def _has_gcps_or_rpcs(self) -> bool:
        # rasterio asks this before it warns, and nowhere else.
        return True


@ensure_env_with_credentials
def open_reader(path: str | os.PathLike, **options: Any) -> rasterio.DatasetReader:
    """Open a raster as :func:`rasterio.open` does, without its warning about pixel coordinates.

    Where a place on Earth is needed, whoever opens the file checks for it and says so.

    Parameters
    ----------
    path
        Path or GDAL URI.
    **options
        Open options of GDAL, such as `overview_level`.

    Raises
    ------
    rasterio.errors.RasterioIOError
        GDAL cannot open it.
    """
    return _Reader(os.fspath(path), **options)
