"""A whole scene small enough for memory, of all its pixels or of a sample of its blocks.

Percentiles and thresholds need to see all kinds of ground, and not every pixel. Where no overview is at
hand, looking at a scene of 50 GB would take minutes before anything begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dask
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geosam.errors import InputError
from geosam.raster.faults import Tell
from geosam.raster.reading import best_level
from geosam.raster.scene import is_void, load_pixels, read
from geosam.raster.sources import Source
from geosam.tasks import task
from geosam.types import Window

MOST_LOST = 0.1
"""Share of what is read that may be unreadable: a file cut short is refused, a damaged block is not."""
MOST_READ_PX = 1 << 27
"""Pixels that are read at most, about: some seconds of two cores."""
CELL_PX = 1024
"""Side of the cells that are sampled, on the scene's own grid."""


def preview(source: Source, max_px: int = 1024, *, whole: bool = False) -> xr.DataArray:
    """Return a scene decimated and in memory.

    Parameters
    ----------
    source : Source
        From :func:`inspect_scene`.
    max_px : int
        Longest side in pixels.
    whole : bool
        Whether every pixel is looked at, however many there are.

    Returns
    -------
    xarray.DataArray
        (band, y, x) float32 in memory, means of valid pixels, NaN where there are none. With the
        attribute ``sampled`` where the scene has no overviews and more pixels than
        :data:`MOST_READ_PX`: one cell of several is read then, and stands for those around it that hold
        anything. Pixels show what there is then, and not where.

    Raises
    ------
    InputError
        No pixel of the scene is valid, or more than a tenth of what is read cannot be.
    """
    height, width = source.geobox.shape
    step = max(1, -(-max(height, width) // max_px))
    grid = source.geobox if step == 1 else source.geobox.zoom_out(step)
    every = 1 if whole else int(np.ceil(np.sqrt(_pixels_read(source, step) / MOST_READ_PX)))
    lost: list[tuple[int, str]] = []

    def tell(part: GeoBox, reason: str) -> None:
        lost.append((part.shape[0] * part.shape[1], reason))

    lazy = read(source, geobox=grid, chunks=max(256, max_px // 2), tell=tell)
    if every > 1:
        values, looked_at = _sampled(source, grid, step, every, tell)
        if np.isfinite(values).any():
            _check_lost(lost, looked_at)
            return lazy.copy(data=values).assign_attrs(sampled=True)
        lost.clear()
    small = lazy.compute(scheduler="threads")
    _check_lost(lost, grid.shape[0] * grid.shape[1])
    if not np.isfinite(small.values).any():
        raise InputError(
            f"{source.paths[0]} has no valid pixel, all of it is nodata: "
            "check --nodata, --valid and the file's mask."
        )
    return small


def _check_lost(lost: Sequence[tuple[int, str]], looked_at: int) -> None:
    if sum(n for n, _ in lost) > MOST_LOST * looked_at:
        raise InputError(lost[0][1])


def _pixels_read(source: Source, step: int) -> int:
    """Return how many pixels of the files it takes to look at all of a grid that much coarser."""
    shapes = [part.level_geobox(best_level(part, step)).shape for part in source.parts]
    return sum(rows * cols for rows, cols in shapes)


def _sampled(
    source: Source, grid: GeoBox, step: int, every: int, tell: Tell
) -> tuple[np.ndarray, int]:
    """Return (band, y, x) float32 of a sample of cells, and how many of its pixels were read."""
    look = task(load_pixels, source=source, tell=tell)
    seen, near = [], []
    for number, cells in enumerate(_neighbours(source, grid, step, every)):
        stored = [cell for cell in cells if not is_void(source, _inner(source, cell, step))]
        if stored:
            seen.append(stored[int(np.random.default_rng(number).integers(len(stored)))])
            near.append(stored)
    tasks = [look(grid=grid[cell.slices()]) for cell in seen]
    found = dask.compute(tasks, scheduler="threads")[0]
    values = np.full((len(source.names.names), *grid.shape), np.nan, np.float32)
    for pixels, cells in zip(found, near, strict=True):
        for cell in cells:
            rows = np.arange(cell.height) % pixels.shape[1]
            cols = np.arange(cell.width) % pixels.shape[2]
            values[(..., *cell.slices())] = pixels[:, rows[:, None], cols]
    return values, sum(cell.height * cell.width for cell in seen)


def _neighbours(source: Source, grid: GeoBox, step: int, every: int) -> Iterator[list[Window]]:
    """Cut a grid into cells, and give them in squares of some by some, or some strips each."""
    height, width = grid.shape
    high = wide = max(1, CELL_PX // step)
    tall = every
    if any(part.file.block[1] > CELL_PX for part in source.parts):
        # Files in strips are read in whole rows, whatever is asked for.
        wide, tall = width, every**2
    for row in range(0, height, tall * high):
        for col in range(0, width, every * wide):
            yield [
                Window(r, c, min(high, height - r), min(wide, width - c))
                for r in range(row, min(row + tall * high, height), high)
                for c in range(col, min(col + every * wide, width), wide)
            ]


def _inner(source: Source, cell: Window, step: int) -> GeoBox:
    """Return the middle of a cell on the scene's own grid: a cell whose neighbour is stored may be void."""
    height, width = source.geobox.shape
    top, left = cell.row * step, cell.col * step
    bottom, right = min(cell.row_end * step, height), min(cell.col_end * step, width)
    row, col = (bottom - top) // 8, (right - left) // 8
    return source.geobox[top + row : bottom - row, left + col : right - col]
