"""Where the pixels of an example come from: files that the toolkit reads, or images in a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geosam.bands import infer_roles
from geosam.errors import InputError
from geosam.raster import Source, preview
from geosam.raster.reading import read_block
from geosam.raster.resample import axis_maps, weighted_means
from geosam.types import Window
from geosam.views import PREVIEW_PX


class Imagery(Protocol):
    """The pixels of one image or scene."""

    @property
    def key(self) -> str:
        """What tells it from other images: where it lies."""

    @property
    def geobox(self) -> GeoBox:
        """Its own grid; without CRS where it has no place on Earth."""

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of its bands."""

    def read(self, geobox: GeoBox) -> np.ndarray:
        """Return (band, y, x) float32 on a grid of the same axes, NaN where nodata or outside."""

    def preview(self) -> xr.DataArray:
        """Return the whole of it, decimated, (band, y, x) in memory, NaN where nodata."""


@dataclass(frozen=True)
class FileImagery:
    """Pixels of a scene, or of an image without a place on Earth, in files."""

    source: Source
    """The files, looked at and not read."""

    @property
    def key(self) -> str:
        """Its files."""
        return "; ".join(self.source.paths)

    @property
    def geobox(self) -> GeoBox:
        """Its own grid."""
        return self.source.geobox

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of its bands."""
        return self.source.names.names

    def read(self, geobox: GeoBox) -> np.ndarray:
        """Read as inference does: means where the grid is coarser, interpolated where it is finer."""
        return read_block(self.source.parts, len(self.roles), geobox, self.source.valid)

    def preview(self) -> xr.DataArray:
        """Read what inference takes its stretch from."""
        return preview(self.source, PREVIEW_PX)


@dataclass(frozen=True)
class RowImagery:
    """Pixels of an image in a row of a table, decoded when they are asked for."""

    rows: Any
    """A sequence of rows."""
    index: int
    """Which row."""
    key: str
    """The table and the row."""
    shape: tuple[int, int]
    """(height, width) in pixels."""
    roles: tuple[str, ...]
    """The names of its bands."""

    @property
    def geobox(self) -> GeoBox:
        """A grid that counts pixels from the upper left corner."""
        return GeoBox(self.shape, Affine.identity(), None)

    def read(self, geobox: GeoBox) -> np.ndarray:
        """Decode the image and bring the part that is asked for onto the grid."""
        values = bands_of(self.rows[self.index]["image"]).astype(np.float32)
        return regrid_array(values, self.geobox, geobox)[0]

    def preview(self) -> xr.DataArray:
        """Decode the image; decimate it where it is large."""
        step = max(1, -(-max(self.shape) // PREVIEW_PX))
        grid = self.geobox if step == 1 else self.geobox.zoom_out(step)
        coords = {"band": list(self.roles), **xr_coords(grid, always_yx=True)}
        return xr.DataArray(self.read(grid), coords=coords, dims=("band", "y", "x"))


def bands_of(image: Any) -> np.ndarray:
    """Return an image of a table as (band, y, x): a PIL image, or an array (y, x[, band]).

    Where a PIL image says which pixels are transparent, it is float32, and these are NaN.
    """
    if getattr(image, "has_transparency_data", False):
        values = np.moveaxis(np.asarray(image.convert("RGBA"), np.float32), -1, 0)
        return np.where(values[3] == 0, np.float32(np.nan), values[:3])
    if getattr(image, "mode", "") in ("P", "1", "CMYK", "YCbCr"):
        image = image.convert("RGB")
    values = np.asarray(image)
    return values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)


def row_image(rows: Any, index: int, table: str) -> np.ndarray:
    """Decode the image in a row; see :func:`bands_of`.

    Raises
    ------
    InputError
        The row holds no image.
    """
    image = rows[index].get("image")
    if image is None:
        raise InputError(f"{table}, row {index}: column image is empty. Remove the row.")
    return bands_of(image)


def row_imagery(rows: Any, index: int, table: str) -> RowImagery:
    """Look at the image in a row; its bands are red, green and blue unless it has four or more.

    Raises
    ------
    InputError
        The row holds no image.
    """
    values = row_image(rows, index, table)
    roles = infer_roles(len(values)) if len(values) > 2 else None
    names = roles.names if roles else tuple(f"band{i + 1}" for i in range(len(values)))
    height, width = values.shape[1:]
    return RowImagery(rows, index, f"{table}, row {index}", (height, width), names)


def regrid_array(
    values: np.ndarray, source: GeoBox, target: GeoBox
) -> tuple[np.ndarray, np.ndarray]:
    """Bring values onto a grid of the same axes.

    Parameters
    ----------
    values : numpy.ndarray, (band, y, x) float32
        On `source`, NaN where invalid.
    source, target : GeoBox
        Grids of one CRS, or of none.

    Returns
    -------
    means, coverage : numpy.ndarray, (band, y, x) float32 on `target`
        Means of the valid pixels, NaN where there are none; the share of each pixel that valid
        pixels cover.
    """
    maps = axis_maps(source, target)
    if maps is None:
        raise ValueError(f"The grids {source.crs} and {target.crs} do not have the same axes.")
    rows, cols = maps
    shape = (len(values), *target.shape)
    means, coverage = np.full(shape, np.nan, np.float32), np.zeros(shape, np.float32)
    (top, bottom), (left, right) = rows.inside(), cols.inside()
    if bottom <= top or right <= left:
        return means, coverage
    rows, cols = rows.part(top, bottom), cols.part(left, right)
    part = values[(slice(None), *(slice(*axis.reach()) for axis in (rows, cols)))]
    inside = (slice(None), slice(top, bottom), slice(left, right))
    means[inside], coverage[inside] = weighted_means(part, rows, cols)
    return means, coverage


def source_part(source: GeoBox, target: GeoBox) -> Window | None:
    """Return the pixels of `source` that a grid of the same axes is made from; None where it lies
    beside it.
    """
    maps = axis_maps(source, target)
    if maps is None:
        raise ValueError(f"The grids {source.crs} and {target.crs} do not have the same axes.")
    spans = []
    for axis in maps:
        first, last = axis.inside()
        if last <= first:
            return None
        spans.append(axis.part(first, last).reach())
    (top, bottom), (left, right) = spans
    return Window(top, left, bottom - top, right - left)
