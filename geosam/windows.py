"""Windows of a raster as tasks, also where they overhang it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from numpy.typing import DTypeLike

from geosam.tasks import task
from geosam.types import Window


@dataclass(frozen=True)
class Blocks:
    """The chunks of a raster as tasks.

    A Dask array that is handed to a task is first copied into a graph of its own, and what it is
    made of is computed anew for each copy. Its chunks are handed over as they are.
    """

    rows: np.ndarray
    """(n + 1,) first row of each chunk, and one past the last."""
    cols: np.ndarray
    """(m + 1,) the same of columns."""
    tasks: np.ndarray
    """(n, m) object: each gives an array (..., y, x)."""
    lead: tuple[int, ...]
    """Sizes of the axes before y and x."""
    dtype: np.dtype
    """Of the raster."""

    def window(self, i: int, j: int) -> Window:
        """Return the pixels of a chunk."""
        row, col = int(self.rows[i]), int(self.cols[j])
        return Window(row, col, int(self.rows[i + 1]) - row, int(self.cols[j + 1]) - col)


def blocks_of(raster: xr.DataArray | da.Array | np.ndarray) -> Blocks:
    """Return the chunks of a raster (..., y, x), lazy or in memory; all bands stay together."""
    data = raster.data if isinstance(raster, xr.DataArray) else raster
    if isinstance(data, np.ndarray):
        # Without a name: Dask would make one from every pixel.
        data = da.from_array(data, chunks=-1, name=False)
    lead = data.shape[:-2]
    data = data.rechunk(dict.fromkeys(range(len(lead)), -1))
    heights, widths = data.chunks[-2:]
    tasks = data.to_delayed(optimize_graph=False).reshape(len(heights), len(widths))
    rows, cols = (np.concatenate([[0], np.cumsum(sizes)]) for sizes in (heights, widths))
    return Blocks(rows, cols, tasks, lead, data.dtype)


def read_window(blocks: Blocks, window: Window, fill: float = np.nan) -> Delayed:
    """Return a task that gives the pixels of a window of a raster, which may not be written to.

    Parameters
    ----------
    blocks
        Of the raster.
    window
        May overhang the raster.
    fill
        Value where it overhangs.

    Returns
    -------
    Delayed
        Of an array (..., height, width) of the raster's dtype.
    """
    found = [
        (block, blocks.tasks[i, j])
        for i in _touched(blocks.rows, window.row, window.row_end)
        for j in _touched(blocks.cols, window.col, window.col_end)
        if (block := blocks.window(i, j)).intersection(window)
    ]
    shape = (*blocks.lead, window.height, window.width)
    windows = [block for block, _ in found]
    place = task(_place, windows=windows, window=window, shape=shape, dtype=blocks.dtype, fill=fill)
    return place([delayed for _, delayed in found])


def windows_of(
    raster: da.Array | np.ndarray, fill: float = np.nan
) -> Callable[[Window], Delayed | np.ndarray]:
    """Return what gives windows of a raster as :func:`read_window` does; of one in memory, their pixels."""
    if isinstance(raster, np.ndarray):
        return partial(_cut_window, pixels=raster, fill=fill)
    return partial(read_window, blocks_of(raster), fill=fill)


def _cut_window(window: Window, pixels: np.ndarray, fill: float) -> np.ndarray:
    whole = Window(0, 0, *pixels.shape[-2:])
    shape = (*pixels.shape[:-2], window.height, window.width)
    return _place([pixels], [whole], window, shape, pixels.dtype, fill)


def void_of(scene: xr.DataArray) -> da.Array:
    """Return where a scene (band, y, x) has no data in any band: (y, x) bool, lazily."""
    data = da.asarray(scene.data).rechunk({0: -1})
    return da.map_blocks(_all_nan, data, drop_axis=0, dtype=bool)


def void_look(scene: xr.DataArray) -> xr.DataArray:
    """Return the same with the coordinates of its grid."""
    void = scene.isel(band=0, drop=True).copy(data=void_of(scene))
    return void.rename("void")


def _all_nan(pixels: np.ndarray) -> np.ndarray:
    return np.isnan(pixels).all(axis=0)


def map_around(
    function: Callable[..., np.ndarray],
    rasters: Mapping[str, da.Array],
    fills: Mapping[str, float],
    margin: int,
    dtype: DTypeLike,
    **later: Delayed,
) -> da.Array:
    """Call a function with every chunk of some rasters and what lies around it.

    Unlike :func:`dask.array.map_overlap` it leaves no circles of references behind, in which the
    pixels of a piece of work would outlive it.

    Parameters
    ----------
    function
        Takes a window of each raster by name, and gives as many pixels.
    rasters
        (..., y, x) each, on one grid; the chunks of the first are those of the result.
    fills
        Values where a window overhangs a raster.
    margin
        Pixels around a chunk that are seen with it, and whose results are dropped.
    dtype
        Of what the function gives.
    **later
        Tasks that give further arguments, the same for every chunk.

    Returns
    -------
    dask.array.Array
        (y, x).
    """
    layers = {name: blocks_of(raster) for name, raster in rasters.items()}
    inside = task(_call_inside, function=function, margin=margin)

    def block(window: Window) -> da.Array:
        wide = window.grown(margin)
        seen = {name: read_window(layer, wide, fills[name]) for name, layer in layers.items()}
        return da.from_delayed(inside(**seen, **later), (window.height, window.width), dtype)

    first = next(iter(layers.values()))
    n_rows, n_cols = first.tasks.shape
    return da.block([[block(first.window(i, j)) for j in range(n_cols)] for i in range(n_rows)])


def _call_inside(function: Callable[..., np.ndarray], margin: int, **seen: Any) -> np.ndarray:
    found = function(**seen)
    height, width = found.shape
    return found[margin : height - margin, margin : width - margin]


def _touched(starts: np.ndarray, first: int, end: int) -> range:
    low = int(np.searchsorted(starts, first, side="right")) - 1
    high = int(np.searchsorted(starts, end, side="left"))
    return range(max(0, low), min(len(starts) - 1, high))


def _place(
    pixels: Sequence[np.ndarray],
    windows: Sequence[Window],
    window: Window,
    shape: tuple[int, ...],
    dtype: np.dtype,
    fill: float,
) -> np.ndarray:
    if list(windows) == [window]:
        return pixels[0]
    out = np.full(shape, fill, dtype)
    for block, values in zip(windows, pixels, strict=True):
        common = block.intersection(window)
        assert common is not None
        out[(..., *common.slices(window))] = values[(..., *common.slices(block))]
    return out
