"""Values on the model's grid -> values on the scene's own grid, chunk by chunk."""

from __future__ import annotations

from itertools import pairwise

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geosam.grids import geobox_of
from geosam.tasks import task
from geosam.tiles import anchor
from geosam.types import Window
from geosam.windows import Blocks, blocks_of, read_window


def onto_scene(values: xr.DataArray, void: xr.DataArray) -> xr.DataArray:
    """Bring values from the model's grid onto the scene's, lazily.

    From a coarser grid bilinearly, from a finer one by the mean, in both cases of the values that
    are there.

    Parameters
    ----------
    values
        (y, x) float on a grid of :func:`geosam.tiles.zoom`, NaN where unknown.
    void
        (y, x) bool on the scene's grid: where it has no data in any band. Its chunks are the chunks of the
        result.

    Returns
    -------
    DataArray (y, x) float32 on the scene's grid, NaN where the scene has no data in any band.
    """
    geobox = geobox_of(void)
    empty, known = blocks_of(void), blocks_of(values)
    factor = _factor(geobox_of(values), geobox)
    row, col = (start % max(1, round(factor)) for start in anchor(geobox))
    lead = (row, col) if factor > 1 else (0, 0)
    blocks = [
        [_block(known, empty, window, factor, lead) for window in row] for row in _windows(empty)
    ]
    return xr.DataArray(da.block(blocks), dims=void.dims, coords=void.coords)


def _factor(coarse: GeoBox, fine: GeoBox) -> float:
    ratio = abs(coarse.affine.determinant / fine.affine.determinant) ** 0.5
    return float(round(ratio)) if ratio >= 1 else 1 / round(1 / ratio)


def _windows(blocks: Blocks) -> list[list[Window]]:
    return [
        [
            Window(int(r), int(c), int(r_end - r), int(c_end - c))
            for c, c_end in pairwise(blocks.cols)
        ]
        for r, r_end in pairwise(blocks.rows)
    ]


def _block(
    values: Blocks, empty: Blocks, window: Window, factor: float, lead: tuple[int, int]
) -> da.Array:
    source = _source_window(window, factor, lead)
    resample = task(_resample, source=source, window=window, factor=factor, lead=lead)
    block = resample(read_window(values, source), read_window(empty, window, True))
    return da.from_delayed(block, (window.height, window.width), np.float32)


def _source_window(window: Window, factor: float, lead: tuple[int, int]) -> Window:
    """Return the window of the model's grid under a window of the scene, a pixel wider where
    values are interpolated.
    """
    if factor <= 1:
        m = round(1 / factor)
        return Window(window.row * m, window.col * m, window.height * m, window.width * m)
    k = round(factor)
    row, col = (window.row + lead[0]) // k - 1, (window.col + lead[1]) // k - 1
    row_end = (window.row_end + lead[0] - 1) // k + 2
    col_end = (window.col_end + lead[1] - 1) // k + 2
    return Window(row, col, row_end - row, col_end - col)


def _resample(
    values: np.ndarray,
    void: np.ndarray,
    source: Window,
    window: Window,
    factor: float,
    lead: tuple[int, int],
) -> np.ndarray:
    def bring(plane: np.ndarray) -> np.ndarray:
        if factor < 1:
            return _means(plane, round(1 / factor))
        if factor == 1:
            return plane
        rows = _positions(window.row, window.height, source.row, lead[0], factor)
        cols = _positions(window.col, window.width, source.col, lead[1], factor)
        return _between(_between(plane, rows, axis=0), cols, axis=1)

    known = np.isfinite(values)
    if known.all():
        return np.where(void, np.float32(np.nan), bring(values))
    total, weight = (bring(p.astype(np.float32)) for p in (np.where(known, values, 0), known))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((weight > 0) & ~void, total / weight, np.float32(np.nan))


def _means(plane: np.ndarray, m: int) -> np.ndarray:
    height, width = plane.shape
    return plane.reshape(height // m, m, width // m, m).mean(axis=(1, 3))


def _positions(start: int, count: int, source: int, lead: int, factor: float) -> np.ndarray:
    """Return where the centres of the scene's pixels lie, counted from the centre of the first
    value.
    """
    return (np.arange(start, start + count) + 0.5 + lead) / factor - 0.5 - source


def _between(plane: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    """Interpolate linearly along an axis."""
    low = np.floor(at).astype(int)
    share = (at - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(2)])
    lower, upper = np.take(plane, low, axis), np.take(plane, low + 1, axis)
    lower *= 1 - share
    upper *= share
    lower += upper
    return lower
