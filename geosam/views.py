"""A scene as the steps need it: on its own grid, on the model's grid, and as a small preview."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geosam.errors import InputError
from geosam.grids import geobox_if_any, geobox_of
from geosam.ground import resolution_m
from geosam.raster import Source, Tell, coarsen, is_void, preview, read, read_void
from geosam.tiles import zoom, zoom_factor
from geosam.types import Window
from geosam.windows import void_look

PREVIEW_PX = 1024
"""Longest side of the decimated read that stretch and threshold are taken from."""
_SLACK_PX = 1e-3
"""What rounding may add to a position."""


@dataclass(frozen=True)
class Looks:
    """Looks at a scene or a part of it, each (band, y, x) float32 with NaN where nodata.

    Each is laid out when it is first asked for: a step may need none but the grids.
    """

    lay: Callable[[str], xr.DataArray]
    """Lays out a look by its name."""
    grids: Mapping[str, GeoBox]
    """The grids of the three that have pixels."""

    @cached_property
    def scene(self) -> xr.DataArray:
        """On the scene's own grid, lazy."""
        return self.lay("scene")

    @cached_property
    def working(self) -> xr.DataArray:
        """On the grid the model sees, lazy. Its origin is snapped to that of the CRS, so it may begin
        less than one of its pixels before the scene.
        """
        return self.scene if self.grid() == self.grid("scene") else self.lay("working")

    @cached_property
    def void(self) -> xr.DataArray:
        """Where the scene has no data in any band, on its own grid: (y, x) bool, lazy. Of files whose masks tell
        it, pixels are not read.
        """
        return self.lay("void")

    @cached_property
    def wider(self) -> xr.DataArray:
        """At half the resolution of `working`, lazy: more context for the coarse network."""
        return self.lay("wider")

    def grid(self, on: str = "working") -> GeoBox:
        """Return the grid of one of the looks."""
        return self.grids[on]

    @property
    def is_refined(self) -> bool:
        """Whether the model sees the scene finer than it is."""
        return bool(self.grid().shape[-1] > self.grid("scene").shape[-1])

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of the bands."""
        return tuple(str(name) for name in self.scene.band.values)


Around = Callable[[GeoBox], Looks | None]
"""A part of any of a scene's grids -> looks that cover it, None where it is known to have no data."""


@dataclass(frozen=True)
class Views(Looks):
    """A whole scene, and how any part of it is looked at."""

    preview: xr.DataArray
    """The whole scene, decimated, in memory, whatever part `scene` covers; of a very large one a sample,
    see :func:`geosam.raster.preview`."""
    around: Around
    """Looks at parts. It holds neither pixels nor graphs, so that it can be sent to a worker."""

    @property
    def is_8bit(self) -> bool:
        """Whether the scene is stored in 8 bits, without a scale."""
        return self.preview.attrs.get("stored") == "uint8"


def view_source(
    source: Source,
    wanted_m: float | None = None,
    part: GeoBox | None = None,
    chunks: int = 1024,
    tell: Tell | None = None,
) -> Views:
    """Look at a scene in a file.

    Parameters
    ----------
    source
        From :func:`geosam.raster.inspect_scene`.
    wanted_m
        Ground resolution of the working grid in metres; from the scene without it.
    part
        A part of the scene's grid to look at; the preview is of the whole all the same.
    chunks
        Rows and columns of a Dask chunk.
    tell
        Is called with every part that cannot be read when pixels are computed.
    """
    native = part or source.geobox
    factor = zoom_factor(pixel_m(native), wanted_m)
    whole = _look(source, native, factor, tell, chunks)
    around = partial(_around_source, source=source, native=native, factor=factor, tell=tell)
    return Views(whole.lay, whole.grids, preview(source, PREVIEW_PX), around)


def _look(
    source: Source, native: GeoBox, factor: float, tell: Tell | None, chunks: int = -1
) -> Looks:
    working = native if factor == 1 else zoom(native, factor)
    grids = {"scene": native, "working": working, "wider": zoom(working, 2)}
    lay = partial(_lay_file, source=source, grids=grids, chunks=chunks, tell=tell)
    return Looks(lay, grids)


def _lay_file(
    name: str, source: Source, grids: Mapping[str, GeoBox], chunks: int, tell: Tell | None
) -> xr.DataArray:
    if name == "void":
        return read_void(source, geobox=grids["scene"], chunks=chunks, tell=tell)
    return read(source, geobox=grids[name], chunks=chunks, tell=tell)


def _around_source(
    part: GeoBox, source: Source, native: GeoBox, factor: float, tell: Tell | None
) -> Looks | None:
    """Look at a part anew: what is read is the part, and not the chunks of the whole it lies in."""
    near = native[covering(part, native).slices()]
    return None if is_void(source, near) else _look(source, near, factor, tell)


def covering(part: GeoBox, whole: GeoBox) -> Window:
    """Return the pixels of a grid that a part of another grid of the same axes touches."""
    to_whole = ~whole.affine @ part.affine
    height, width = part.shape
    low, high = to_whole @ (0, 0), to_whole @ (width, height)
    (left, top), (right, bottom) = (
        [
            min(max(round_to(v + slack), 0), side)
            for v, side in zip(at, whole.shape[::-1], strict=True)
        ]
        for at, slack, round_to in ((low, _SLACK_PX, math.floor), (high, -_SLACK_PX, math.ceil))
    )
    return Window(top, left, bottom - top, right - left)


def view_array(scene: xr.DataArray, wanted_m: float | None = None) -> Views:
    """Look at a scene that is an array already.

    Raises
    ------
    InputError
        If it has no CRS or band names.
    """
    scene = scene if scene.dtype.kind == "f" else scene.astype("float32")
    geobox = geobox_if_any(scene)
    if geobox is None or geobox.crs is None:
        raise InputError(
            "The scene has no CRS. Assign one, for example scene.odc.assign_crs('EPSG:32633')."
        )
    if "band" not in scene.coords:
        raise InputError(
            "The scene has no band names. Assign roles, for example scene.assign_coords(band=['red', 'green', 'blue'])."
        )
    factor = zoom_factor(pixel_m(geobox), wanted_m)
    step = max(1, -(-max(geobox.shape) // PREVIEW_PX))
    small = scene[:, ::step, ::step].compute()
    whole = look_at_arrays(scene, _regrid(scene, geobox, factor))
    return Views(whole.lay, whole.grids, small, partial(around_array, whole=whole))


def look_at_arrays(scene: xr.DataArray, working: xr.DataArray) -> Looks:
    """Look at arrays that are there, on a scene's own grid and on the model's."""
    grid = geobox_of(working)
    grids = {"scene": geobox_of(scene), "working": grid, "wider": zoom(grid, 2)}
    return Looks(partial(_lay_array, scene=scene, working=working), grids)


def _lay_array(name: str, scene: xr.DataArray, working: xr.DataArray) -> xr.DataArray:
    if name == "wider":
        return coarsen(working, 2)
    if name == "void":
        return void_look(scene)
    return working if name == "working" else scene


def around_array(part: GeoBox, whole: Looks) -> Looks:
    """Cut a part out of the looks at the whole, whole pixels of the scene as a file is read."""
    native = whole.grid("scene")
    near = native[covering(part, native).slices()]
    places = {name: covering(near, grid).slices() for name, grid in whole.grids.items()}
    grids = {name: whole.grid(name)[place] for name, place in places.items()}
    return Looks(partial(_cut_look, whole=whole, places=places), grids)


def _cut_look(name: str, whole: Looks, places: Mapping[str, tuple[slice, slice]]) -> xr.DataArray:
    view: xr.DataArray = getattr(whole, name)
    return view[(..., *places["scene" if name == "void" else name])]


def pixel_m(geobox: GeoBox) -> float:
    """Return the side of a pixel on the ground in metres, the geometric mean of its two."""
    return float(np.sqrt(np.prod(resolution_m(geobox))))


def _regrid(scene: xr.DataArray, geobox: GeoBox, factor: float) -> xr.DataArray:
    if factor == 1:
        return scene
    if factor > 1:
        return coarsen(scene, round(factor))
    return refine(scene, zoom(geobox, factor))


def refine(values: xr.DataArray, geobox: GeoBox) -> xr.DataArray:
    """Repeat each pixel of (..., y, x) on a finer grid of :func:`geosam.tiles.zoom`, lazily: what was
    measured, where a smooth view would be made up.
    """
    finer = geobox.shape[0] // values.shape[-2]
    data = np.repeat(np.repeat(values.data, finer, axis=-2), finer, axis=-1)
    kept = {name: c for name, c in values.coords.items() if name == "band" and c.ndim}
    coords: dict[Any, Any] = dict(xr_coords(geobox, always_yx=True)) | kept
    return xr.DataArray(data, coords=coords, dims=values.dims, attrs=values.attrs)
