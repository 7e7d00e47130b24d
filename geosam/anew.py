"""A part of a scene, looked at when it is asked about, with as much around it as the answer depends on.

What a click asks for is a small part of a scene: nothing here grows with the rest of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import dask
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geosam.durable import Draw, Lay, Learned, Lesson, Step, Tiling, everywhere
from geosam.grids import geobox_of
from geosam.kept import on_grid
from geosam.mosaic import blended
from geosam.tiles import TileGrid
from geosam.types import Window
from geosam.views import Around, Looks, covering


@dataclass(frozen=True)
class Anew:
    """Keeps nothing: what a part of the scene needs is done when that part is asked about.

    A :class:`geosam.durable.Keep` for few and small parts. For a whole scene it would do over and
    over what parts share.
    """

    around: Around
    """Looks at parts."""
    grid: GeoBox
    """The working grid of the whole scene."""
    asked: Sequence[Window] = ()
    """Parts of it that what is learned of the scene is learned from."""

    def raster(self, step: Step, name: str, margin: int = 0, on: str = "working") -> Step:
        """Return a step that does it with a margin around."""
        return partial(_widened, step=step, around=self.around, margin=margin, on=on)

    def mosaic(self, lay: Lay, tiling: Tiling, name: str) -> Step:
        """Return a step that answers the groups a part touches, their tiles whole."""
        blend = partial(_blended, lay=lay, on=tiling.on)
        return self.raster(blend, name, tiling.grid.size, tiling.on)

    def prompts(self, draw: Draw, grid: TileGrid, per_side: int, name: str) -> Draw:
        """Return what draws them."""
        return draw

    def hold(self, values: xr.DataArray, name: str) -> Step:
        """Return a step that gives what a part has of the values."""
        return partial(_held, values=values)

    def learn(self, lesson: Lesson, name: str) -> Learned:
        """Return what is concluded from the parts that are asked about alone; nothing without any.

        It is the same for all parts: what is followed from one to the next must not change its colour.
        """
        here = replace(lesson, windows=dict(enumerate(self.asked)))
        samples = [here.draw(window, self.around, self.grid) for window in self.asked]
        return partial(everywhere, concluded=lesson.conclude(dask.compute(*samples)))


def read_part(
    window: Window, around: Around, grid: GeoBox, bands: Sequence[str] | None = None
) -> np.ndarray:
    """Read a window of the model's grid, and no more of the scene than that.

    Parameters
    ----------
    window
        May overhang the scene.
    around
        Looks at parts.
    grid
        The model's grid of the whole scene.
    bands
        Which, in order; all without it.

    Returns
    -------
    numpy.ndarray
        (band, height, width) float32, NaN where nodata and beyond the scene; a single band of NaN
        where there is no data at all and `bands` is not given.
    """
    count = 1 if bands is None else len(bands)
    nothing = np.full((count, window.height, window.width), np.nan, np.float32)
    inside = window.intersection(Window(0, 0, *grid.shape))
    if inside is None:
        return nothing
    part = grid[inside.slices()]
    looks = around(part)
    if looks is None:
        return nothing
    seen = looks.working if bands is None else looks.working.sel(band=list(bands))
    place = covering(part, geobox_of(seen)).slices()
    pixels = np.asarray(seen[(..., *place)].values, np.float32)
    out = np.full((len(pixels), window.height, window.width), np.nan, np.float32)
    out[(..., *inside.slices(window))] = pixels
    return out


def _widened(looks: Looks, step: Step, around: Around, margin: int, on: str) -> xr.DataArray:
    """Do a step on a part and a margin around it, and return the part."""
    box = looks.grid(on)
    wide = around(box.pad(margin, margin)) or looks
    values = step(wide)
    return values[covering(box, geobox_of(values)).slices()]


def _blended(looks: Looks, lay: Lay, on: str) -> xr.DataArray:
    return on_grid(blended(lay(looks)), looks.grid(on))


def _held(looks: Looks, values: xr.DataArray) -> xr.DataArray:
    return values[covering(looks.grid(), geobox_of(values)).slices()]
